"""Runs that were interrupted or lost a worker go on from what is finished; the command from end to end."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from benchmark_utils.report.progress import Board, Display

INTERRUPTED = '''
    from pathlib import Path
    from benchopt import BaseSolver

    class Solver(BaseSolver):
        """Stops the whole command once, as Ctrl-C would."""

        name = "zz-interrupted"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            pass

        def run(self, _):
            marker = Path(__file__).with_suffix(".once")
            if not marker.exists():
                marker.touch()
                raise KeyboardInterrupt
            raise RuntimeError("the second time it merely fails")

        def get_result(self):
            return {}
'''

KILLED = '''
    import os
    import time
    from pathlib import Path
    from benchopt import BaseSolver

    class Solver(BaseSolver):
        """Takes its process with it, as the system does when memory runs out."""

        name = "zz-killed"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            pass

        def run(self, _):
            cache, end = Path(__file__).parents[1] / "__cache__", time.monotonic() + 300
            while not list(cache.rglob("run_one_to_cvg/*/output.pkl")) and time.monotonic() < end:
                time.sleep(0.1)  # let the other worker finish its run
            os._exit(1)

        def get_result(self):
            return {}
'''


def test_an_interrupted_run_goes_on_where_it_stopped(tiny):
    tiny.add_noisy()
    tiny.add("solvers/zz_interrupted.py", INTERRUPTED)
    assert tiny.run() == 130
    assert len(tiny.executions()) == 1
    assert not (tiny.output / "rows.parquet").exists()

    assert tiny.run() == 1
    assert sorted(tiny.executions()) == ["noisy[sd=0.01] tiny 0", "noisy[sd=0.01] tiny 1"]
    rows = pd.read_parquet(tiny.output / "rows.parquet")
    assert list(rows["status"]) == ["done", "done", "failed", "failed"]

    # Nothing is left to do for what is done, and its row is the same one; what failed is tried again.
    assert tiny.run() == 1
    assert len(tiny.executions()) == 2
    pd.testing.assert_frame_equal(pd.read_parquet(tiny.output / "rows.parquet"), rows)


@pytest.mark.parametrize("ended", [0, 1])
def test_an_interruption_is_no_run_that_ended(ended):
    text = io.StringIO()
    with Board(Console(file=text, width=100), n_runs=2) as board:
        display = Display(board, None, False)
        for number in range(ended):
            display.set(dataset=f"tiny[seed={number}]", solver="noisy")
            display.show_status("done")
        with pytest.raises(KeyboardInterrupt):
            display.show_status("interrupted")
    assert board.outcomes == []
    assert text.getvalue().count("noisy: finished") == ended
    assert "interrupted" not in text.getvalue()


@pytest.mark.slow
def test_a_worker_that_dies_costs_only_what_was_not_finished(tiny):
    tiny.add("solvers/zz_killed.py", KILLED)
    tiny.add_noisy()
    assert tiny.run("--jobs", "2") == 1
    rows = pd.read_parquet(tiny.output / "rows.parquet").set_index(["method", "seed"])
    assert set(rows.loc["zz-killed", "status"]) == {"failed"}
    assert rows.loc["zz-killed", "reason"].str.contains("a worker process died").all()
    assert rows.loc[("noisy", 0), "status"] == "done"
    assert "what is finished is kept" in tiny.printed

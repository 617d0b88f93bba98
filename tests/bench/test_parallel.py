"""Runs shared among workers of dask and submitit: the rows of a serial run, whatever dies on the way."""

import pandas as pd
import pytest

TIMES = ["timing", "map_s", "fit_s", "predict_s", "peak_mib", "peak_rise_mib"]

DASK = "backend: dask\nn_jobs: 2\n"

# Takes its worker with it: on seed 0 the first time only, on seed 1 each time.
DIES = '''
    import os
    from pathlib import Path
    from benchopt import BaseSolver
    from benchmark_utils.prediction import Prediction
    import torch

    class Solver(BaseSolver):
        """Kills its own worker process."""

        name = "aa-dies"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            self.task = task

        def run(self, _):
            deaths = Path(__file__).parents[1] / f"deaths-{self.task.seed}.txt"
            if self.task.seed == 1 or not deaths.exists():
                with open(deaths, "a") as file:
                    print(os.getpid(), file=file)
                os.kill(os.getpid(), 9)

        def get_result(self):
            def predict(x):
                mean = torch.zeros(1, len(x), dtype=torch.float64)
                return Prediction(mean=mean, variance=torch.ones_like(mean))

            return dict(predict=predict, sample_weights=lambda n: None, cost={}, info={})
'''


@pytest.fixture
def parallel(tiny, tmp_path):
    """Write a parallel configuration and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "parallel.yml"
        path.write_text(text)
        return str(path)

    return write


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=TIMES)


@pytest.mark.slow
def test_dask_gives_the_rows_of_a_serial_run(tiny, parallel):
    tiny.add_noisy("walk", sds=(0.01, 0.1))
    assert tiny.run("--parallel-config", parallel(DASK)) == 0
    shared = pd.read_parquet(tiny.output / "rows.parquet")
    assert set(shared["timing"]) == {"shared: dask, 2 workers"}
    assert "shared: dask, 2 workers" in (tiny.output / "table.md").read_text()
    # Whichever worker trained the MAP, all methods of a seed have it and its price.
    assert (shared.groupby("seed")["map_s"].nunique() == 1).all()
    assert len(tiny.executions()) == 4

    tiny.forget()
    assert tiny.run() == 0
    serial = pd.read_parquet(tiny.output / "rows.parquet")
    assert set(serial["timing"]) == {"one process"}
    pd.testing.assert_frame_equal(without_times(shared), without_times(serial))
    assert len(tiny.executions()) == 8


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_costs_no_finished_run_and_its_own_is_run_again(tiny, parallel, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")  # three, by default
    tiny.add("solvers/aa_dies.py", DIES)
    tiny.add_noisy(sds=(0.01, 0.1))
    assert tiny.run("--parallel-config", parallel(DASK)) == 1
    rows = pd.read_parquet(tiny.output / "rows.parquet").set_index(["method", "settings", "seed"])
    assert list(rows["status"]) == ["done", "failed", "done", "done", "done", "done"]
    assert rows.loc[("aa-dies", "", 1), "reason"] == "2 worker processes died of this run, for lack of memory perhaps"
    assert len((tiny.folder / "deaths-0.txt").read_text().splitlines()) == 1
    assert len((tiny.folder / "deaths-1.txt").read_text().splitlines()) == 2
    assert len(tiny.executions()) == len(set(tiny.executions())) == 4
    assert "Traceback" not in tiny.said
    assert tiny.left_over() == []

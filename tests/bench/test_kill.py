"""A command that is killed at random moments: the same command ends with the rows of one that was left alone.

FIBERBNN_KILLS sets how often it is killed; each time costs the start of a process.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark_utils.report.rows import KEY

KILLS = int(os.environ.get("FIBERBNN_KILLS", "2"))
DIFFER = ["map_s", "fit_s", "predict_s", "peak_mib", "peak_rise_mib", "timing", "commit"]
PATIENCE_S = 900


def start(tiny, *arguments: str) -> subprocess.Popen:
    """Start the command in a process group of its own."""
    with (tiny.folder / "said.txt").open("w") as said:
        return subprocess.Popen(
            [sys.executable, *tiny.command(*arguments)], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )


def seconds_at_work(tiny, process: subprocess.Popen) -> float:
    """Wait until the command holds its results folder, then until it ends, and return the seconds between."""
    began = wait_for_work(tiny, process)
    assert process.wait(PATIENCE_S) == 0
    return time.monotonic() - began


def wait_for_work(tiny, process: subprocess.Popen) -> float:
    """Wait until the command holds its results folder; return when that was."""
    lock, before = str(tiny.output / ".part" / "lock"), time.monotonic()
    opened = Path(f"/proc/{process.pid}/fd")
    while not any(target == lock for target in map(link_of, opened.iterdir())):
        assert process.poll() is None, (tiny.folder / "said.txt").read_text()
        assert time.monotonic() < before + PATIENCE_S
        time.sleep(0.01)
    return time.monotonic()


def link_of(path: Path) -> str:
    """What an open file is; "" if it has been closed again."""
    try:
        return str(path.readlink())
    except OSError:
        return ""


def assert_whole(tiny) -> None:
    """Every file in the results folder is whole; what is not lies in its hidden folder."""
    for path in tiny.output.glob("*"):
        if path.suffix == ".parquet":
            rows = pd.read_parquet(path)
            assert not rows.duplicated(KEY).any()
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                assert all(arrays[name] is not None for name in arrays)
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        else:
            assert path.name in (".part", "table.md", "targets.md")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_command_that_is_killed_again_and_again_ends_with_the_rows_of_one_that_was_not(tiny, plane):
    tiny.add("datasets/plane.py", plane)
    tiny.add_noisy("walk", sds=(0.01, 0.02, 0.05, 0.1))
    undisturbed = seconds_at_work(tiny, start(tiny))
    expected = pd.read_parquet(tiny.output / "rows.parquet")
    assert len(expected) == 3 * 4
    tiny.forget()

    seed = random.randrange(10**6)
    dice, kills, log = random.Random(seed), 0, []
    while kills < KILLS:
        workers = ("--jobs", "2") if dice.random() < 0.2 else ()
        process = start(tiny, *workers)
        began = wait_for_work(tiny, process)
        moment = dice.uniform(0, undisturbed * (2 if workers else 1))
        try:
            process.wait(began + moment - time.monotonic())
            log.append(("ended", process.returncode))
            assert process.returncode == 0, (tiny.folder / "said.txt").read_text()
            tiny.forget()
            undisturbed *= 0.8  # the machine has become faster
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            log.append((f"killed after {moment:.2f} s", len(tiny.executions())))
        assert_whole(tiny)
    print(json.dumps({"seed": seed, "seconds": undisturbed, "log": log}))  # for whoever reads why it failed

    assert tiny.run() == 0
    assert "Traceback" not in tiny.said
    assert_whole(tiny)
    rows = pd.read_parquet(tiny.output / "rows.parquet")
    assert not rows.duplicated(KEY).any()
    pd.testing.assert_frame_equal(rows.drop(columns=DIFFER), expected.drop(columns=DIFFER))
    assert tiny.left_over() == []

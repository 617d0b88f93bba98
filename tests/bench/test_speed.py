"""The table of the speed suite, and that the suite runs on what the machine has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.speed.ratios import table

ROOT = Path(__file__).resolve().parents[2]


def row(group: str, name: str, median: float) -> dict:
    return {"group": group, "name": name, "stats": {"median": median, "iqr": 0.001, "rounds": 7}}


def test_each_method_is_set_against_ours_in_its_group():
    text = table([row("b", "loop", 0.3), row("a", "fiberbnn", 0.01), row("b", "fiberbnn", 0.1), row("c", "loop", 1.0)])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        ("a", "fiberbnn", "1.00"), ("b", "loop", "3.00"), ("b", "fiberbnn", "1.00"), ("c", "loop", "-"),
    ]  # fmt: skip
    assert lines[1][2:5] == ["300", "1", "7"]


@pytest.mark.slow
def test_the_suite_runs_and_writes_its_table(tmp_path):
    command = [
        sys.executable, "-m", "pytest", "bench/speed", "-q", "-p", "no:cacheprovider", "-o", "python_files=bench_*.py",
        "--benchmark-max-time=0.01", "--benchmark-min-rounds=1", "-k", "16 or step or 14-50-2",
        f"--table={tmp_path}/speed/table.md", f"--benchmark-json={tmp_path}/times.json", "--device=cpu",
    ]  # fmt: skip
    # Timings are off in the workers of pytest-xdist, which this process may be and the next is not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = (tmp_path / "speed" / "table.md").read_text()
    assert "| gradients 14-50-2, 16 particles | vmap(grad) |" in written
    assert "| predictive 14-50-2, 1000 samples, 1000 rows | loop |" in written

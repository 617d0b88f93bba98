"""Runs of the speed suite, and of the script for a GPU machine: what they write, and what they do not."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bench.speed.gpu_parts import parts
from bench.speed.gpu_record import page as gpu_page
from bench.speed.table import page

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
    # Timings are off in the workers of pytest-xdist, which this process may be and the next is not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def suite(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess:
    fixed = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "python_files=bench_*.py", "--benchmark-quiet")
    chosen = ("--seconds=0.01", f"--results={folder}", "--device=cpu", "--clock=process")
    return run(*fixed, *chosen, *options, **variables)


@pytest.mark.slow
def test_only_a_run_of_the_whole_suite_replaces_its_results(tmp_path):
    """A suite of two files, with the hooks of ours."""
    folder, results = tmp_path / "suite", tmp_path / "results"
    folder.mkdir()
    shutil.copy(ROOT / "bench" / "speed" / "conftest.py", folder)
    for name in ("a", "b"):
        (folder / f"bench_{name}.py").write_text(
            "from bench.speed.ceilings import Work\n"
            f"def test_{name}(measure): measure('{name}', 'fiberbnn', lambda: 1, Work(8), lambda found: None)\n"
            "def test_other(measure): measure('other', 'loop', lambda: 1, Work(8), lambda found: None)\n"
        )
    (tmp_path / "stops.py").write_text(
        "def pytest_runtest_logreport(report):\n    if report.when == 'teardown': raise KeyboardInterrupt\n"
    )
    (tmp_path / "cheap.py").write_text(
        "from bench.speed.ceilings import Ceilings\n"
        "Ceilings.floor = lambda self, work: (1e-9, 'copy')\n"
        "measured = {'copy_gb_per_s': {'65536': 1.0}, 'product_gflop_per_s': {'float32': 1.0}}\n"
        "Ceilings.as_dict = lambda self: measured\n"
    )
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", tmp_path)))

    def saying(*options: str) -> str:
        done = suite(results, *options, "-p", "cheap", "--rootdir", str(folder), PYTHONPATH=paths)
        assert " passed" in done.stdout, done.stdout + done.stderr
        return next((line for line in done.stdout.splitlines() if "as they were" in line), "")

    assert saying(str(folder)) == ""
    written = sorted(path.name for path in results.iterdir())
    assert written == ["cpu.json", "cpu.md"]
    assert len(json.loads((results / "cpu.json").read_text())["rows"]) == 4
    before = [(results / name).read_bytes() for name in written]
    for options, words in (
        ((str(folder), "-k", "other"), "2 benchmarks deselected"),
        ((str(folder / "bench_a.py"),), "without bench_b.py"),
        ((str(folder / "bench_a.py"), f"{folder / 'bench_b.py'}::test_b", "--deselect", "bench_a.py::test_a"), "some"),
        ((str(folder), "-p", "stops"), "stopped with 3 to run"),
    ):
        assert words in saying(*options)
        assert [(results / name).read_bytes() for name in written] == before
        partial = json.loads((results / "cpu-partial.json").read_text())
        assert 0 < len(partial["rows"]) < 4
        (results / "cpu-partial.json").unlink()


@pytest.mark.slow
def test_a_wrong_result_gets_no_time(tmp_path):
    """One operation is off by a thousandth: its row is missing, the baseline's is there, and the run has failed."""
    (tmp_path / "planted.py").write_text(
        "from fiberbnn_kernels.linear_act import reference\n"
        "right = reference.linear_act\n"
        "def wrong(x, *rest):\n"
        "    return right(x, *rest) * (1.001 if x.dtype.itemsize == 4 else 1.0)\n"
        "reference.linear_act = wrong\n"
    )
    options = ("bench/speed/bench_linear_act.py", "--small", "-k", "fiberbnn or eager", "-p", "planted")
    paths = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "kernels")))
    done = suite(tmp_path, *options, PYTHONPATH=paths)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "outputs is 0.001 of its length away from the definition" in done.stdout
    record = json.loads((tmp_path / "cpu-partial.json").read_text())
    assert [found["method"] for found in record["rows"]] == ["eager"]
    assert {"name": "test_linear_act[0-fiberbnn]", "reason": "failed"} in record["missing"]
    written = (tmp_path / "cpu-partial.md").read_text()
    assert "| fiberbnn |" not in written + done.stdout
    assert "Failed, and so without a time: test_linear_act[0-fiberbnn]" in written


@pytest.mark.slow
def test_the_suite_runs_and_writes_its_record(tmp_path):
    (tmp_path / "cpu.json").write_text("of the whole suite")
    done = suite(tmp_path, "bench/speed", "--small", "-k", "not compiled")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "cpu-partial.json").read_text())
    assert (tmp_path / "cpu-partial.md").read_text() == page(record)
    assert (tmp_path / "cpu.json").read_text() == "of the whole suite"
    assert not (tmp_path / "cpu.md").exists()
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("cpu.json and .md are as they were"))
    assert "only the first sizes; " in said
    assert "benchmarks deselected" in said
    assert "without" not in said
    assert (record["machine"]["device"], record["machine"]["clock"]) == ("cpu", "process")
    # Every benchmark of ours, and something that it is set against.
    groups = {found["group"] for found in record["rows"]}
    for group in groups:
        methods = {found["method"] for found in record["rows"] if found["group"] == group}
        assert "fiberbnn" in methods
        assert len(methods) > 1, group
    assert len(groups) == len(list((ROOT / "bench" / "speed").glob("bench_*.py"))) + 4
    for found in record["rows"]:
        assert 0 < found["floor_s"] < 3 * found["median_s"], found
    assert not {found["reason"] for found in record["missing"]} & {"failed"}
    assert str(ROOT) not in json.dumps(record)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_a_dry_run_of_the_script_for_a_gpu(tmp_path):
    done = run("bench/speed/gpu.py", "--out", str(tmp_path), "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert [part["name"] for part in record["parts"]] == [part.name for part in parts(dry_run=False)]
    outcomes = [part["outcome"] for part in record["parts"]]
    assert outcomes[:4] == ["passed"] * 4
    kernels, speed, bits, fit, _ = record["parts"]
    assert {test["outcome"] for test in kernels["tests"]} == {"passed"}
    assert {found["method"] for found in speed["speed"]["rows"]} == {"fiberbnn", "torch.randn"}
    assert bits["result"]["cases"][0]["same"]
    assert fit["result"]["largest_difference_of_probabilities"] == 0.0
    assert str(ROOT) not in json.dumps(record)
    assert (tmp_path / "table.md").read_text() == gpu_page(record)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_without_a_gpu_the_script_says_so(tmp_path):
    done = run("bench/speed/gpu.py", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr or "Triton is not installed" in done.stderr
    assert not (tmp_path / "out").exists()

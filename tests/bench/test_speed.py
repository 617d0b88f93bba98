"""The speed suite: its page, the gate before the clock, that it runs here; and the script for a GPU machine."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bench.speed import predicted
from bench.speed.ceilings import Ceilings, Work
from bench.speed.exact import WrongResult, require_close, require_equal, require_standard_normal
from bench.speed.gpu_parts import Part, parts, pytest_part
from bench.speed.gpu_record import page as gpu_page
from bench.speed.table import page, table, walks
from bench.speed.targets import table_of, targets

ROOT = Path(__file__).resolve().parents[2]


def row(group: str, method: str, median: float, **more: object) -> dict:
    numbers = {"median_s": median, "iqr_s": 0.001, "rounds": 7, "bytes": 10**8, "flops": 0, "floor_s": 0.005}
    return {"group": group, "method": method, "bound": "copy", **numbers, **more}


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


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


def test_each_method_is_set_against_ours_in_its_group():
    rows = [row("b", "loop", 0.3), row("a", "fiberbnn", 0.01), row("b", "fiberbnn", 0.1), row("c", "loop", 1.0)]
    lines = cells(table(rows))
    assert [(line[0], line[1], line[5]) for line in lines] == [
        ("b", "loop", "3.00"), ("b", "fiberbnn", "1.00"), ("a", "fiberbnn", "1.00"), ("c", "loop", "-"),
    ]  # fmt: skip
    assert lines[2][2:5] == ["10", "1", "7"]
    assert lines[2][6:] == ["10 GB/s", "50%"]
    computed = table([row("a", "fiberbnn", 0.01, bound="product", flops=2 * 10**9)])
    assert cells(computed)[0][6:] == ["200 GFLOP/s", "50%"]


def test_the_walk_is_shown_by_particle():
    def walk(method: str, n: int, median: float) -> dict:
        return row(f"walk {n}", method, median, net="2-3-2", particles=n, particle_steps=10 * n)

    lines = cells(walks([walk("fiberbnn", 4, 0.4), walk("fiberbnn", 16, 3.2), walk("loop", 4, 1.0)]))
    assert lines == [["2-3-2", "fiberbnn", "10,000", "20,000", "2.00"], ["2-3-2", "loop", "25,000", "-", "-"]]
    assert walks([row("a", "loop", 1.0)]) == ""


def test_what_must_be_reached_is_set_against_the_worst_case():
    def walk(method: str, n: int, median: float) -> dict:
        return row(f"walk {n}", method, median, net="2-3-2", particles=n, particle_steps=10 * n)

    rows = [walk("fiberbnn", 4, 0.4), walk("vmap(grad)", 4, 0.8), walk("fiberbnn", 8, 1.2), walk("vmap(grad)", 8, 1.8)]
    rows += [row("predictive a", "fiberbnn", 0.1), row("predictive a", "loop", 0.4)]
    faster, flat, predictive = targets(rows, on_gpu=False)
    assert (faster.worst, faster.reached, len(faster.found)) == (pytest.approx(1.5), False, 2)
    assert (flat.worst, flat.reached) == (pytest.approx(1.5), False)
    assert (predictive.worst, predictive.reached) == (pytest.approx(4.0), True)
    (share,) = targets([row("BAOAB a", "fiberbnn", 0.0055), row("BAOAB b", "fiberbnn", 0.0058)], on_gpu=True)
    assert (share.worst, share.reached) == (pytest.approx(0.005 / 0.0058), True)
    assert "| at least 1.8 | 1.50 | 2 | no |" in table_of(rows, on_gpu=False)
    assert table_of([], on_gpu=True) == ""


def test_the_floor_is_the_larger_of_copy_and_product():
    ceilings = Ceilings(torch.device("cpu"))
    ceilings.copies, ceilings.products = {1 << 16: 1e9, 1 << 20: 5e8}, {torch.float32: 1e10}
    assert ceilings.floor(Work(1000)) == (1e-6, "copy")
    assert ceilings.floor(Work((1 << 19) + 1)) == (((1 << 19) + 1) / 5e8, "copy")
    assert ceilings.floor(Work(1000, 10**6)) == (1e-4, "product")


def test_results_beyond_their_budget_are_refused():
    exact = torch.linspace(1, 2, 50, dtype=torch.float64)
    require_close("x", exact.float(), exact, 1e-7)
    for wrong in (exact * (1 + 1e-5), exact[:-1], exact * torch.nan):
        with pytest.raises(WrongResult):
            require_close("x", wrong, exact, 1e-6)
    with pytest.raises(WrongResult, match="not the bits"):
        require_equal("x", exact + 1e-15, exact)
    normal = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    require_standard_normal("x", normal)
    for wrong in (normal + 0.1, 1.1 * normal):
        with pytest.raises(WrongResult, match="not 0 and 1"):
            require_standard_normal("x", wrong)


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
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert [found["method"] for found in record["rows"]] == ["eager"]
    assert {"name": "test_linear_act[0-fiberbnn]", "reason": "failed"} in record["missing"]
    written = (tmp_path / "cpu.md").read_text()
    assert "| fiberbnn |" not in written + done.stdout
    assert "Failed, and so without a time: test_linear_act[0-fiberbnn]" in written


@pytest.mark.slow
def test_the_suite_runs_and_writes_its_record(tmp_path):
    done = suite(tmp_path, "bench/speed", "--small", "-k", "not compiled")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert (tmp_path / "cpu.md").read_text() == page(record)
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


def test_the_parts_for_a_gpu_take_less_than_eight_minutes():
    real = parts(dry_run=False)
    assert sum(part.limit for part in real) < 480
    named = {argument for part in real for argument in part.command if argument.startswith(("tests/", "bench/"))}
    assert all((ROOT / name).is_file() for name in named)
    assert {f"bench/speed/{path.name}" for path in (ROOT / "bench" / "speed").glob("bench_*.py")} <= named
    assert {f"tests/kernels/{path.name}" for path in (ROOT / "tests" / "kernels").glob("test_*_fused.py")} <= named


def test_a_part_that_hangs_or_fails_is_recorded_and_stopped(tmp_path):
    script = tmp_path / "sleeps.py"
    script.write_text("import time\nprint('so far', flush=True)\ntime.sleep(60)\n")
    found = Part("hangs", 5.0, (str(script),)).run(tmp_path / "a")
    assert (found["outcome"], found["code"], found["output"]) == ("out of time", None, "so far\n")
    found = Part("fails", 60.0, ("-c", "raise SystemExit(3)")).run(tmp_path / "b")
    assert (found["outcome"], found["code"]) == ("failed", 3)
    found = Part("needs more", 9.0, ("-c", "raise SystemExit(3)"), needs=("no_such_module",)).run(tmp_path / "c")
    assert (found["outcome"], found["summary"]) == ("skipped", "not installed: no_such_module")


def test_outcomes_are_kept_one_by_one(tmp_path):
    script = tmp_path / "test_few.py"
    script.write_text(
        "import pytest\nfrom bench.speed import outcomes\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='not here')\n"
        "def test_skipped(): pass\n"
        "def test_slow(): outcomes.STARTED -= 1000\n"
        "def test_late(): pass\n"
    )
    found = pytest_part("few", 99.0, f"--rootdir={tmp_path}", "--confcutdir", str(tmp_path), str(script)).run(
        tmp_path / "a"
    )
    outcomes = [(test["name"].split("::")[1], test["outcome"]) for test in found["tests"]]
    assert outcomes == [
        ("test_good", "passed"), ("test_bad", "failed"), ("test_skipped", "skipped"), ("test_slow", "passed"),
        ("test_late", "skipped"),
    ]  # fmt: skip
    assert found["outcome"] == "failed"
    assert found["summary"] == "1 failed, 1 out of time, 2 passed, 1 skipped"
    assert found["tests"][2]["message"] == "not here"
    assert "`test_few.py::test_bad`: assert 1 == 2" in gpu_page(
        {"dry_run": True, "commit": None, "changed": False, "date": "", "seconds": 1.0, "machine": {}, "parts": [found]}
    )


def test_the_page_on_the_kernels_has_the_predictions_of_the_script() -> None:
    page = (ROOT / "docs/kernels.md").read_text()
    assert predicted.table() in page

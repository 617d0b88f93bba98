"""The speed suite: its page and the gate before the clock; and the parts of the script for a GPU machine."""

from functools import partial
from pathlib import Path

import pytest
import torch

from bench.speed import bench_mlp_walk, predicted
from bench.speed.ceilings import Ceilings, Work
from bench.speed.compiled import captured
from bench.speed.exact import WrongResult, require_close, require_equal, require_standard_normal
from bench.speed.gpu_parts import Part, parts, pytest_part
from bench.speed.gpu_record import page as gpu_page
from bench.speed.gradient_baselines import batched
from bench.speed.table import table, walks
from bench.speed.targets import table_of, targets
from fiberbnn_kernels import mlp_nll_and_grad

ROOT = Path(__file__).resolve().parents[2]


def row(group: str, method: str, median: float, **more: object) -> dict:
    numbers = {"median_s": median, "iqr_s": 0.001, "rounds": 7, "bytes": 10**8, "flops": 0, "floor_s": 0.005}
    return {"group": group, "method": method, "bound": "copy", **numbers, **more}


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


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
    one = row("walk 4", "fiberbnn", 0.2, net="2-3-2", particles=4, particle_steps=4)
    assert [line[1:3] for line in cells(walks([one, walk("fiberbnn", 4, 0.4)]))] == [
        ["fiberbnn, 1 a call", "50,000"], ["fiberbnn, 10 a call", "10,000"],
    ]  # fmt: skip


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


def test_a_run_finds_nothing_compiled_before(tmp_path, monkeypatch):
    """Whatever cache is named outside: its parts share one beside their folders, which the first finds empty."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kernel").touch()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "old"))
    script = tmp_path / "writes.py"
    script.write_text(
        "import os\nfrom pathlib import Path\nfolder = Path(os.environ['TRITON_CACHE_DIR'])\n"
        "folder.mkdir(exist_ok=True)\nprint(*sorted(p.name for p in folder.iterdir()), folder)\n"
        "(folder / str(os.getpid())).touch()\nraise SystemExit(1)\n"
    )
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    first, second = (Part(name, 60.0, (str(script),)).run(run_folder / name)["output"].split() for name in ("a", "b"))
    assert first == ["COMPILED"]
    assert (second[0].isdigit(), second[1:]) == (True, ["COMPILED"])


def idle(function):
    """Recording that calls the function as a CUDA graph's does, and replaying that does nothing."""
    for _ in range(3):
        function()
    return lambda: None, function()


def test_a_graph_that_does_nothing_gets_no_time():
    """The walk that was made while it was recorded, and results that lie in its memory, are not taken for its own."""
    device = torch.device("cpu")
    problem, start = bench_mlp_walk.start_of("14-50-2", 3, device)
    still = bench_mlp_walk.exact("14-50-2", 3, device, 0.0)
    gradients = batched(problem, 3)

    def recalled(function):
        return function, function()

    walk, step = bench_mlp_walk.steps_of(start, gradients, still, partial(captured, record=recalled))
    assert all(torch.equal(now, first) for now, first in zip(walk.state, start.tensors(), strict=True))
    step()
    assert not any(torch.equal(now, first) for now, first in zip(walk.state, start.tensors(), strict=True))
    with pytest.raises(WrongResult, match="particles"):
        bench_mlp_walk.steps_of(start, gradients, still, partial(captured, record=idle))
    # Of operations that return what they compute, here gradients.
    found = captured(partial(gradients, start.particles), idle)()
    exact = mlp_nll_and_grad(
        start.particles.double(), problem.x.double(), problem.y, problem.layout, likelihood="categorical"
    )
    for one, other, right in zip(found, exact, gradients(start.particles), strict=True):
        require_close("gradient", right, other, 2e-5)
        with pytest.raises(WrongResult):
            require_close("gradient", one, other, 2e-5)


def test_a_walk_that_has_not_left_its_start_gets_no_time(monkeypatch):
    """Half of a graph's promise: without friction it walks, with it it does nothing."""
    recorded = []

    def half(function):
        recorded.append(function)
        return (lambda: None if len(recorded) > 1 else function()), function()

    monkeypatch.setattr(bench_mlp_walk, "needs_cuda", lambda device: None)
    monkeypatch.setattr(bench_mlp_walk, "captured", partial(captured, record=half))
    method = "graph of batched products"

    def measure(group, method, function, work, check, **more):
        check(function())

    with pytest.raises(WrongResult, match="not left its start"):
        bench_mlp_walk.time_walk(measure, torch.device("cpu"), method, "14-50-2", 3, 2)
    monkeypatch.setattr(bench_mlp_walk, "captured", lambda step: step)
    bench_mlp_walk.time_walk(measure, torch.device("cpu"), method, "14-50-2", 3, 2)


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

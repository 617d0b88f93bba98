"""The offline compile check: it finds what breaks its limits, and the kernels break none."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from offline_compile import compile_case, find_cuobjdump, loop_accesses

from bench.speed import predicted
from tests.kernels.processes import run_python

SCRIPT = Path(__file__).parents[2] / "kernels" / "offline_check.py"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("offline_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["offline_check"] = module
    spec.loader.exec_module(module)
    return module


def test_each_broken_limit_is_named(check: ModuleType) -> None:
    case = check.KernelCase("k", None, {}, {}, 4, (), wide_stores=True, bit_equal=True)
    good = check.Usage(1024, 0, registers=40, stack=0, local_accesses=0, wide_stores=2)
    assert check.broken_limits(case, 80, good) == []
    for change, word in (
        ({"shared": 200 << 10}, "shared memory"),
        ({"contracted": 1}, "fused"),
        ({"stack": 8}, "stack"),
        ({"local_accesses": 3}, "spilled"),
        ({"loop_accesses": 1}, "in the loop"),
        ({"wide_stores": 0}, "16-byte"),
    ):
        (message,) = check.broken_limits(case, 80, dataclasses.replace(good, **change))
        assert word in message
    assert check.broken_limits(case, 90, dataclasses.replace(good, shared=200 << 10)) == []
    # What no tool could measure is not held against the kernel; main() says that it was not checked.
    assert check.broken_limits(case, 80, check.Usage(0, 0)) == []


def test_contraction_is_seen(check: ModuleType) -> None:
    case = next(case for case in check.cases() if case.bit_equal)
    fusing = dataclasses.replace(case, options={"enable_fp_fusion": True})
    usage = check.compile_case(fusing, 90, None)
    assert usage.contracted > 0
    assert check.broken_limits(case, 90, usage)
    assert check.compile_case(case, 90, None).contracted == 0


def test_what_spills_is_looked_for_in_the_loop_that_does_the_work() -> None:
    def assembly(*instructions: str) -> str:
        return "".join(f"        /*{16 * at:04x}*/   {text} ;\n" for at, text in enumerate(instructions))

    loop = ["STL [R1], R2", "FFMA R0, R1, R2, R3", "FFMA R0, R1, R2, R3", "@P0 BRA 0x10", "LDL R2, [R1]"]
    assert loop_accesses(assembly(*loop)) == 0
    assert loop_accesses(assembly(*loop[:2], "LDL R4, [R1]", *loop[2:])) == 1
    outer = [*loop, "@P1 BRA 0x0"]  # the loop around it does no more work
    assert loop_accesses(assembly(*outer)) == 0


def test_a_case_may_allow_what_lies_outside_that_loop(check: ModuleType) -> None:
    case = check.KernelCase("k", None, {}, {}, 4, (), outside_loop=8)
    usage = check.Usage(1024, 0, registers=255, stack=32, local_accesses=8, loop_accesses=0)
    assert check.broken_limits(case, 90, usage) == []
    assert len(check.broken_limits(case, 90, dataclasses.replace(usage, local_accesses=9, stack=36))) == 2


def test_kernels_that_break_limits_are_caught(check: ModuleType) -> None:
    from tests.kernels.planted import product_case

    cuobjdump = check.find_cuobjdump()
    if cuobjdump is None:
        pytest.skip("no cuobjdump")
    spilling = product_case(128, 16, 2, "ieee")
    usage = check.compile_case(spilling, 80, cuobjdump)
    assert 0 < usage.loop_accesses < usage.local_accesses
    broken = " ".join(check.broken_limits(spilling, 80, usage))
    assert all(word in broken for word in ("stack", "spilled", "in the loop"))
    modest = product_case(16, 16, 4, "ieee")
    assert check.broken_limits(modest, 80, check.compile_case(modest, 80, cuobjdump)) == []


@pytest.mark.parametrize("everywhere", [False, True])
def test_small_shared_memories_count_for_what_is_launched_there(check: ModuleType, everywhere: bool) -> None:
    from tests.kernels.planted import product_case

    case = product_case(16, 1024, 8, "tf32", everywhere=everywhere)
    usage = check.compile_case(case, 80, None)
    assert check.SMALL_SHARED_LIMIT < usage.shared < check.SHARED_LIMIT[80]
    assert [("8.6" in message) for message in check.broken_limits(case, 80, usage)] == [True] * everywhere
    assert [line.split()[-3] for line in [check.nvidia_row(case, 80, usage, [])]] == ["no"]


def test_launches_of_small_shared_memories_are_held_against_their_limit(check: ModuleType) -> None:
    """By default on 8.0, where what the table has for them is marked; compiled for them if that is asked for."""
    from fiberbnn_kernels.mlp.table import SMALL_SHARED, launches

    walks = [case for case in check.cases() if case.name.startswith("mlp_walk") and "gelu" in case.name]
    for architecture in SMALL_SHARED:
        assert architecture not in check.parsed([]).architectures
        taken = list(launches(architecture))
        assert [case.everywhere for case in walks] == [launch in taken for launch in launches(90)]
    assert 0 < sum(not case.everywhere for case in walks) < len(walks)
    over = check.Usage(100 << 10, 0)
    assert check.broken_limits(dataclasses.replace(walks[0], everywhere=True), 80, over)
    assert check.broken_limits(dataclasses.replace(walks[0], everywhere=False), 80, over) == []
    for architecture in SMALL_SHARED:
        assert check.broken_limits(walks[0], architecture, over)


def test_what_is_not_launched_on_an_architecture_is_not_compiled_for_it(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.kernels.planted import product_case

    planted = [product_case(16, 16, 4, "tf32"), product_case(16, 16, 4, "ieee", everywhere=True)]
    monkeypatch.setattr(check, "cases", lambda: iter(planted))
    assert check.main(["--jobs", "1", "--amd", "none", "--architectures", "80", "86", "120"]) == 0
    out = capsys.readouterr().out.splitlines()
    rows = [line for line in out if line.startswith("planted")]
    assert [row.removeprefix(planted[0].name).removeprefix(planted[1].name).split()[0] for row in rows] == [
        "80", "80", "86", "120",
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        check.main(["--architectures", "75"])


def test_a_kernel_compiles_where_nothing_was_compiled_before(tmp_path: Path) -> None:
    """A process with an empty cache: no test may pass only because of what an earlier compilation has left."""
    assert not list(tmp_path.iterdir())
    arguments = ("-k", "philox_uniform", "--architectures", "90", "--amd", "none", "--jobs", "1")
    assert "all limits hold (1 compilations checked" in run_python(
        str(SCRIPT), *arguments, TRITON_CACHE_DIR=str(tmp_path)
    )
    assert len(list(tmp_path.rglob("*.cubin"))) == 1


def test_the_exit_code_says_whether_a_limit_is_broken(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.kernels.planted import product_case

    planted = [product_case(32, 1024, 16, "tf32"), product_case(16, 16, 4, "tf32")]
    monkeypatch.setattr(check, "cases", lambda: iter(planted))
    only = ["--jobs", "1", "--amd", "none", "--architectures", "80"]
    assert check.main(only) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "262144/166912" in next(line for line in lines if "planted 32" in line)
    assert next(line for line in lines if "planted 16" in line).endswith("ok")
    assert lines[-1].startswith("1 broken (2 compilations checked")
    assert check.main([*only, "-k", "planted 16"]) == 0
    assert "planted 32" not in capsys.readouterr().out
    assert check.main(["-k", "no such kernel"]) == 2


def test_amd_is_for_information(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from triton.backends import backends

    arguments = ["--jobs", "1", "--amd", "all", "--architectures", "80", "-k", "philox_uniform"]
    if "amd" in backends:
        assert check.main(arguments) == 0
        row = capsys.readouterr().out.partition("gfx942, for information")[2].splitlines()[2].split()
        assert row[:2] == ["philox_uniform", "128"]
        assert 0 < int(row[3]) <= 512
    monkeypatch.setitem(backends, "amd", None)
    monkeypatch.delitem(backends, "amd")
    assert check.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("gfx942") == 2
    assert "no compiler for AMD: nothing is known of gfx942" in out
    # What spills, does not fit or does not compile has a note and breaks nothing.
    case = check.KernelCase("k", None, {}, {}, 4, ())
    assert check.amd_row(case, check.AMDUsage(512, 0, 3, 0, 8, 70_000)).endswith("spills, too much LDS")
    assert check.amd_row(case, check.compile_for_amd(case)).split("  ")[-1].startswith("does not compile: ")


def test_one_case_of_each_kernel(check: ModuleType) -> None:
    every = dict(enumerate(check.cases()))
    kernels = [every[number].kernel for number in check.one_of_each(every)]
    assert len(kernels) == len({id(kernel) for kernel in kernels})
    assert {id(kernel) for kernel in kernels} == {id(case.kernel) for case in every.values()}


@pytest.mark.parametrize(
    ("operation", "case"),
    [
        ("philox_normal", "philox_normal aligned 256"),
        ("langevin_open", "langevin_open aligned 256"),
        ("langevin_close", "langevin_close aligned 256"),
        ("optimizer_step, SGD", "optimizer sgd+scale aligned 256"),
        ("optimizer_step, Adam and perturbation", "optimizer adam+scale+drift+snapshot+noise aligned 256"),
    ],
)
def test_the_predictions_count_the_instructions_of_the_compiled_code(operation: str, case: str) -> None:
    """For each weight: a program's instructions, over the weights that one of its lanes has."""
    from fiberbnn_kernels.langevin_step import offline as steps
    from fiberbnn_kernels.philox import offline as philox

    chosen = next(one for one in (*steps.cases(), *philox.cases()) if one.name == case)
    found = compile_case(chosen, 90, find_cuobjdump())
    if found.instructions is None:
        pytest.skip("no cuobjdump")
    weights_of_a_lane = 4 * chosen.constants["BLOCK"] / (32 * chosen.warps)
    assert predicted.FLAT[operation][1] == pytest.approx(found.instructions / weights_of_a_lane, rel=0.05)

"""The offline compile check: it finds what breaks its limits, and the kernels break none."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

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


def test_what_spills_is_looked_for_in_the_loop_that_does_the_work(check: ModuleType) -> None:
    def assembly(*instructions: str) -> str:
        return "".join(f"        /*{16 * at:04x}*/   {text} ;\n" for at, text in enumerate(instructions))

    loop = ["STL [R1], R2", "FFMA R0, R1, R2, R3", "FFMA R0, R1, R2, R3", "@P0 BRA 0x10", "LDL R2, [R1]"]
    assert check.loop_accesses(assembly(*loop)) == 0
    assert check.loop_accesses(assembly(*loop[:2], "LDL R4, [R1]", *loop[2:])) == 1
    outer = [*loop, "@P1 BRA 0x0"]  # the loop around it does no more work
    assert check.loop_accesses(assembly(*outer)) == 0


def test_a_case_may_allow_what_lies_outside_that_loop(check: ModuleType) -> None:
    case = check.KernelCase("k", None, {}, {}, 4, (), outside_loop=8)
    usage = check.Usage(1024, 0, registers=255, stack=32, local_accesses=8, loop_accesses=0)
    assert check.broken_limits(case, 90, usage) == []
    assert len(check.broken_limits(case, 90, dataclasses.replace(usage, local_accesses=9, stack=36))) == 2

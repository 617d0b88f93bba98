"""The offline compile check: it finds what breaks its limits, and the kernels break none."""

import dataclasses
import importlib.util
import subprocess
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
    case = check.KernelCase("k", None, {}, {}, 4, (), wide_stores=True, options={"enable_fp_fusion": False})
    good = check.Usage(1024, 0, registers=40, stack=0, local_accesses=0, wide_stores=2)
    assert check.broken_limits(case, 80, good) == []
    for change, word in (
        ({"shared": 200 << 10}, "shared memory"),
        ({"contracted": 1}, "fused"),
        ({"stack": 8}, "stack"),
        ({"local_accesses": 3}, "spilled"),
        ({"wide_stores": 0}, "16-byte"),
    ):
        (message,) = check.broken_limits(case, 80, dataclasses.replace(good, **change))
        assert word in message
    assert check.broken_limits(case, 90, dataclasses.replace(good, shared=200 << 10)) == []
    # What no tool could measure is not held against the kernel; main() says that it was not checked.
    assert check.broken_limits(case, 80, check.Usage(0, 0)) == []


def test_contraction_is_seen(check: ModuleType) -> None:
    case = next(check.cases())
    fusing = dataclasses.replace(case, options={"enable_fp_fusion": True})
    usage = check.compile_case(fusing, 90, None)
    assert usage.contracted > 0
    assert check.broken_limits(case, 90, usage)
    assert check.compile_case(case, 90, None).contracted == 0


@pytest.mark.slow
def test_all_kernels_pass() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all limits hold" in done.stdout
    assert "broken" not in done.stdout

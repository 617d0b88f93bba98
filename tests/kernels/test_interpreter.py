"""Every fused kernel in Triton's interpreter, and the package where there is no Triton."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.kernels.processes import run_python

FUSED = sorted(Path(__file__).parent.glob("test_*_fused.py"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("tests", FUSED, ids=lambda path: path.stem)
def test_fused_kernels_in_the_interpreter(tests: Path) -> None:
    """It must be chosen before Triton is imported: a process of its own. It compiles nothing."""
    report = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not gpu", str(tests), TRITON_INTERPRET="1"
    )
    assert " passed" in report
    assert "skipped" not in report

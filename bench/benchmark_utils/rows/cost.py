"""What a run cost: seconds, memory and gradients, counted the same way for every method."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def gradients_of(cost: Mapping[str, float]) -> float:
    """Return all that a method computed of the training data, in gradients of one weight vector.

    A Hessian-vector product counts as two gradients, which it takes by central differences and at least by any other
    way; an energy alone as a third of one, the share of the forward pass.

    Args:
        cost: grad_evals, hvp_evals and energy_evals; what is not there counts as none.
    """
    return cost.get("grad_evals", 0) + 2 * cost.get("hvp_evals", 0) + cost.get("energy_evals", 0) / 3


class Meter:
    """Measures the seconds and the memory of what runs inside `with Meter() as meter`.

    Memory is that of the whole process, as the kernel counts it. Linux lets a process reset its own
    high-water mark (a 5 written to clear_refs sets VmHWM to the present VmRSS), so the peak belongs to this
    run even in a worker that has done others. Before the run, freed memory is handed back to the system, or a
    run that reuses it would look free. Where the mark cannot be reset (another system, a container that
    forbids it), the peak is that of the process since it started, an upper bound, and the rise is NaN. GPU
    memory is not in it.

    Attributes:
        seconds: wall-clock time.
        peak_mib: highest resident memory of the process during the run, MiB; NaN where it cannot be read at
            all.
        peak_rise_mib: that peak less what was resident when the run began, MiB: what the run itself needed.
    """

    seconds: float = float("nan")
    peak_mib: float = float("nan")
    peak_rise_mib: float = float("nan")

    def __enter__(self) -> Self:
        """Reset the high-water mark and start the clock."""
        self._was_reset = reset_peak()
        self._resident = resident_mib("VmRSS")
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock and read the high-water mark."""
        self.seconds = time.perf_counter() - self._start
        self.peak_mib = resident_mib("VmHWM")
        if self._was_reset:
            # A mark set to the resident size may lie a page below what is read a moment later.
            self.peak_rise_mib = max(0.0, self.peak_mib - self._resident)


def reset_peak() -> bool:
    """Set the high-water mark to what is in use now, freed memory handed back; return whether that worked."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # without glibc it stays with the allocator
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def resident_mib(field: str) -> float:
    """Return VmRSS, what is resident now, or VmHWM, the most there has been, of this process in MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return _rusage_peak_mib() if field == "VmHWM" else float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), float("nan"))


def _rusage_peak_mib() -> float:
    """The most memory this process ever had, where there is no /proc."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024

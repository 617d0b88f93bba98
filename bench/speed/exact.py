"""The gate before the clock: a result far from the definition in float64 is an error, and nothing is timed."""

from __future__ import annotations

import torch
from torch import Tensor


class WrongResult(AssertionError):
    """A result is farther from the definition than its budget."""


def require_close(name: str, found: Tensor, exact: Tensor, budget: float, length: Tensor | None = None) -> None:
    """Raise WrongResult unless the found numbers are near the exact ones.

    Args:
        name: of the result.
        found: what the timed function returned.
        exact: the definition, float64, of the same shape.
        budget: largest |found - exact| as a share of |exact|, both 2-norms.
        length: instead of the exact numbers, what the error is a share of.
    """
    if found.shape != exact.shape or exact.dtype != torch.float64:
        raise WrongResult(f"{name}: {list(found.shape)} against {exact.dtype} {list(exact.shape)}")
    error = float((found.to(exact) - exact).norm() / (exact if length is None else length.to(exact)).norm())
    if not error <= budget:
        raise WrongResult(f"{name} is {error:.2g} of its length away from the definition in float64; budget {budget:g}")


def require_equal(name: str, found: Tensor, exact: Tensor) -> None:
    """Raise WrongResult unless all bits are equal."""
    if not torch.equal(found.to(exact.device), exact):
        raise WrongResult(f"{name}: not the bits of the definition")


def require_standard_normal(name: str, found: Tensor) -> None:
    """Raise WrongResult unless mean and mean square of independent numbers are within six deviations of 0 and 1."""
    # In float64 a slice at a time: a copy of all of them may not fit.
    slices = found.flatten().split(1 << 24)
    n = found.numel()
    mean = sum(float(part.double().sum()) for part in slices) / n
    square = sum(float(part.double().square().sum()) for part in slices) / n
    if not (abs(mean) <= 6 / n**0.5 and abs(square - 1) <= 6 * (2 / n) ** 0.5):
        raise WrongResult(f"{name}: {n} numbers of mean {mean:.3g} and mean square {square:.5g}, not 0 and 1")

"""What a computation costs, counted in passes over the data."""

from dataclasses import astuple, dataclass
from typing import Self


@dataclass
class Cost:
    """What was computed, in passes of one weight vector over the full data; a minibatch is a part of a pass.

    Attributes:
        grad_evals: gradients.
        hvp_evals: Hessian-vector products.
        energy_evals: energies without gradients.
        shared_grads: those of the gradients that belong to no particle: of curvature and control variates.
    """

    grad_evals: float = 0
    hvp_evals: float = 0
    energy_evals: float = 0
    shared_grads: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __iadd__(self, other: "Cost") -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def __sub__(self, earlier: "Cost") -> "Cost":
        return Cost(*(a - b for a, b in zip(astuple(self), astuple(earlier), strict=True)))

    def copy(self) -> "Cost":
        """Return the count as it stands."""
        return Cost(*astuple(self))

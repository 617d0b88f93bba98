"""What the walk learns while it runs: step size, preconditioner, and when its energy has settled."""

import math

import torch
from torch import Tensor

from .ranks import Ranks


class StepSizeAdaptation:
    """Steers the step size to a mean acceptance probability, with a gain that fades as 1/sqrt(time).

    The acceptance is that of the step's energy error, whether or not steps are ever refused: it sees at once when the
    curvature around the particles is larger than it was at the MAP, which an eigenvalue at the MAP cannot.

    Source: Andrieu and Thoms (2008), doi:10.1007/s11222-008-9110-y, Algorithm 4 with the logarithm of the step.
    """

    def __init__(self, step_size: float, target: float, gain: float = 0.5, time_scale: float = 50.0) -> None:
        self.step_size, self.target, self.gain, self.time_scale, self.time = (
            step_size,
            target,
            gain,
            time_scale,
            0,
        )

    def update(self, acceptance: Tensor) -> None:
        """Take in the acceptance probabilities [K] of one step."""
        gain = self.gain / math.sqrt(1.0 + self.time / self.time_scale)
        self.step_size *= math.exp(gain * (float(acceptance.mean()) - self.target))
        self.time += 1


class ScaleAdaptation:
    """Learns the diagonal preconditioner from the gradients that the walk computes anyway.

    Under the posterior E[grad U grad U^T] = E[Hessian of U], so the root mean square of the gradient over particles and
    recent steps is the curvature of the fiber as it is walked, where the Fisher information at the MAP only knows
    the MAP: a weight into a hidden unit that the MAP does not use has none there, and much as soon as the walk uses it.
    No weight gets a scale longer than its prior's, tau^(-1/2).
    """

    def __init__(self, prior_precision: float, ranks: Ranks) -> None:
        self.prior_precision, self.ranks = prior_precision, ranks
        self._squares: Tensor | None = None
        self._count = 0

    def update(self, gradient: Tensor) -> None:
        """Take in the gradients [K, P] of one step."""
        # In float64, so that the sum does not depend on how particles are shared among processes.
        if self._squares is None:
            self._squares = torch.zeros(gradient.shape[1], dtype=torch.float64, device=gradient.device)
        for one in gradient:
            self._squares += one.square()
        self._count += len(gradient)

    def scale(self, dtype: torch.dtype) -> Tensor:
        """Return the scale [P] from the steps since the last call, and begin anew.

        Raises:
            ValueError: if there were no steps.
        """
        if self._squares is None:
            raise ValueError("no gradients were taken in since the last call")
        total = self.ranks.sum(self._squares)
        count = self.ranks.sum(torch.tensor([self._count], device=total.device))
        self._squares, self._count = None, 0
        return (total / count).clamp(min=self.prior_precision).rsqrt().to(dtype)


def has_settled(rise: Tensor, n_params: int, *, least_ratio: float, tolerance: float) -> bool:
    """Return whether the energy rises [T, K] above the MAP have stopped growing.

    Two things are asked. Their mean over the last third of the steps has come near the P/2 nats of equipartition:
    without this a slow rise from far below looks settled in the noise of few particles. And it is no longer growing:
    particle by particle, the last third exceeds the third before by less than `tolerance` of P/2, or than its standard
    error.

    Args:
        rise: U - U(MAP) after each step, [T, K], nats.
        n_params: P.
        least_ratio: share of P/2 that must be reached.
        tolerance: growth, as a share of P/2, that counts as none.
    """
    third = len(rise) // 3
    if third < 1:
        return False
    last, before = rise[-third:].mean(dim=0), rise[-2 * third : -third].mean(dim=0)
    growth = last - before
    standard_error = float(growth.std()) / math.sqrt(len(growth)) if len(growth) > 1 else 0.0
    equipartition = n_params / 2
    enough = float(last.mean()) >= least_ratio * equipartition
    return enough and float(growth.mean()) < max(tolerance * equipartition, standard_error)

"""How long a walk runs, and what it adapts to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WalkSchedule:
    """How long the walk runs, and what it adapts to.

    Warm-up lasts from `min_warmup` steps until the energy has settled, at most half of `max_steps`. The walk then
    goes on for as many steps again (the time that it took to forget the MAP is its time scale), with snapshots.
    On minibatches the energy error is measured in every fifth step only, since it costs a gradient there.

    Attributes:
        max_steps: most steps in all.
        min_warmup: fewest warm-up steps.
        n_snapshots: snapshots of all particles, evenly spaced over the second half; fewer if it has fewer steps.
        target_acceptance: mean acceptance probability that the step size is steered to.
        first_step: c of the first step size, c / sqrt(largest eigenvalue at the MAP); in the literal mode, of all.
        least_ratio: share of the P/2 nats of equipartition that the energy must have reached to count as settled.
        settled_tolerance: growth of the energy per third of the warm-up, as a share of P/2, that counts as settled.

    Raises:
        ValueError: if a setting is out of range.
    """

    max_steps: int = 290
    min_warmup: int = 60
    n_snapshots: int = 10
    target_acceptance: float = 0.8
    first_step: float = 0.5
    least_ratio: float = 0.85
    settled_tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.max_steps < 2 or self.min_warmup < 1 or self.n_snapshots < 1:
            raise ValueError("max_steps must be at least 2, min_warmup and n_snapshots at least 1")
        if not (0.0 < self.target_acceptance < 1.0 and self.first_step > 0 and self.settled_tolerance > 0):
            raise ValueError("target_acceptance must lie in (0, 1), first_step and settled_tolerance be positive")

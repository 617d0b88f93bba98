"""Several latent posteriors, one a mode, drawn from as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .latent import LatentPosterior
from .streams import seed_of_mode

# Fractional parts of its multiples fill (0, 1) evenly: every run of draws holds the modes in their proportions.
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class PooledPosterior:
    """A mixture of latent posteriors with stated weights: draws fall to the modes in turn, not by chance.

    Attributes:
        modes: the latent posteriors.
        weights: of the modes, adding up to 1.
    """

    modes: tuple[LatentPosterior, ...]
    weights: tuple[float, ...]

    def modes_of(self, n_samples: int, sample0: int = 0) -> Tensor:
        """Return which mode the samples number `sample0` to `sample0 + n_samples - 1` come from, [S], int64."""
        numbers = torch.arange(sample0, sample0 + n_samples, dtype=torch.float64)
        place = (0.5 + GOLDEN * numbers).frac()
        edges = torch.tensor(self.weights, dtype=torch.float64).cumsum(0)[:-1]
        return torch.bucketize(place, edges, right=True)

    def shares(self, n_samples: int) -> list[int]:
        """Return how many of the first S samples come from each mode."""
        return torch.bincount(self.modes_of(n_samples), minlength=len(self.modes)).tolist()

    def sample(self, n_samples: int, *, seed: int, sample0: int = 0) -> Tensor:
        """Return weight samples, [S, P].

        Args:
            n_samples: S.
            seed: of the draws.
            sample0: number of the first sample: samples 10 to 19 of a seed are the same drawn alone or among others.

        Raises:
            ValueError: if `n_samples` is not positive.
        """
        if len(self.modes) == 1:
            return self.modes[0].sample(n_samples, seed=seed, sample0=sample0)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1; got {n_samples}")
        before, mode = self.modes_of(sample0), self.modes_of(n_samples, sample0)
        samples = self.modes[0].basis.offset.new_empty(n_samples, self.modes[0].basis.offset.numel())
        for m, latent in enumerate(self.modes):
            if chosen := int((mode == m).sum()):
                # A mode numbers its own samples, and has a seed of its own.
                drawn = latent.sample(chosen, seed=seed_of_mode(seed, m), sample0=int((before == m).sum()))
                samples[(mode == m).to(samples.device)] = drawn
        return samples


def shares_of_modes(given: Sequence[float] | None, n_modes: int) -> tuple[float, ...]:
    """Return weights of modes that add up to 1, all alike if none are given.

    Raises:
        ValueError: if they are not one positive number for each mode.
    """
    if given is None:
        return (1.0 / n_modes,) * n_modes
    values = tuple(float(value) for value in given)
    if len(values) != n_modes or not all(0.0 < value < math.inf for value in values):
        raise ValueError(f"mode_weights must be {n_modes} positive numbers, one for each model; got {list(given)}")
    return tuple(value / sum(values) for value in values)

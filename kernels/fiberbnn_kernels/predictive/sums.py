"""What is known of the average over some weight samples, and how two such sums make one."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def merged_moments(first: tuple[int, Tensor, Tensor], second: tuple[int, Tensor, Tensor]) -> tuple[int, Tensor, Tensor]:
    """Return (count, mean, squared deviations) of the values of two sets.

    Source: Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.
    """
    (n, mean, squares), (m, other, more) = first, second
    shift = other - mean
    return n + m, mean + shift * (m / (n + m)), squares + more + shift.square() * (n * m / (n + m))


# Tensors have no single truth value, so no generated __eq__.
@dataclass(frozen=True, eq=False)
class ClassSums:
    """Class probabilities p_s of some weight samples, summed up; float64.

    Attributes:
        count: how many samples, S.
        probs: mean over samples, [N, C].
        squares: squared deviations from it, summed over samples, [N, C].
        log_sum: log of the summed probabilities, [N, C], nats; right also where probabilities underflow. At least
            -1e30, which stands for the log of zero.
        entropy: of single samples' probabilities, summed over samples, [N], nats.
    """

    count: int
    probs: Tensor
    squares: Tensor
    log_sum: Tensor
    entropy: Tensor

    def merge(self, other: "ClassSums") -> "ClassSums":
        """Return the sums over the samples of both."""
        mine, others = (self.count, self.probs, self.squares), (other.count, other.probs, other.squares)
        log_sum = torch.logaddexp(self.log_sum, other.log_sum)
        return ClassSums(*merged_moments(mine, others), log_sum, self.entropy + other.entropy)

    @property
    def log_probs(self) -> Tensor:
        """Log of the averaged probabilities, [N, C], nats."""
        return self.log_sum - math.log(self.count)

    @property
    def variance(self) -> Tensor:
        """Variance of the probabilities over samples (divided by S, not S - 1), [N, C]."""
        return self.squares / self.count

    @property
    def aleatoric(self) -> Tensor:
        """Mean over samples of their entropy, [N], nats."""
        return self.entropy / self.count


@dataclass(frozen=True, eq=False)
class GaussianSums:
    """Means m_s and noise variances v_s of some weight samples, summed up; float64.

    Attributes:
        count: how many samples, S.
        mean: of the means, [N, C].
        squares: squared deviations of the means from it, summed over samples, [N, C].
        noise: summed variance of the noise, [N, C].
        log_density_sum: log of the sum over samples of prod_c N(y_nc; m_s, v_s), [N], nats, at least -1e30; None if
            there were no targets.
    """

    count: int
    mean: Tensor
    squares: Tensor
    noise: Tensor
    log_density_sum: Tensor | None = None

    def merge(self, other: "GaussianSums") -> "GaussianSums":
        """Return the sums over the samples of both.

        Raises:
            ValueError: if one of them was given targets and the other not.
        """
        mine, others = (self.count, self.mean, self.squares), (other.count, other.mean, other.squares)
        moments, noise = merged_moments(mine, others), self.noise + other.noise
        if self.log_density_sum is None and other.log_density_sum is None:
            return GaussianSums(*moments, noise)
        if self.log_density_sum is None or other.log_density_sum is None:
            raise ValueError("one of the two has densities of targets and the other not: give both the same targets")
        return GaussianSums(*moments, noise, torch.logaddexp(self.log_density_sum, other.log_density_sum))

    @property
    def variance(self) -> Tensor:
        """Variance of the means over samples (divided by S, not S - 1), [N, C]: the epistemic part."""
        return self.squares / self.count

    @property
    def aleatoric(self) -> Tensor:
        """Variance of the noise, averaged over samples, [N, C]."""
        return self.noise / self.count

    @property
    def log_density(self) -> Tensor:
        """Log of the mixture's density at the targets, [N], nats.

        Raises:
            ValueError: if there were no targets.
        """
        if self.log_density_sum is None:
            raise ValueError("densities need targets; none were given")
        return self.log_density_sum - math.log(self.count)

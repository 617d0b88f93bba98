"""What a method predicts for an example: an equal-weight mixture of S class distributions or S Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


# Tensors have no single truth value, so no generated __eq__.
@dataclass(frozen=True, eq=False)
class Prediction:
    """Either class probabilities or Gaussians; S = 1 for a deterministic or closed-form predictive.

    Attributes:
        log_probs: log-probabilities of each sample, [S, N, C], nats, float64; -inf is a probability of zero.
        mean: mean of each Gaussian, [S, N], float64.
        variance: variance of each Gaussian, observation noise included, [S, N], float64.

    Raises:
        ValueError: if it is neither or both, shapes disagree, S or N is zero, a value is NaN, a variance is
            not positive and finite, or probabilities do not sum to one.
    """

    log_probs: Tensor | None = None
    mean: Tensor | None = None
    variance: Tensor | None = None

    def __post_init__(self) -> None:
        given = [getattr(self, name) is not None for name in ("log_probs", "mean", "variance")]
        if given not in ([True, False, False], [False, True, True]):
            raise ValueError("give either log_probs, or mean and variance")
        # Scores are small differences of large sums: float64 throughout, whatever the method computed in.
        for name in ("log_probs", "mean", "variance"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, torch.as_tensor(value).detach().to("cpu", torch.float64))
        if self.log_probs is not None:
            _check_log_probs(self.log_probs)
        elif self.mean is not None and self.variance is not None:
            _check_gaussians(self.mean, self.variance)

    @property
    def kind(self) -> str:
        """Return "classification" or "regression"."""
        return "regression" if self.log_probs is None else "classification"

    @property
    def n_samples(self) -> int:
        """Return S."""
        return len(self.class_log_probs if self.kind == "classification" else self.gaussians[0])

    @property
    def class_log_probs(self) -> Tensor:
        """Return log_probs, [S, N, C]; raises ValueError for a regression."""
        if self.log_probs is None:
            raise ValueError("this prediction is a mixture of Gaussians and has no class probabilities")
        return self.log_probs

    @property
    def gaussians(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance, each [S, N]; raises ValueError for a classification."""
        if self.mean is None or self.variance is None:
            raise ValueError("this prediction is a class distribution and has no mean and variance")
        return self.mean, self.variance

    def averaged_log_probs(self) -> Tensor:
        """Return log(1/S sum_s p_s), the log of the probabilities averaged over samples, [N, C], nats."""
        return self._averaged

    @cached_property
    def _averaged(self) -> Tensor:
        """Computed once: half a dozen scores ask for it."""
        return torch.logsumexp(self.class_log_probs, dim=0) - math.log(self.n_samples)

    def entropy(self) -> Tensor:
        """Return the entropy of the averaged predictive, [N], nats: the total uncertainty about the class."""
        return _entropy(self.averaged_log_probs())

    def expected_entropy(self) -> Tensor:
        """Return the mean over samples of each sample's own entropy, [N], nats: the aleatoric part."""
        total = torch.zeros_like(self.class_log_probs[0, :, 0])
        # One sample at a time: the probabilities of all together would take the memory of log_probs again.
        for sample in self.class_log_probs:
            total += _entropy(sample)
        return total / self.n_samples

    def mutual_information(self) -> Tensor:
        """Return the mutual information of class and weights, [N], nats: the epistemic part, 0 or more.

        H(mean_s p_s) - mean_s H(p_s). NaN for a single sample, which has nothing to disagree with: it is not that
        such a method were sure.
        """
        if self.n_samples == 1:
            return torch.full_like(self.class_log_probs[0, :, 0], math.nan)
        return (self.entropy() - self.expected_entropy()).clamp(min=0)  # Jensen; rounding can go below

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the Gaussian mixture, [N] and [N], with observation noise."""
        mean, variance = self.gaussians
        return mean.mean(0), (variance.mean(0) + mean.var(0, correction=0)).sqrt()

    def in_units(self, mean: float, scale: float) -> Prediction:
        """Return the prediction of values * scale + mean; class distributions as they are."""
        if self.kind == "classification" or (mean, scale) == (0.0, 1.0):
            return self
        means, variances = self.gaussians
        return Prediction(mean=means * scale + mean, variance=variances * scale**2)

    def function_sd(self, noise_std: float) -> Tensor:
        """Return the standard deviation of the function, without the known observation noise, [N].

        From the mixture's variance, so it means the same for many samples and for one Gaussian.
        """
        return (self.moments()[1].square() - noise_std**2).clamp(min=0).sqrt()


def _entropy(log_probs: Tensor) -> Tensor:
    """Entropy of distributions [..., C] in nats, [...]; a probability of zero adds nothing."""
    # p log p from the logarithm itself: the log of a rounded p near one would lose what tells confident examples apart.
    return -(log_probs.exp() * log_probs).nan_to_num(nan=0.0).sum(-1)


def _check_log_probs(log_probs: Tensor) -> None:
    """Refuse what is not a stack of distributions, [S, N, C]."""
    if log_probs.ndim != 3 or 0 in log_probs.shape:
        raise ValueError(f"log_probs must be [S, N, C] and not empty, got {tuple(log_probs.shape)}")
    totals = torch.logsumexp(log_probs, dim=-1)
    # Float32 methods reach about 1e-6; a forgotten log_softmax is off by far more. NaN fails too.
    if not bool((totals.abs() < 1e-3).all()):
        raise ValueError("log_probs hold NaN, or probabilities that do not sum to one: apply log_softmax")


def _check_gaussians(mean: Tensor, variance: Tensor) -> None:
    """Refuse what is not a stack of Gaussians, [S, N] and [S, N]."""
    if mean.ndim != 2 or mean.shape != variance.shape or 0 in mean.shape:
        raise ValueError(
            f"mean and variance must be [S, N], not empty, got {tuple(mean.shape)}, {tuple(variance.shape)}"
        )
    if not bool(mean.isfinite().all()):
        raise ValueError("mean holds NaN or infinity")
    if not bool((variance.isfinite() & (variance > 0)).all()):
        raise ValueError("variance must be positive and finite everywhere")

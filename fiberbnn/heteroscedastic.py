"""A Gaussian likelihood whose noise is a head of the network."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .gaussian import LOG_ROOT_2PI, check_has_outputs, check_targets, per_example


@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """Real targets with Gaussian noise whose size the network predicts as well.

    The last axis of the outputs [N, ..., 2 C] holds C means, then C log-variances s; targets are [N, ..., C].
    The NLL is 1/2 (s + (y - mean)^2 exp(-s) + log 2 pi), summed (Nix and Weigend 1994, doi:10.1109/ICNN.1994.374138).
    """

    kind: ClassVar[Literal["heteroscedastic"]] = "heteroscedastic"

    def nll(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of targets [N, ..., C], summed over everything, []; differentiable."""
        return self._cost(outputs, y).sum()

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the log-density of targets [N, ..., C] under outputs [..., N, ..., 2 C], [..., N]."""
        return -per_example(self._cost(outputs, y), y.ndim - 1)

    def _cost(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Minus the log-density of every target."""
        mean, log_variance = outputs.chunk(2, dim=-1)
        return 0.5 * ((y - mean).square() * (-log_variance).exp() + log_variance) + LOG_ROOT_2PI

    def kl(self, outputs: Tensor, other: Tensor, *, sample_axes: int = 1) -> Tensor:
        """Return the Kullback-Leibler divergence of the predictives of outputs and other outputs; nats.

        Args:
            outputs: [S, N, ..., 2 C].
            other: of the same shape.
            sample_axes: how many axes stand before that of the examples; 0 for [N, ..., 2 C].

        Returns:
            Summed within each example, [S, N].
        """
        (mean, log_variance), (other_mean, other_log_variance) = outputs.chunk(2, dim=-1), other.chunk(2, dim=-1)
        log_ratio = log_variance - other_log_variance
        # expm1: the three terms nearly cancel where the predictives are close, which is where training ends.
        distance = (mean - other_mean).square() * (-other_log_variance).exp()
        return 0.5 * per_example(log_ratio.expm1() - log_ratio + distance, outputs.ndim - sample_axes - 1)

    def curvature(self, outputs: Tensor, u: Tensor, y: Tensor | None = None) -> Tensor:
        """Return F u, of the shape of u, with F = diag(exp(-s), 1/2) the Fisher information of a target.

        The Hessian of the NLL is not positive where residuals are small; its mean over targets is F. The targets do
        not matter; they may be given as to `Categorical`.
        """
        root = self._root_information(outputs)
        return root.square() * u

    def curvature_sqrt(self, outputs: Tensor, u: Tensor, y: Tensor | None = None) -> Tensor:
        """Return L u, of the shape of u, with L L^T = F."""
        return self._root_information(outputs) * u

    def _root_information(self, outputs: Tensor) -> Tensor:
        log_variance = outputs.chunk(2, dim=-1)[1]
        return torch.cat([(-0.5 * log_variance).exp(), torch.full_like(log_variance, math.sqrt(0.5))], dim=-1)

    def predictions(self, outputs: Tensor, *, sample_axes: int = 1) -> Tensor:
        """Return the means of outputs [..., 2 C], [..., C]."""
        return outputs.chunk(2, dim=-1)[0]

    def noise_variance(self, outputs: Tensor) -> Tensor:
        """Return the variance of the noise that outputs [..., 2 C] predict, [..., C]; units of y squared."""
        return outputs.chunk(2, dim=-1)[1].exp()

    def check(self, outputs: Tensor, y: Tensor, *, part: bool = False) -> None:
        """Raise ValueError if outputs [N, ..., 2 C] are not pairs, or targets not floats [N, ..., C].

        Whether they are part of the data does not matter here, as it does to `Categorical`.
        """
        check_has_outputs(outputs)
        if outputs.shape[-1] % 2:
            raise ValueError(
                "a network that predicts its noise has C means and then C log-variances on its last axis, an even "
                f"number; the model gives {list(outputs.shape)}"
            )
        check_targets(outputs, y, (*outputs.shape[:-1], outputs.shape[-1] // 2))

    def to_dict(self) -> dict[str, Any]:
        """Return kind and fields, fit for JSON; `likelihood.from_dict` reads it."""
        return {"kind": self.kind}

"""What the outputs of a network say about the data: log-likelihoods, their curvature, and predictives."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Categorical:
    """Classes by the softmax of the outputs."""

    kind: ClassVar[Literal["categorical"]] = "categorical"

    def nll(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of labels [N] under logits [N, C], summed over examples, []; nats."""
        return F.cross_entropy(outputs, y, reduction="sum")

    def kl(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of the predictives of logits [..., C] and `other`, [...]; nats."""
        log_p = outputs.log_softmax(-1)
        return (log_p.exp() * (log_p - other.log_softmax(-1))).sum(-1)

    def curvature(self, outputs: Tensor, u: Tensor) -> Tensor:
        """Return H u for logits and u of shape [..., C], H = diag(p) - p p^T the Hessian of the NLL in the logits."""
        p = outputs.softmax(-1)
        pu = p * u
        return pu - p * pu.sum(-1, keepdim=True)

    def curvature_sqrt(self, outputs: Tensor, u: Tensor) -> Tensor:
        """Return L u, [..., C], with L L^T = H: L = diag(sqrt p) - p sqrt(p)^T."""
        p = outputs.softmax(-1)
        root_u = p.sqrt() * u
        return root_u - p * root_u.sum(-1, keepdim=True)

    def check(self, outputs: Tensor, y: Tensor) -> None:
        """Raise ValueError if labels are not int64 [N] in 0 .. C - 1, or there are fewer than two classes."""
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            raise ValueError(
                f"classification needs outputs [N, C] with C >= 2 logits; the model gives {list(outputs.shape)}. "
                "A binary network needs two outputs."
            )
        if y.dtype != torch.int64 or y.shape != outputs.shape[:1]:
            raise ValueError(f"labels must be int64 [{len(outputs)}]; got {y.dtype} {list(y.shape)}")
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= outputs.shape[1]:
            raise ValueError(
                f"labels run from {low} to {high}, but the model has {outputs.shape[1]} outputs: "
                f"they must lie in 0 .. {outputs.shape[1] - 1}"
            )


@dataclass(frozen=True)
class Gaussian:
    """Real targets with Gaussian noise around the outputs.

    Args:
        noise_std: standard deviation of the noise, in the units of y.

    Raises:
        ValueError: if it is not positive and finite.
    """

    noise_std: float
    kind: ClassVar[Literal["gaussian"]] = "gaussian"

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_std < math.inf:
            raise ValueError(f"noise_std must be positive and finite; got {self.noise_std}")

    @property
    def precision(self) -> float:
        """One over the variance of the noise."""
        return self.noise_std**-2

    def nll(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of targets [N, C] under means [N, C], summed over examples, []; nats."""
        constant = 0.5 * y.numel() * math.log(2 * math.pi * self.noise_std**2)
        return 0.5 * self.precision * (outputs - y).square().sum() + constant

    def kl(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence between the predictives of means [..., C], [...]; nats."""
        return 0.5 * self.precision * (outputs - other).square().sum(-1)

    def curvature(self, outputs: Tensor, u: Tensor) -> Tensor:
        """Return H u, [..., C], with H = I / noise_std^2 the Hessian of the NLL in the outputs."""
        return self.precision * u

    def curvature_sqrt(self, outputs: Tensor, u: Tensor) -> Tensor:
        """Return L u, [..., C], with L L^T = H."""
        return u / self.noise_std

    def check(self, outputs: Tensor, y: Tensor) -> None:
        """Raise ValueError if targets are not floats of the outputs' shape [N, C]."""
        if outputs.ndim != 2:
            raise ValueError(f"regression needs outputs [N, C]; the model gives {list(outputs.shape)}")
        if not y.is_floating_point() or y.shape != outputs.shape:
            raise ValueError(
                f"targets must be floats of shape {list(outputs.shape)}, as the model's outputs; "
                f"got {y.dtype} {list(y.shape)}" + (" (use y[:, None])" if y.ndim == 1 else "")
            )


Likelihood = Categorical | Gaussian


def fitted_noise_std(outputs: Tensor, y: Tensor) -> float:
    """Return the maximum-likelihood standard deviation of Gaussian noise, from outputs and targets [N, C].

    Raises:
        ValueError: if the residuals are all zero, so that no noise can be fitted.
    """
    std = float((outputs - y).double().square().mean().sqrt())
    if std == 0.0:
        raise ValueError("the model fits the training targets exactly: give noise_std, it cannot be fitted")
    return std


def likelihood_of(kind: str | Likelihood, noise_std: float | None) -> Likelihood | None:
    """Return the likelihood that was asked for; None for a regression whose noise is yet to be fitted.

    Args:
        kind: "classification", "regression", or a likelihood.
        noise_std: of a regression.

    Raises:
        ValueError: if the likelihood is unknown, or `noise_std` does not belong to it.
    """
    if noise_std is not None and kind != "regression":
        raise ValueError('noise_std belongs to likelihood="regression"; give it inside Gaussian(noise_std) otherwise')
    if isinstance(kind, (Categorical, Gaussian)):
        return kind
    if kind == "classification":
        return Categorical()
    if kind == "regression":
        return None if noise_std is None else Gaussian(noise_std)
    raise ValueError(f'likelihood must be "classification", "regression", Categorical() or Gaussian(...); got {kind!r}')

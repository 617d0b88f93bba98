"""A Gaussian likelihood: noise known or fitted, one for all outputs or one for each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Real targets with Gaussian noise around the outputs [N, ...]; targets have the outputs' shape.

    Args:
        noise_std: standard deviation of the noise, in the units of y: one number, or a tuple with one for each entry
            of the outputs' last axis (a list or a tensor is made a tuple).

    Raises:
        ValueError: if it is not positive and finite.
    """

    noise_std: float | tuple[float, ...]
    kind: ClassVar[Literal["gaussian"]] = "gaussian"

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_std", _as_noise(self.noise_std))
        if not self._stds or not all(0.0 < std < math.inf for std in self._stds):
            raise ValueError(f"noise_std must be positive and finite; got {self.noise_std}")

    @property
    def _stds(self) -> tuple[float, ...]:
        return self.noise_std if isinstance(self.noise_std, tuple) else (self.noise_std,)

    @property
    def is_scalar(self) -> bool:
        """Whether one number describes the noise of all outputs, so that `precision` exists."""
        return len(self._stds) == 1

    @property
    def precision(self) -> float:
        """One over the variance of the noise.

        Raises:
            ValueError: if the noise differs between outputs; see `is_scalar`.
        """
        if not self.is_scalar:
            raise ValueError("the noise differs between outputs, so it has no single precision: use noise_variance")
        return self._stds[0] ** -2

    def _std(self, like: Tensor) -> float | Tensor:
        """The standard deviation as something that broadcasts against outputs."""
        # Made anew each time: a tensor kept from inside a torch.func transform would outlive its level.
        return self._stds[0] if self.is_scalar else torch.tensor(self._stds, dtype=like.dtype, device=like.device)

    @property
    def _log_normaliser(self) -> float:
        """Mean over the outputs of log(std sqrt(2 pi))."""
        return sum(map(math.log, self._stds)) / len(self._stds) + LOG_ROOT_2PI

    def nll(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of targets under means, both [N, ...], summed over everything, []; nats.

        Differentiable.
        """
        return 0.5 * ((outputs - y) / self._std(outputs)).square().sum() + y.numel() * self._log_normaliser

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the log-density of targets [N, ...] under means [..., N, ...], summed within examples, [..., N]."""
        distance = ((outputs - y) / self._std(outputs)).square()
        return -0.5 * per_example(distance, y.ndim - 1) - y.shape[1:].numel() * self._log_normaliser

    def kl(self, outputs: Tensor, other: Tensor, *, sample_axes: int = 1) -> Tensor:
        """Return the Kullback-Leibler divergence of the predictives of means and other means; nats.

        Args:
            outputs: means, [S, N, ...].
            other: means of the same shape.
            sample_axes: how many axes stand before that of the examples; 0 for [N, ...].

        Returns:
            Summed within each example, [S, N].
        """
        distance = ((outputs - other) / self._std(outputs)).square()
        return 0.5 * per_example(distance, distance.ndim - sample_axes - 1)

    def curvature(self, outputs: Tensor, u: Tensor, y: Tensor | None = None) -> Tensor:
        """Return H u, of the shape of u, with H = diag(1 / noise_std^2) the Hessian of the NLL in the outputs.

        The targets do not matter; they may be given as to `Categorical`.
        """
        std = self._std(outputs)
        return u / (std * std)

    def curvature_sqrt(self, outputs: Tensor, u: Tensor, y: Tensor | None = None) -> Tensor:
        """Return L u, of the shape of u, with L L^T = H."""
        return u / self._std(outputs)

    def predictions(self, outputs: Tensor, *, sample_axes: int = 1) -> Tensor:
        """Return the means: the outputs themselves."""
        return outputs

    def noise_variance(self, outputs: Tensor) -> Tensor:
        """Return the variance of the noise at every output, of the shape of the outputs; units of y squared."""
        std = self._std(outputs)
        return torch.full_like(outputs, std * std) if isinstance(std, float) else std.square().expand_as(outputs)

    def check(self, outputs: Tensor, y: Tensor, *, part: bool = False) -> None:
        """Raise ValueError if targets are not floats of the outputs' shape, or the noise has another number of outputs.

        Args:
            outputs: of one weight vector, [N, ...].
            y: targets.
            part: whether there are more data; it does not matter here, as it does to `Categorical`.
        """
        check_targets(outputs, y, outputs.shape)
        if isinstance(self.noise_std, tuple):
            check_has_outputs(outputs)
            if len(self.noise_std) != outputs.shape[-1]:
                raise ValueError(
                    f"noise_std has {len(self.noise_std)} entries, but the model has {outputs.shape[-1]} outputs "
                    f"(last axis of {list(outputs.shape)})"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return kind and fields, fit for JSON; `likelihood.from_dict` reads it."""
        return {"kind": self.kind, "noise_std": self.noise_std}


@dataclass(frozen=True)
class UnfittedGaussian:
    """A Gaussian likelihood whose noise is yet to be fitted to training residuals.

    Attributes:
        per_output: fit one noise for each entry of the outputs' last axis, instead of one for all.
    """

    per_output: bool = False

    def fitted(self, outputs: Tensor, y: Tensor) -> Gaussian:
        """Return the likelihood with the noise that fits outputs [N, ...] and targets best.

        Raises:
            ValueError: if outputs and targets do not pair, or the residuals are no more than rounding.
        """
        Gaussian(1.0).check(outputs, y)
        return Gaussian(fitted_noise_std(outputs, y, per_output=self.per_output))


def fitted_noise_std(outputs: Tensor, y: Tensor, per_output: bool = False) -> float | tuple[float, ...]:
    """Return the maximum-likelihood standard deviation of Gaussian noise, from outputs and targets [N, ...].

    Args:
        outputs: the model's, [N, ...].
        y: targets of the same shape.
        per_output: one for each entry of the last axis, as a tuple, instead of one number.

    Raises:
        ValueError: if shapes differ, or residuals are no more than rounding, so that no noise can be fitted.
    """
    if outputs.shape != y.shape:
        raise ValueError(f"outputs {list(outputs.shape)} and targets {list(y.shape)} must have one shape")
    squares, rounding = (outputs - y).detach().double().square(), 4 * torch.finfo(outputs.dtype).eps
    size = y.double().square()
    if not per_output:
        std = float(squares.mean().sqrt())
        if std <= rounding * float(size.mean().sqrt()):
            raise ValueError("the model fits the training targets exactly: give noise_std, it cannot be fitted")
        return std
    check_has_outputs(outputs)
    stds, sizes = (tuple(each.flatten(0, -2).mean(dim=0).sqrt().tolist()) for each in (squares, size))
    if exact := [i for i, std in enumerate(stds) if std <= rounding * sizes[i]]:
        raise ValueError(f"the model fits the training targets exactly at outputs {exact}: give noise_std for each")
    return stds


def per_example(values: Tensor, extra_axes: int) -> Tensor:
    """Return values [..., N, ...] summed over their last `extra_axes` axes, [..., N]."""
    return values.flatten(-extra_axes).sum(-1) if extra_axes else values


def check_has_outputs(outputs: Tensor) -> None:
    """Raise ValueError if outputs have no axis of outputs after that of the examples."""
    if outputs.ndim < 2:
        raise ValueError(
            f"noise of each output, or predicted by the network, needs outputs [N, ..., C]; the model gives "
            f"{list(outputs.shape)}: add an axis to its outputs, or use one noise_std"
        )


def check_targets(outputs: Tensor, y: Tensor, expected: Sequence[int]) -> None:
    """Raise ValueError if targets are not floats of a shape, with a hint where the mistake is a known one."""
    expected = tuple(expected)
    if outputs.ndim < 1:
        raise ValueError("regression needs outputs [N, ...]; the model gives a single number for the whole batch")
    if y.is_floating_point() and y.shape == expected:
        return
    hint = ""
    if (*y.shape, 1) == expected:
        hint = " (use y[:, None])" if y.ndim == 1 else " (use y[..., None])"
    elif y.shape == (*expected, 1):
        hint = " (use y[..., 0])"
    elif y.ndim == outputs.ndim and y.shape[-1:] and 2 * y.shape[-1] == expected[-1]:
        hint = ' (if the outputs are means and log-variances: noise_std="head", or HeteroscedasticGaussian())'
    elif not y.is_floating_point():
        hint = " (use y.float())"
    relation = "as the model's outputs" if expected == outputs.shape else "half of the model's outputs"
    raise ValueError(
        f"targets must be floats of shape {list(expected)}, {relation}; got {y.dtype} {list(y.shape)}{hint}"
    )


def _as_noise(noise_std: object) -> float | tuple[float, ...]:
    """A number as a float; a sequence or tensor as a tuple of floats."""
    values: Any = noise_std.tolist() if hasattr(noise_std, "tolist") else noise_std
    try:
        if isinstance(values, str):
            raise TypeError
        return tuple(map(float, values)) if isinstance(values, Sequence) else float(values)
    except (TypeError, ValueError):
        message = f"noise_std must be positive and finite, one number or one for each output; got {noise_std!r}"
        raise ValueError(message) from None

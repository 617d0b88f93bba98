"""What a posterior predicts: the average over weight samples, with its uncertainty taken apart.

Sums over samples are kept as they come in, so that the outputs of all samples are never held at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .likelihood import Categorical, Likelihood


# Tensors have no single truth value, so no generated __eq__.
@dataclass(frozen=True, eq=False)
class ClassPredictive:
    """Class probabilities averaged over posterior samples.

    Entropies are in nats and add up: entropy = aleatoric + mutual_information (Depeweg et al. 2018, arXiv 1710.07283).

    Attributes:
        probs: averaged probabilities, of the outputs' shape [N, ..., C] (or classes on `class_axis`).
        variance: of the probabilities over samples (divided by S, not S - 1), same shape.
        entropy: of `probs`, [N, ...]: all the uncertainty there is about a label.
        aleatoric: entropy of single samples' probabilities, averaged over them, [N, ...]: what would remain if the
            weights were known.
        mutual_information: of label and weights, [N, ...], never negative; 0 where all samples agree.
        class_axis: of `probs`.
    """

    probs: Tensor
    variance: Tensor
    entropy: Tensor
    aleatoric: Tensor
    mutual_information: Tensor
    class_axis: int = -1

    @property
    def epistemic(self) -> Tensor:
        """What more data could take away: the mutual information, [N, ...], nats."""
        return self.mutual_information

    @property
    def labels(self) -> Tensor:
        """The most probable class, [N, ...], int64."""
        return self.probs.argmax(self.class_axis)

    @property
    def confidence(self) -> Tensor:
        """Its probability, [N, ...]."""
        return self.probs.amax(self.class_axis)


@dataclass(frozen=True, eq=False)
class GaussianPredictive:
    """Mean and variance of a regression's targets over posterior samples. Variances are in squared units of y.

    Attributes:
        mean: of the samples' means, [N, ...].
        epistemic: variance of the samples' means (divided by S, not S - 1), [N, ...]: what more data could take away.
        aleatoric: variance of the noise, averaged over samples, [N, ...]: what would remain if the weights were known.
    """

    mean: Tensor
    epistemic: Tensor
    aleatoric: Tensor

    @property
    def variance(self) -> Tensor:
        """Variance of a target, [N, ...]: epistemic + aleatoric, the law of total variance."""
        return self.epistemic + self.aleatoric

    @property
    def std(self) -> Tensor:
        """Standard deviation of a target, [N, ...], in the units of y."""
        return self.variance.sqrt()


Predictive = ClassPredictive | GaussianPredictive


class Moments:
    """Mean and variance over the first axis of values that come in chunks, in float64.

    Means and squared deviations of chunks are merged, not sums and squares, which cancel where the mean is large
    against the spread (Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115).

    Attributes:
        count: of values so far.
        mean: of them, [...], float64.
        variance: of them, divided by the count, [...], float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in values [S, ...].

        Raises:
            ValueError: if S is zero, or the rest of the shape is not that of earlier values.
        """
        if not len(values) or (self.count and values.shape[1:] != self.mean.shape):
            raise ValueError(
                f"a chunk must be [S, ...] with S > 0, all of one shape; got {list(values.shape)}"
                + (f" after [S, ...] of {list(self.mean.shape)}" if self.count else "")
            )
        values = values.double()
        mean = values.mean(dim=0)
        squares = (values - mean).square().sum(dim=0)
        if self.count:
            total = self.count + len(values)
            shift = mean - self.mean
            squares = self._squares + squares + shift.square() * (self.count * len(values) / total)
            mean = self.mean + shift * (len(values) / total)
        self.count, self.mean, self._squares = self.count + len(values), mean, squares

    @property
    def variance(self) -> Tensor:
        """Variance of the values so far."""
        return self._squares / self.count


class Averaging:
    """The average over weight samples whose outputs come in chunks; float64 inside.

    Args:
        likelihood: what the outputs mean.

    Attributes:
        dtype: of the outputs.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood, self.dtype = likelihood, torch.float64
        self._predictions = Moments()
        # Of entropies of single samples, or of their noise variances.
        self._aleatoric = Moments()

    def add(self, outputs: Tensor) -> "Averaging":
        """Take in the outputs of S further weight samples, [S, N, ...]; return self.

        Raises:
            ValueError: if S is zero, or the shape is not that of earlier outputs.
        """
        self.dtype, exact = outputs.dtype, outputs.detach().double()
        predictions = self.likelihood.predictions(exact)
        self._predictions.add(predictions)
        if isinstance(self.likelihood, Categorical):
            self._aleatoric.add(_entropy(predictions, self._class_axis))
        else:
            self._aleatoric.add(self.likelihood.noise_variance(exact))
        return self

    def result(self, *, exact: bool = False) -> Predictive:
        """Return the predictive of all samples so far, in the dtype of the outputs.

        Args:
            exact: leave it in float64, for `mixture`: mutual information is a small difference of entropies.

        Raises:
            ValueError: if there were none.
        """
        if not self._predictions.count:
            raise ValueError("there are no samples to average over")
        mean, variance, aleatoric = self._predictions.mean, self._predictions.variance, self._aleatoric.mean
        dtype = None if exact else self.dtype
        if isinstance(self.likelihood, Categorical):
            return _cast(_of_classes(mean, variance, aleatoric, self.likelihood.class_axis), dtype)
        return _cast(GaussianPredictive(mean, variance, aleatoric), dtype)

    @property
    def _class_axis(self) -> int:
        """Counted from the end, so that it is the same with and without a sample axis."""
        axis = self.likelihood.class_axis if isinstance(self.likelihood, Categorical) else -1
        return axis if axis < 0 else axis - self._predictions.mean.ndim


def joined(parts: Sequence[Predictive]) -> Predictive:
    """Return the predictives of batches of inputs as one, in order.

    Raises:
        ValueError: if there are none, or they are of several kinds.
    """
    kinds = {type(part) for part in parts}
    if len(kinds) != 1:
        raise ValueError("there must be one predictive at least, and all of one kind")
    values = {field.name: [getattr(part, field.name) for part in parts] for field in fields(parts[0])}
    tensors: dict[str, Any] = {name: torch.cat(each) for name, each in values.items() if isinstance(each[0], Tensor)}
    return replace(parts[0], **tensors)


def mixture(parts: Sequence[Predictive], weights: Sequence[float], dtype: torch.dtype | None = None) -> Predictive:
    """Return the predictive of several for the same inputs, each with its weight; weights add up to 1.

    Args:
        parts: in float64 (`Averaging.result(exact=True)`), or small mutual informations are lost to rounding.
        weights: of the parts.
        dtype: of the result; None for that of the parts.

    Raises:
        ValueError: if there are none, or they are of several kinds.
    """
    if len({type(part) for part in parts}) != 1:
        raise ValueError("there must be one predictive at least, and all of one kind")
    if len(parts) == 1:
        return _cast(parts[0], dtype)

    def mean_of(values: list[Tensor]) -> Tensor:
        return sum((w * value for w, value in zip(weights, values, strict=True)), torch.zeros_like(values[0]))

    first = parts[0]
    if isinstance(first, GaussianPredictive):
        several = [part for part in parts if isinstance(part, GaussianPredictive)]
        mean = mean_of([part.mean for part in several])
        epistemic = mean_of([part.epistemic + (part.mean - mean).square() for part in several])
        return _cast(GaussianPredictive(mean, epistemic, mean_of([part.aleatoric for part in several])), dtype)
    classes = [part for part in parts if isinstance(part, ClassPredictive)]
    probs = mean_of([part.probs for part in classes])
    variance = mean_of([part.variance + (part.probs - probs).square() for part in classes])
    aleatoric = mean_of([part.aleatoric for part in classes])
    return _cast(_of_classes(probs, variance, aleatoric, first.class_axis), dtype)


def _of_classes(probs: Tensor, variance: Tensor, aleatoric: Tensor, class_axis: int) -> ClassPredictive:
    """The predictive of averaged probabilities, their variance and the mean entropy of single samples."""
    # Counted from the end, the axis is the same with and without a sample axis.
    entropy = _entropy(probs, class_axis if class_axis < 0 else class_axis - probs.ndim)
    # Entropy is concave, so its mean over samples is no larger than that of the mean: anything else is rounding.
    aleatoric = torch.minimum(aleatoric, entropy)
    return ClassPredictive(probs, variance, entropy, aleatoric, entropy - aleatoric, class_axis)


def _cast(found: Predictive, dtype: torch.dtype | None) -> Predictive:
    """The predictive with all its tensors in a dtype; as it is if that is None."""
    values = ((field.name, getattr(found, field.name)) for field in fields(found))
    tensors: dict[str, Any] = {name: value.to(dtype) for name, value in values if isinstance(value, Tensor)}
    return found if dtype is None else replace(found, **tensors)


def _entropy(probs: Tensor, axis: int) -> Tensor:
    """Entropy of probabilities, over the class axis; nats. A probability of zero adds nothing."""
    return torch.special.entr(probs).sum(axis)

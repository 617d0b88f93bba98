"""What a posterior predicts: the average over weight samples, with its uncertainty taken apart."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

# Mutual information, nats, below which two float64 entropies do not differ.
ROUNDING = 1e-13


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
        return cast(parts[0], dtype)

    def mean_of(values: list[Tensor]) -> Tensor:
        return sum((w * value for w, value in zip(weights, values, strict=True)), torch.zeros_like(values[0]))

    first = parts[0]
    if isinstance(first, GaussianPredictive):
        several = [part for part in parts if isinstance(part, GaussianPredictive)]
        mean = mean_of([part.mean for part in several])
        epistemic = mean_of([part.epistemic + (part.mean - mean).square() for part in several])
        return cast(GaussianPredictive(mean, epistemic, mean_of([part.aleatoric for part in several])), dtype)
    classes = [part for part in parts if isinstance(part, ClassPredictive)]
    probs = mean_of([part.probs for part in classes])
    variance = mean_of([part.variance + (part.probs - probs).square() for part in classes])
    aleatoric = mean_of([part.aleatoric for part in classes])
    return cast(of_classes(probs, variance, aleatoric, first.class_axis), dtype)


def of_classes(probs: Tensor, variance: Tensor, aleatoric: Tensor, class_axis: int) -> ClassPredictive:
    """Return the predictive of averaged probabilities, their variance and the mean entropy of single samples."""
    # Counted from the end, the axis is the same with and without a sample axis.
    entropy = _entropy(probs, class_axis if class_axis < 0 else class_axis - probs.ndim)
    # Entropy is concave, so its mean over samples is no larger than that of the mean: anything else is rounding.
    information = entropy - aleatoric
    information = torch.where(information < ROUNDING, 0.0, information)
    return ClassPredictive(probs, variance, entropy, entropy - information, information, class_axis)


def cast(found: Predictive, dtype: torch.dtype | None) -> Predictive:
    """Return the predictive with all its tensors in a dtype; as it is if that is None."""
    values = ((field.name, getattr(found, field.name)) for field in fields(found))
    tensors: dict[str, Any] = {name: value.to(dtype) for name, value in values if isinstance(value, Tensor)}
    return found if dtype is None else replace(found, **tensors)


def _entropy(probs: Tensor, axis: int) -> Tensor:
    """Entropy of probabilities, over the class axis; nats. A probability of zero adds nothing."""
    return torch.special.entr(probs).sum(axis)

"""What the outputs of a network say about the data: log-likelihoods, their curvature, and predictives.

Outputs of one weight vector are [N, ...] of any shape, N examples first; those of weight samples have the sample axis
in front, [S, N, ...]. The axes after N belong to the example: sums within an example run over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .gaussian import Gaussian, UnfittedGaussian, fitted_noise_std, per_example
from .heteroscedastic import HeteroscedasticGaussian

__all__ = [
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Likelihood",
    "UnfittedGaussian",
    "fitted_noise_std",
    "from_dict",
    "likelihood_of",
]

IGNORED = -100  # torch's ignore_index
# Torch leaves labels of -100 out of outputs [N, C] unless told of another value to ignore; none is a label.
NEVER = torch.iinfo(torch.int64).min


@dataclass(frozen=True)
class Categorical:
    """Classes by the softmax of the outputs.

    Labels have the outputs' shape without the class axis. Where the outputs have extra axes (pixels, tokens), a label
    of -100 leaves its position out.

    Args:
        class_axis: of the outputs [N, ...] of one weight vector: -1 for [N, ..., C], 1 for [N, C, H, W].

    Raises:
        ValueError: if it is the axis of the examples.
    """

    class_axis: int = -1
    kind: ClassVar[Literal["categorical"]] = "categorical"

    def __post_init__(self) -> None:
        if not isinstance(self.class_axis, int) or isinstance(self.class_axis, bool) or self.class_axis == 0:
            raise ValueError(
                f"class_axis must be the number of an axis of the outputs, and not 0, the examples'; "
                f"got {self.class_axis!r}"
            )

    def _axis(self, n_axes: int) -> int:
        """The class axis counted from the end, for outputs that have `n_axes` axes without sample axes."""
        return self.class_axis if self.class_axis < 0 else self.class_axis - n_axes

    def nll(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of labels under logits [N, ...], summed over everything, []; nats.

        Differentiable.
        """
        if outputs.ndim == 2:
            return F.cross_entropy(outputs, y, reduction="sum", ignore_index=NEVER)
        axis = self._axis(outputs.ndim)
        if axis == -1:
            return F.cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction="sum", ignore_index=IGNORED)
        return F.cross_entropy(outputs.movedim(axis, 1), y, reduction="sum", ignore_index=IGNORED)

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the log-probability of labels under logits [..., N, ...], summed within examples, [..., N]; nats.

        Positions whose label is -100 add nothing, where there are extra axes.
        """
        axis = self._axis(y.ndim + 1)
        ignored = y == (IGNORED if y.ndim > 1 else NEVER)
        labels = y.masked_fill(ignored, 0).unsqueeze(axis)
        labels = labels.expand(*outputs.shape[: outputs.ndim - labels.ndim], *labels.shape)
        log_p = outputs.log_softmax(axis).gather(axis, labels).squeeze(axis)
        return per_example(log_p.masked_fill(ignored, 0.0), y.ndim - 1)

    def kl(self, outputs: Tensor, other: Tensor, *, sample_axes: int = 1) -> Tensor:
        """Return the Kullback-Leibler divergence of the predictives of logits from those of other logits; nats.

        Args:
            outputs: logits, [S, N, ...].
            other: logits of the same shape.
            sample_axes: how many axes stand before that of the examples; 0 for [N, ...].

        Returns:
            Summed within each example, [S, N]. Positions that labels leave out are counted.

        Raises:
            ValueError: if that leaves no class axis.
        """
        axis = self._sample_axis(outputs, sample_axes)
        log_p = outputs.log_softmax(axis)
        divergence = (log_p.exp() * (log_p - other.log_softmax(axis))).sum(axis)
        return per_example(divergence, divergence.ndim - sample_axes - 1)

    def curvature(self, outputs: Tensor, u: Tensor, y: Tensor | None = None) -> Tensor:
        """Return H u, of the shape of u, with H = diag(p) - p p^T the Hessian of the NLL in the logits.

        Args:
            outputs: logits of one weight vector, [N, ...].
            u: of that shape, further axes in front allowed.
            y: labels; with them, positions that they leave out (-100) have no curvature.
        """
        axis = self._axis(outputs.ndim)
        p = outputs.softmax(axis)
        pu = p * u
        return self._kept(pu - p * pu.sum(axis, keepdim=True), y, axis)

    def curvature_sqrt(self, outputs: Tensor, u: Tensor, y: Tensor | None = None) -> Tensor:
        """Return L u, of the shape of u, with L L^T = H: L = diag(sqrt p) - p sqrt(p)^T. Arguments as `curvature`'s."""
        axis = self._axis(outputs.ndim)
        p = outputs.softmax(axis)
        root_u = p.sqrt() * u
        return self._kept(root_u - p * root_u.sum(axis, keepdim=True), y, axis)

    def _kept(self, values: Tensor, y: Tensor | None, axis: int) -> Tensor:
        """Values [..., N, ...], zero where the labels leave a position out; there are none without extra axes."""
        return values if y is None or y.ndim == 1 else values.masked_fill((y == IGNORED).unsqueeze(axis), 0.0)

    def predictions(self, outputs: Tensor, *, sample_axes: int = 1) -> Tensor:
        """Return the probabilities of logits [S, N, ...], of their shape.

        Args:
            outputs: logits.
            sample_axes: how many axes stand before that of the examples; 0 for [N, ...]. It only matters for a class
                axis that is counted from the front.
        """
        return outputs.softmax(self.class_axis if self.class_axis < 0 else self._sample_axis(outputs, sample_axes))

    def _sample_axis(self, outputs: Tensor, sample_axes: int) -> int:
        """The class axis counted from the end, for outputs with so many axes before that of the examples."""
        n_axes = outputs.ndim - sample_axes
        axis = self._axis(n_axes)
        if not 1 <= n_axes + axis < n_axes:
            raise ValueError(
                f"outputs {list(outputs.shape)} with sample_axes={sample_axes} have no class axis {self.class_axis}: "
                "give sample_axes=0 for the outputs of one weight vector"
            )
        return axis

    def check(self, outputs: Tensor, y: Tensor, *, part: bool = False) -> None:
        """Raise ValueError if labels are not int64 class indices of the outputs' shape without the class axis.

        Args:
            outputs: of one weight vector, [N, ...]; only their shape matters.
            y: labels.
            part: whether there are more data, so that all labels of these may be -100 where that leaves positions out.
        """
        shape, axis = list(outputs.shape), self._axis(outputs.ndim) + outputs.ndim
        if outputs.ndim < 2 or (1 <= axis < outputs.ndim and shape[axis] < 2):
            raise ValueError(
                f"classification needs outputs [N, C], or with extra axes, of C >= 2 logits; the model gives {shape}. "
                "A binary network needs two outputs."
            )
        if not 1 <= axis < outputs.ndim:
            raise ValueError(f"class_axis={self.class_axis} is not an axis after the first of the outputs {shape}")
        expected = shape[:axis] + shape[axis + 1 :]
        if y.dtype != torch.int64 or list(y.shape) != expected:
            raise ValueError(f"labels must be int64 {expected}; got {y.dtype} {list(y.shape)}{self._hint(outputs, y)}")
        extra = y.ndim > 1
        counted = y[y != IGNORED] if extra else y
        if not counted.numel():
            if part:
                return
            raise ValueError(f"every label is {IGNORED}, which leaves its position out: nothing is left to learn from")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= shape[axis]:
            raise ValueError(
                f"labels run from {low} to {high}, but the model has {shape[axis]} outputs: "
                f"they must lie in 0 .. {shape[axis] - 1}" + (f", or be {IGNORED} to be left out" if extra else "")
            )

    def _hint(self, outputs: Tensor, y: Tensor) -> str:
        """What labels of a wrong dtype or shape probably need."""
        shape, labels = list(outputs.shape), list(y.shape)
        axis = self._axis(outputs.ndim) + outputs.ndim
        fitting = [a for a in range(1, len(shape)) if shape[:a] + shape[a + 1 :] == labels]
        if fitting and axis not in fitting:
            return f"; they fit outputs with classes on axis {fitting[0]}: use Categorical(class_axis={fitting[0]})"
        if labels == shape:
            return f" (class indices, not one-hot rows: use y.argmax({self.class_axis}))"
        if labels == [*shape[:axis], *shape[axis + 1 :], 1]:
            return " (use y[..., 0])"
        return " (use y.long())" if axis in fitting else ""

    def to_dict(self) -> dict[str, Any]:
        """Return kind and fields, fit for JSON; `from_dict` reads it."""
        return {"kind": self.kind, "class_axis": self.class_axis}


Likelihood = Categorical | Gaussian | HeteroscedasticGaussian


def likelihood_of(
    kind: str | Likelihood, noise_std: float | Sequence[float] | Literal["per_output", "head"] | None
) -> Likelihood | UnfittedGaussian:
    """Return the likelihood that was asked for, or an `UnfittedGaussian` for noise yet to be fitted.

    Args:
        kind: "classification", "regression", or a likelihood.
        noise_std: of a regression: a number, one number for each output, None or "per_output" to fit either, or
            "head" if the network predicts it (`HeteroscedasticGaussian`).

    Raises:
        ValueError: if the likelihood is unknown, or `noise_std` is, or does not belong to it.
    """
    if noise_std is not None and kind != "regression":
        raise ValueError('noise_std belongs to likelihood="regression"; give it inside Gaussian(noise_std) otherwise')
    if isinstance(kind, Likelihood):
        return kind
    if kind == "classification":
        return Categorical()
    if kind != "regression":
        raise ValueError(
            'likelihood must be "classification", "regression", Categorical(), Gaussian(...) or '
            f"HeteroscedasticGaussian(); got {kind!r}"
        )
    if noise_std is None:
        return UnfittedGaussian()
    if isinstance(noise_std, str):
        named: dict[str, Likelihood | UnfittedGaussian]
        named = {"per_output": UnfittedGaussian(per_output=True), "head": HeteroscedasticGaussian()}
        if noise_std not in named:
            raise ValueError(f"noise_std must be numbers, {' or '.join(map(repr, named))}; got {noise_std!r}")
        return named[noise_std]
    values: Any = noise_std  # a list or a tensor is made a tuple there
    return Gaussian(values)


def from_dict(saved: Mapping[str, Any]) -> Likelihood:
    """Return the likelihood whose `to_dict` this is; tuples may have become lists, as JSON makes them.

    Raises:
        ValueError: if the kind is unknown, or its fields are not those of this version.
    """
    known = {each.kind: each for each in (Categorical, Gaussian, HeteroscedasticGaussian)}
    values = dict(saved)
    kind = values.pop("kind", None)
    if kind not in known:
        raise ValueError(f"unknown likelihood {kind!r}; this version of fiberbnn knows {', '.join(known)}")
    try:
        return known[kind](**values)
    except TypeError as error:
        raise ValueError(f"the likelihood {kind!r} has no fields {sorted(values)}: {error}") from error

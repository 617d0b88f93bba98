"""A whole perceptron and the average over its weight samples in one call; under `torch.vmap` as api.py says."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..autocast import no_autocast
from ..backend import Impl
from ..mlp import MLPLayout
from . import reference
from .api import FourTensors, as_gaussian_sums, check_noise, fake_sums, fused_or_not, sums_rule
from .sums import ClassSums, GaussianSums


def mlp_class_sums(weights: Tensor, x: Tensor, layout: MLPLayout, *, impl: Impl = "auto") -> ClassSums:
    """Return the class probabilities of a perceptron, summed over weight samples.

    Neither activations nor logits of all samples are held at once: memory is that of the result and of one block. Not
    differentiable: tensors that require gradients are refused unless gradients are off.

    Args:
        weights: flat weights in `MLPLayout`'s order, [S, P].
        x: inputs, [N, D], the dtype and device of the weights.
        layout: widths and activation.
        impl: "auto" (fused on a GPU with Triton, for float32 and up to 64 classes), "reference" or "fused".

    Raises:
        ValueError: if shapes, dtypes or devices disagree, `impl` is unknown, or a gradient is asked for.
        RuntimeError: if `impl` is "fused" and the kernels cannot run there, or not for that dtype or so many classes.
    """
    _check(weights, x, layout)
    fused = fused_or_not(impl, x, layout.widths[-1])
    return ClassSums(len(weights), *_mlp_class_sums_op(weights, x, layout.widths, layout.activation, fused))


def mlp_gaussian_sums(
    weights: Tensor,
    x: Tensor,
    layout: MLPLayout,
    *,
    noise_variance: Tensor | None,
    targets: Tensor | None = None,
    impl: Impl = "auto",
) -> GaussianSums:
    """Return means and noise variances of a perceptron for regression, summed over weight samples.

    Args:
        weights: as in `mlp_class_sums`, like the arguments not named here.
        x: inputs, [N, D].
        layout: widths and activation; the last width is C, or 2 C if the noise is predicted.
        noise_variance: of the C outputs, [C], positive; None if the network predicts it: then the second half of the
            outputs are its logarithms.
        targets: [N, C], where the density of the mixture is wanted.
        impl: "auto", "reference" or "fused".

    Raises:
        ValueError: as `mlp_class_sums`.
        RuntimeError: as `mlp_class_sums`.
    """
    _check(weights, x, layout)
    width = check_noise(len(x), layout.widths[-1], noise_variance, targets, x)
    fused = fused_or_not(impl, x, width)
    parts = _mlp_gaussian_sums_op(weights, x, layout.widths, layout.activation, noise_variance, targets, fused)
    return as_gaussian_sums(len(weights), parts)


def _check(weights: Tensor, x: Tensor, layout: MLPLayout) -> None:
    if weights.ndim != 2 or weights.shape[1] != layout.n_params or weights.shape[0] < 1:
        raise ValueError(f"weights must be [S, {layout.n_params}] with S > 0; got {list(weights.shape)}")
    if x.ndim != 2 or x.shape[1] != layout.widths[0] or x.shape[0] < 1:
        raise ValueError(f"x must be [N, {layout.widths[0]}] with N > 0; got {list(x.shape)}")
    if not weights.is_floating_point() or weights.dtype != x.dtype or weights.device != x.device:
        raise ValueError(
            f"weights and x must share a float dtype and a device; "
            f"got {weights.dtype} on {weights.device} and {x.dtype} on {x.device}"
        )
    if torch.is_grad_enabled() and (weights.requires_grad or x.requires_grad):
        raise ValueError("no autograd formula: detach the inputs, or call this under torch.no_grad()")


def _layout(widths: Sequence[int], activation: str) -> MLPLayout:
    return MLPLayout(tuple(widths), cast(Any, activation))


@torch.library.custom_op("fiberbnn::mlp_class_sums", mutates_args=())
def _mlp_class_sums_op(weights: Tensor, x: Tensor, widths: Sequence[int], activation: str, fused: bool) -> FourTensors:
    if fused:
        from . import fused_perceptron as kernels

        return kernels.mlp_class_sums(weights, x, _layout(widths, activation))
    with no_autocast(x.device):
        return reference.mlp_class_sums(weights, x, _layout(widths, activation))


@_mlp_class_sums_op.register_fake
def _(weights: Tensor, x: Tensor, widths: Sequence[int], activation: str, fused: bool) -> FourTensors:
    return fake_sums(x, x.shape[0], widths[-1], x.shape[0])


@torch.library.custom_op("fiberbnn::mlp_gaussian_sums", mutates_args=())
def _mlp_gaussian_sums_op(
    weights: Tensor,
    x: Tensor,
    widths: Sequence[int],
    activation: str,
    noise_variance: Tensor | None,
    targets: Tensor | None,
    fused: bool,
) -> FourTensors:
    if fused:
        from . import fused_perceptron as kernels

        return kernels.mlp_gaussian_sums(weights, x, _layout(widths, activation), noise_variance, targets)
    with no_autocast(x.device):
        return reference.mlp_gaussian_sums(weights, x, _layout(widths, activation), noise_variance, targets)


@_mlp_gaussian_sums_op.register_fake
def _(
    weights: Tensor,
    x: Tensor,
    widths: Sequence[int],
    activation: str,
    noise_variance: Tensor | None,
    targets: Tensor | None,
    fused: bool,
) -> FourTensors:
    width = widths[-1] if noise_variance is not None else widths[-1] // 2
    return fake_sums(x, x.shape[0], width, 0 if targets is None else x.shape[0])


_mlp_class_sums_op.register_vmap(sums_rule(_mlp_class_sums_op, rows=(1,)))
_mlp_gaussian_sums_op.register_vmap(sums_rule(_mlp_gaussian_sums_op, rows=(1, 5)))

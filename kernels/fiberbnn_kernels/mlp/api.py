"""Outputs, likelihoods and gradients of a multilayer perceptron for many weight vectors at once."""

from typing import cast, get_args

import torch
from torch import Tensor

from ..autocast import no_autocast
from ..backend import Impl, choose_fused
from . import reference
from .layout import Activation, MLPLayout
from .paths import path_for, shares_for
from .reference import Likelihood
from .table import architecture_of, launch_for, multiprocessors_of, why_not_in_table


def mlp_forward(weights: Tensor, x: Tensor, layout: MLPLayout, *, impl: Impl = "auto") -> Tensor:
    """Return the outputs of the perceptron for each weight vector, [S, N, C].

    Not differentiable: weights and inputs that require gradients are refused unless gradients are off. Under
    `torch.vmap` over weights or over inputs the copies run as one call, over both at once they are refused.

    Args:
        weights: flat weights in `MLPLayout`'s order, [S, P].
        x: inputs, [N, D], the dtype and device of the weights.
        layout: widths and activation.
        impl: "auto" or "reference"; there is no fused kernel of this operation.

    Raises:
        ValueError: if shapes, dtypes or devices disagree, `impl` is unknown, or a gradient is asked for.
        RuntimeError: if `impl` is "fused", or for vmap over weights and inputs.
    """
    check(weights, x, layout, impl)
    if impl == "fused":
        raise RuntimeError('no fused kernel of the outputs alone exists; use impl="auto" or "reference"')
    return _forward_op(weights, x, layout.widths, layout.activation)


def mlp_nll_and_grad(
    weights: Tensor,
    x: Tensor,
    y: Tensor,
    layout: MLPLayout,
    *,
    likelihood: Likelihood,
    noise_precision: float = 1.0,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """Return the negative log-likelihood of the data for each weight vector, [K], and its gradient, [K, P].

    Both are sums over the N examples, in nats; the Gaussian one has its normalising constants:
    sum_n ( lambda/2 |y_n - f(x_n)|^2 + C/2 log(2 pi / lambda) ).

    Not differentiable. Under `torch.vmap` over weights the copies run as one call; vmap over the data is refused.
    The kernel cuts the rows into shares and adds these in order: the same call gives the same bits, but another
    number of weight vectors, or another device, may give other last bits.

    Args:
        weights: flat weights in `MLPLayout`'s order, [K, P].
        x: inputs, [N, D], the dtype and device of the weights.
        y: class indices from 0 to C - 1, [N], int64 ("categorical"), or targets, [N, C], of x's dtype
            ("gaussian"). What the kernel is given as a label and is none makes the likelihoods NaN.
        layout: widths and activation.
        likelihood: "categorical" (the outputs are logits) or "gaussian" (the outputs are means).
        noise_precision: lambda = 1/variance of the Gaussian noise; not used by "categorical".
        impl: "auto" (the kernel on a GPU with Triton, for float32, where `paths.path_for` expects it to be quicker),
            "reference" or "fused".

    Raises:
        ValueError: if shapes, dtypes or devices disagree, the likelihood or `impl` is unknown, the noise precision is
            not positive and finite, or a gradient is asked for.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there, or not for this perceptron or dtype; if the
            reference is given a label out of range; for vmap over the data.
    """
    check(weights, x, layout, impl)
    n_rows, n_out = x.shape[0], layout.widths[-1]
    if likelihood not in get_args(Likelihood):
        raise ValueError(f"likelihood must be one of {get_args(Likelihood)}; got {likelihood!r}")
    if likelihood == "categorical" and (y.shape != (n_rows,) or y.dtype != torch.int64):
        raise ValueError(f"labels must be int64 of shape [{n_rows}]; got {y.dtype} {list(y.shape)}")
    if likelihood == "gaussian":
        if y.shape != (n_rows, n_out) or y.dtype != x.dtype:
            raise ValueError(f"targets must be {x.dtype} [{n_rows}, {n_out}]; got {y.dtype} {list(y.shape)}")
        if not 0.0 < noise_precision < float("inf"):
            raise ValueError(f"noise_precision must be positive and finite; got {noise_precision}")
    if y.device != x.device:
        raise ValueError(f"y is on {y.device}, x on {x.device}; move them to one device")
    return _nll_and_grad_op(weights, x, y, layout.widths, layout.activation, likelihood, noise_precision, impl)


def check(weights: Tensor, x: Tensor, layout: MLPLayout, impl: str) -> None:
    """Raise if weights [K, P] and inputs [N, D] do not fit the layout, or `impl` is unknown."""
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {get_args(Impl)}; got {impl!r}")
    if weights.ndim != 2 or weights.shape[1] != layout.n_params or weights.shape[0] < 1:
        raise ValueError(f"weights must be [K, {layout.n_params}] with K > 0; got {list(weights.shape)}")
    if x.ndim != 2 or x.shape[1] != layout.widths[0] or x.shape[0] < 1:
        raise ValueError(f"x must be [N, {layout.widths[0]}] with N > 0; got {list(x.shape)}")
    if not weights.is_floating_point() or weights.dtype != x.dtype or weights.device != x.device:
        raise ValueError(
            f"weights and x must share a float dtype and a device; "
            f"got {weights.dtype} on {weights.device} and {x.dtype} on {x.device}"
        )
    if torch.is_grad_enabled() and (weights.requires_grad or x.requires_grad):
        raise ValueError("no autograd formula: detach the inputs, or call this under torch.no_grad()")


def kernel_wanted(impl: Impl, weights: Tensor, x: Tensor, layout: MLPLayout) -> bool:
    """Return whether a kernel on data tiles is to run, for this dtype and perceptron, on this device.

    Raises:
        RuntimeError: if `impl` is "fused" and the kernel cannot run.
    """
    if impl == "reference" or (impl == "auto" and weights.device.type != "cuda"):
        return False
    if weights.dtype != torch.float32:
        reason: str | None = f"the kernel is for float32 only; got {weights.dtype}"
    else:
        reason = why_not_in_table(layout, len(x), architecture_of(weights.device))
    if impl == "fused" and reason is not None:
        raise RuntimeError(f'impl="fused" cannot run: {reason}')
    return choose_fused(impl, weights.device) and reason is None


def path_of(weights: Tensor, x: Tensor, layout: MLPLayout, n_steps: int | None = None) -> str:
    """Return `path_for`'s answer where these tensors are: for calls of so many steps, None for a gradient alone."""
    device = weights.device
    return path_for(layout, len(x), len(weights), architecture_of(device), multiprocessors_of(device), n_steps)


# Opaque to the compiler on purpose: nothing here could be fused, and a triton_op needs a driver to be traced.
@torch.library.custom_op("fiberbnn::mlp_forward", mutates_args=())
def _forward_op(weights: Tensor, x: Tensor, widths: list[int], activation: str) -> Tensor:
    with no_autocast(weights.device):
        return reference.mlp_forward(weights, x, MLPLayout(tuple(widths), cast(Activation, activation)))


@_forward_op.register_fake
def _(weights: Tensor, x: Tensor, widths: list[int], activation: str) -> Tensor:
    return weights.new_empty(weights.shape[0], x.shape[0], widths[-1])


@_forward_op.register_vmap
def _(
    info: object, in_dims: tuple[int | None, ...], weights: Tensor, x: Tensor, widths: list[int], activation: str
) -> tuple[Tensor, int]:
    of_weights, of_x = in_dims[:2]
    if of_weights is not None and of_x is not None:
        raise RuntimeError("mlp_forward has no vmap rule over weights and inputs at once: give every copy its own call")
    if of_weights is not None:
        batch = weights.movedim(of_weights, 0)
        out = _forward_op(batch.flatten(0, 1), x, widths, activation)
        return out.unflatten(0, batch.shape[:2]), 0
    assert of_x is not None
    batch = x.movedim(of_x, 0)
    out = _forward_op(weights, batch.flatten(0, 1), widths, activation)
    return out.unflatten(1, batch.shape[:2]), 1


@torch.library.custom_op("fiberbnn::mlp_nll_and_grad", mutates_args=())
def _nll_and_grad_op(
    weights: Tensor, x: Tensor, y: Tensor, widths: list[int], activation: str, likelihood: str,
    noise_precision: float, impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    layout, kind = MLPLayout(tuple(widths), cast(Activation, activation)), cast(Likelihood, likelihood)
    if kernel_wanted(cast(Impl, impl), weights, x, layout) and (
        impl == "fused" or path_of(weights, x, layout) != "batched"
    ):
        from . import fused as kernels

        launch = launch_for(layout, architecture_of(weights.device))
        assert launch is not None
        with no_autocast(weights.device):
            return kernels.mlp_nll_and_grad(
                weights.contiguous(), x.contiguous(), y.contiguous(), layout, likelihood=kind,
                noise_precision=noise_precision, launch=launch,
                n_shares=shares_for(launch, len(x), len(weights), multiprocessors_of(weights.device)),
            )  # fmt: skip
    with no_autocast(weights.device):
        return reference.mlp_nll_and_grad(weights, x, y, layout, likelihood=kind, noise_precision=noise_precision)


@_nll_and_grad_op.register_fake
def _(
    weights: Tensor, x: Tensor, y: Tensor, widths: list[int], activation: str, likelihood: str,
    noise_precision: float, impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return weights.new_empty(weights.shape[0]), torch.empty_like(weights, memory_format=torch.contiguous_format)


@_nll_and_grad_op.register_vmap
def _(
    info: object, in_dims: tuple[int | None, ...], weights: Tensor, x: Tensor, y: Tensor, widths: list[int],
    activation: str, likelihood: str, noise_precision: float, impl: str,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:  # fmt: skip
    of_weights, of_x, of_y = in_dims[:3]
    if of_weights is None or of_x is not None or of_y is not None:
        raise RuntimeError("mlp_nll_and_grad has a vmap rule over weights alone, not over data: loop over these")
    batch = weights.movedim(of_weights, 0)
    nll, grad = _nll_and_grad_op(batch.flatten(0, 1), x, y, widths, activation, likelihood, noise_precision, impl)
    return (nll.unflatten(0, batch.shape[:2]), grad.unflatten(0, batch.shape[:2])), (0, 0)

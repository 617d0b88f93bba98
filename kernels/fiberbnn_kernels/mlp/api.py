"""Outputs, likelihoods and gradients of a multilayer perceptron for many weight vectors at once."""

from typing import get_args

import torch
from torch import Tensor

from ..backend import Impl
from . import reference
from .layout import MLPLayout
from .reference import Likelihood


def mlp_forward(weights: Tensor, x: Tensor, layout: MLPLayout, *, impl: Impl = "auto") -> Tensor:
    """Return the outputs of the perceptron for each weight vector, [S, N, C].

    Not differentiable: weights and inputs that require gradients are refused unless gradients are off.

    Args:
        weights: flat weights in `MLPLayout`'s order, [S, P].
        x: inputs, [N, D], the dtype and device of the weights.
        layout: widths and activation.
        impl: "auto" or "reference"; there is no fused kernel of this operation.

    Raises:
        ValueError: if shapes, dtypes or devices disagree, or a gradient is asked for.
        RuntimeError: if `impl` is "fused".
    """
    check(weights, x, layout, impl)
    return reference.mlp_forward(weights, x, layout)


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

    Args:
        weights: flat weights in `MLPLayout`'s order, [K, P].
        x: inputs, [N, D], the dtype and device of the weights.
        y: class indices from 0 to C - 1, [N], int64 ("categorical"), or targets, [N, C], of x's dtype
            ("gaussian").
        layout: widths and activation.
        likelihood: "categorical" (the outputs are logits) or "gaussian" (the outputs are means).
        noise_precision: lambda = 1/variance of the Gaussian noise; not used by "categorical".
        impl: "auto" or "reference"; there is no fused kernel of this operation.

    Raises:
        ValueError: if shapes, dtypes or devices disagree, the likelihood is unknown, the noise precision is
            not positive and finite, or a gradient is asked for.
        RuntimeError: if `impl` is "fused", or a label is out of range.
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
    return reference.mlp_nll_and_grad(weights, x, y, layout, likelihood=likelihood, noise_precision=noise_precision)


def check(weights: Tensor, x: Tensor, layout: MLPLayout, impl: str) -> None:
    """Raise if weights [K, P] and inputs [N, D] do not fit the layout, or `impl` is not to be had."""
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {get_args(Impl)}; got {impl!r}")
    if impl == "fused":
        raise RuntimeError('no fused kernel of the perceptron exists; use impl="auto" or "reference"')
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

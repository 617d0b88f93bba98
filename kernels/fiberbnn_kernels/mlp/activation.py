"""Activations with in-place forward and backward, one pass over memory each."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .layout import Activation

_aten = torch.ops.aten


class ActivationPass(NamedTuple):
    """How to run an activation through preallocated buffers.

    `forward(z, out)` writes act(z); `backward(grad, saved, out)` writes grad * act'(z), where saved is z if
    `keeps_input`, else the activation itself (then z and out may be one buffer).
    """

    keeps_input: bool
    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor], object]


ACTIVATION_PASSES: dict[Activation, ActivationPass] = {
    "tanh": ActivationPass(
        False,
        lambda z, out: torch.tanh(z, out=out),
        lambda grad, a, out: _aten.tanh_backward.grad_input(grad, a, grad_input=out),
    ),
    "relu": ActivationPass(
        False,
        lambda z, out: torch.clamp_min(z, 0.0, out=out),
        lambda grad, a, out: _aten.threshold_backward.grad_input(grad, a, 0.0, grad_input=out),
    ),
    "silu": ActivationPass(
        True,
        lambda z, out: _aten.silu.out(z, out=out),
        lambda grad, z, out: _aten.silu_backward.grad_input(grad, z, grad_input=out),
    ),
    "gelu": ActivationPass(
        True,
        # Not gelu.out: for float32 on the CPU it ignores the strides of `out` (seen in torch 2.15).
        lambda z, out: out.copy_(_aten.gelu(z)),
        lambda grad, z, out: out.copy_(_aten.gelu_backward(grad, z)),
    ),
}

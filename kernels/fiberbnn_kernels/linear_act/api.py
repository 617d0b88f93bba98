"""A linear layer with activation for every weight sample: the layer that predictions are made of."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ..autocast import no_autocast
from ..backend import Impl, choose_fused
from ..mapped import VmapInfo, join, split
from . import reference

LinearActivation = Literal["none", "tanh", "relu", "silu", "gelu"]

# Beyond this, tiles of a matrix library beat the kernel's, which multiplies in exact float32 (predicted, not measured).
MAX_FUSED_WIDTH = 256


def linear_act(
    x: Tensor, weight: Tensor, bias: Tensor, activation: LinearActivation = "none", *, impl: Impl = "auto"
) -> Tensor:
    """Return act(x W_s^T + b_s) for every weight sample s, [S, N, O].

    Not differentiable: tensors that require gradients are refused unless gradients are off. Under `torch.vmap` one
    call does all copies: their inputs become rows where the layer is the same for all, else they become samples.

    Args:
        x: inputs of all samples, [N, I], or of each, [S, N, I].
        weight: [S, O, I].
        bias: [S, O].
        activation: "none", "tanh", "relu", "silu" or "gelu" (exact, with erf).
        impl: "auto" (fused on a GPU with Triton, for float32 and widths up to 256), "reference" or "fused".

    Raises:
        ValueError: if shapes, dtypes or devices disagree, the activation or `impl` is unknown, or a gradient is asked
            for.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there, or the dtype is not float32.
    """
    check_layer(x, weight, bias, shared=True)
    if activation not in get_args(LinearActivation):
        raise ValueError(f"activation must be one of {get_args(LinearActivation)}; got {activation!r}")
    fused = choose_fused(impl, x.device)
    if fused and x.dtype != torch.float32:
        if impl == "fused":
            raise RuntimeError(f'impl="fused" cannot run: the kernel computes in float32, not {x.dtype}')
        fused = False
    fused = fused and (impl == "fused" or max(weight.shape[1:]) <= MAX_FUSED_WIDTH)
    return _linear_act_op(x, weight, bias, activation, fused)


def check_layer(h: Tensor, weight: Tensor, bias: Tensor, *, shared: bool) -> None:
    """Raise ValueError unless h [S, N, I] (or [N, I] if `shared`), weight [S, O, I], bias [S, O] fit; see above."""
    if weight.ndim != 3 or bias.shape != weight.shape[:2]:
        raise ValueError(
            f"weight must be [S, O, I] and bias [S, O]; got {list(weight.shape)} and {list(bias.shape)}",
        )
    n_samples, n_out, n_in = weight.shape
    fits = (h.ndim == 2 and shared) or (h.ndim == 3 and h.shape[0] == n_samples)
    if not fits or h.shape[-1] != n_in:
        wanted = f"[{n_samples}, N, {n_in}]" + (f" or [N, {n_in}]" if shared else "")
        raise ValueError(f"the layer's inputs must be {wanted}; got {list(h.shape)}")
    if min(n_samples, n_out, n_in, h.shape[-2]) < 1:
        raise ValueError(f"no axis may be empty; got inputs {list(h.shape)} and weight {list(weight.shape)}")
    if not h.is_floating_point() or any(t.dtype != h.dtype or t.device != h.device for t in (weight, bias)):
        raise ValueError(
            f"inputs, weight and bias must share a float dtype and a device; got {h.dtype} on {h.device}, "
            f"{weight.dtype} on {weight.device}, {bias.dtype} on {bias.device}"
        )
    if torch.is_grad_enabled() and any(t.requires_grad for t in (h, weight, bias)):
        raise ValueError("no autograd formula: detach the inputs, or call this under torch.no_grad()")


@torch.library.custom_op("fiberbnn::linear_act", mutates_args=())
def _linear_act_op(x: Tensor, weight: Tensor, bias: Tensor, activation: str, fused: bool) -> Tensor:
    if fused:
        from . import fused as kernels

        return kernels.linear_act(x, weight, bias, activation)
    with no_autocast(x.device):
        return reference.linear_act(x, weight, bias, activation)


@_linear_act_op.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, activation: str, fused: bool) -> Tensor:
    return x.new_empty(weight.shape[0], x.shape[-2], weight.shape[1])


@_linear_act_op.register_vmap
def _(
    info: VmapInfo,
    in_dims: Sequence[int | None],
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    fused: bool,
) -> tuple[Tensor, int]:
    size, (x_dim, weight_dim, bias_dim) = info.batch_size, in_dims[:3]
    if weight_dim is None and bias_dim is None:
        rows = join(x, x_dim, size, axis=x.ndim - 3)
        return split(_linear_act_op(rows, weight, bias, activation, fused), size, axis=1), 1
    weight, bias = join(weight, weight_dim, size), join(bias, bias_dim, size)
    if x.ndim == 3 and x_dim is not None:  # the same inputs for all samples of a copy
        x = x.movedim(x_dim, 0).repeat_interleave(len(weight) // size, dim=0)
    elif x.ndim > 2:
        x = join(x, x_dim, size)
    return split(_linear_act_op(x, weight, bias, activation, fused), size), 0

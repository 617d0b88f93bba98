"""Fused layers that would give wrong values or no derivatives, and the plain ones that run in their place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


class PlainLayers:
    """Runs a module without the fused layers that would not do.

    * nn.MultiheadAttention and the transformer layers have a fast path in evaluation mode without gradients. It gives
      other values where inputs are masked, and has no rule for vmap.
    * cuDNN's recurrent layers have no backward in evaluation mode, and no second derivatives.
    * Fused kernels of `scaled_dot_product_attention` have no second derivatives, and some no rule for vmap.
    * The second derivatives of torch's fused weight norm leave out how the norm depends on the direction: they are
      wrong without a word (seen in torch 2.15).

    The last two only matter under transforms.

    Args:
        model: the module that will run.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._attends = any(isinstance(module, nn.MultiheadAttention) for module in modules)
        self._recurs = any(isinstance(module, nn.RNNBase) for module in modules)
        self._weight_norms = [module for module in modules if isinstance(module, _WeightNorm)]

    @contextmanager
    def __call__(self, *, transforms: bool = False) -> Iterator[None]:
        """Inside, plain layers run; with `transforms`, those that have derivatives of all orders and vmap."""
        with ExitStack() as stack:
            if self._attends and torch.backends.mha.get_fastpath_enabled():
                torch.backends.mha.set_fastpath_enabled(False)
                stack.callback(torch.backends.mha.set_fastpath_enabled, True)
            if self._recurs and torch.backends.cudnn.enabled:
                # Not by cudnn.flags(), which also resets the precision of matrix products.
                stack.callback(setattr, torch.backends.cudnn, "enabled", True)
                torch.backends.cudnn.enabled = False
            if transforms:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                for module in self._weight_norms:
                    if "forward" not in vars(module):
                        vars(module)["forward"] = partial(_weight_norm, dim=module.dim)
                        stack.callback(vars(module).pop, "forward")
            yield


def check_no_old_norms(model: nn.Module) -> None:
    """Raise ValueError if a layer has torch's old weight or spectral norm: hooks that leave computed weights behind."""
    for name, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, (WeightNorm, SpectralNorm)):
                kind = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
                raise ValueError(
                    f"layer {name!r} has the old torch.nn.utils.{kind}, which cannot be copied: "
                    f"use torch.nn.utils.parametrizations.{kind}, which reads its saved weights"
                )


def _weight_norm(weight_g: Tensor, weight_v: Tensor, *, dim: int) -> Tensor:
    """Weights of lengths g along the directions v, as torch defines them: one length if dim is -1."""
    if dim == -1:
        return weight_v * (weight_g / weight_v.norm())
    rows = weight_v.transpose(0, dim)
    return weight_v * (weight_g / rows.reshape(len(rows), -1).norm(dim=1).view_as(weight_g))

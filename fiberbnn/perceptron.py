"""Which modules are plain multilayer perceptrons, for which there are operations on many particles at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fiberbnn_kernels import Activation, MLPLayout

ACTIVATION_NAMES: dict[type[nn.Module], Activation] = {
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
}
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def layout_of(model: nn.Module) -> MLPLayout | None:
    """Return the layout of Linear, activation, ..., Linear with every weight trainable; None for any other module."""
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward or len(model) % 2 == 0:
        return None
    if not all(p.requires_grad for p in model.parameters()) or _has_hooks(model):
        return None
    linears = [module for module in list(model)[::2] if type(module) is nn.Linear and module.bias is not None]
    names = [_activation_name(module) for module in list(model)[1::2]]
    if len(linears) != len(names) + 1 or None in names or len(set(names)) > 1:
        return None
    widths = (linears[0].in_features, *(module.out_features for module in linears))
    layout = MLPLayout(widths, names[0] or "tanh") if names else MLPLayout(widths)
    tied = layout.n_params > sum(p.numel() for p in model.parameters())  # a layer or a weight used twice
    return None if tied else layout


def _activation_name(module: nn.Module) -> Activation | None:
    """The name of an activation that the perceptron operations know; None for others."""
    if isinstance(module, nn.GELU) and module.approximate != "none":
        return None
    return ACTIVATION_NAMES.get(type(module))


def _has_hooks(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

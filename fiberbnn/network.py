"""A module as a function of flat weights."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fiberbnn_kernels import Activation, MLPLayout, mlp_forward

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


class Network:
    """The trained weights of a module as one vector, and the module as a function of it.

    The module is copied and put in evaluation mode; the one that was given is never changed. Trainable
    parameters make up the weights, in `torch.nn.utils.parameters_to_vector` order; all else stays as it is.

    Args:
        model: any module that `torch.func.functional_call` can run on a batch [N, ...].

    Attributes:
        weights: the module's present weights, [P].
        n_params: P.
        mlp_layout: where the layers lie, if the module is a plain multilayer perceptron; else None.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: if it has no trainable weights, or they are of several dtypes or on several devices.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
        self.model = copy.deepcopy(model).eval()
        trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError("the model has no trainable weights; set requires_grad=True on those to be walked")
        places = {(p.dtype, p.device) for p in trainable.values()}
        if len(places) > 1:
            raise ValueError(f"all trainable weights must share a dtype and a device; found {sorted(map(str, places))}")
        self.shapes = {name: p.shape for name, p in trainable.items()}
        self.weights = torch.cat([p.detach().reshape(-1) for p in trainable.values()])
        self.n_params = self.weights.numel()
        self.mlp_layout = _mlp_layout(self.model)

    def unflatten(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of one weight vector [P], as views."""
        pieces = weights.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def apply(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return the outputs for one weight vector [P], [N, C]; differentiable, and open to torch.func transforms."""
        return functional_call(self.model, self.unflatten(weights), (x,))

    def __call__(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return the outputs for each weight vector of [S, P], [S, N, C]; without gradients.

        Raises:
            ValueError: if `weights` is not [S, P].
        """
        self.check_weights(weights)
        with torch.no_grad():
            if self.mlp_layout is not None:
                return mlp_forward(weights, x, self.mlp_layout)
            return vmap(self.apply, in_dims=(0, None))(weights, x)

    def apply_each(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return the outputs for each weight vector of [S, P], [S, N, C]; differentiable.

        A perceptron runs as batched matrix products; anything else through `torch.func.vmap`.
        """
        if self.mlp_layout is None:
            return vmap(self.apply, in_dims=(0, None))(weights, x)
        activation = ACTIVATIONS[self.mlp_layout.activation]
        h = x.expand(len(weights), *x.shape)
        for i, at in enumerate(self.mlp_layout.layers()):
            w = weights[:, at.weight : at.bias].unflatten(1, (at.n_out, at.n_in))
            b = weights[:, None, at.bias : at.bias + at.n_out]
            h = torch.baddbmm(b, activation(h) if i else h, w.mT)
        return h

    def check_weights(self, weights: Tensor) -> None:
        """Raise ValueError if `weights` is not [S, P] with S > 0."""
        if weights.ndim != 2 or weights.shape[1] != self.n_params or not len(weights):
            raise ValueError(f"weights must be [S, {self.n_params}] with S > 0; got {list(weights.shape)}")

    def module(self, weights: Tensor) -> nn.Module:
        """Return a copy of the module that carries the weights [P]."""
        model = copy.deepcopy(self.model)
        nn.utils.vector_to_parameters(weights.clone(), [p for p in model.parameters() if p.requires_grad])
        return model


def _mlp_layout(model: nn.Module) -> MLPLayout | None:
    """The layout of Linear, activation, ..., Linear with every weight trainable; None for any other module."""
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

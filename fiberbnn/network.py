"""A module as a function of flat weights."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap
from torch.nn.parameter import is_lazy

from fiberbnn_kernels import MLPLayout, mlp_forward

from . import batch_norm as norms
from . import last_layer
from .batch import Inputs, advising_on_integers, call_arguments, moved, n_rows, outputs_from, take
from .perceptron import ACTIVATIONS, layout_of
from .plain_layers import PlainLayers, check_no_old_norms
from .subset import Subset, chosen_parameters, raised_to_float32


class Network:
    """The trained weights of a module as one vector, and the module as a function of it.

    The module is copied and put in evaluation mode; the one that was given is never changed. Trainable
    parameters make up the weights, in `torch.nn.utils.parameters_to_vector` order; all else stays as it is. One that
    several modules share counts once. Models in bfloat16 or half are computed in float32.

    Particles run one after the other on the CPU and together on CUDA, through `torch.func.vmap`, if the module can;
    plain perceptrons as batched matrix products on either.

    Args:
        model: any module that `torch.func.functional_call` can run on a batch of N rows.
        subset: which trainable parameters make up the weights: None for all, a predicate on (name, parameter), or
            "last_layer", for which `prepare` computes the features of all that comes before it once.
        batch_norm: "frozen" or "refresh"; see `fiberbnn.batch_norm`.
        vectorize: whether particles run together; None for the rule above.
        particles_at_once: how many, at most, when they run together.

    Attributes:
        model: the copy, with all its weights.
        weights: the module's present weights, [P].
        n_params: P.
        shapes: of the parameters that make up the weights, by name.
        mlp_layout: where the layers lie, if the function of the weights is a plain multilayer perceptron; else None.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: if it has no trainable weights, `subset` chooses none of them or its last layer cannot stand alone,
            they are of several dtypes or on several devices, or there is no batch norm to refresh.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        subset: Subset | None = None,
        batch_norm: Literal["frozen", "refresh"] = "frozen",
        vectorize: bool | None = None,
        particles_at_once: int = 16,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
        if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            raise ValueError("the model has lazy layers without weights yet: run one batch through it first")
        check_no_old_norms(model)
        if particles_at_once < 1:
            raise ValueError(f"particles_at_once must be at least 1; got {particles_at_once}")
        self.model = raised_to_float32(copy.deepcopy(model).eval())
        self.subset, self.batch_norm = subset, batch_norm
        self.vectorize, self.particles_at_once = vectorize, particles_at_once
        self._can_run_together: bool | None = None
        trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError("the model has no trainable weights; set requires_grad=True on those to be walked")
        self._head = last_layer.head_of(self.model) if subset == "last_layer" else None
        chosen = chosen_parameters(self.model, trainable, self._head.owns if self._head else subset)
        self._set_aside = [name for name in trainable if name not in chosen]
        for name in self._set_aside:
            trainable[name].requires_grad_(False)
        norms.check_policy(batch_norm, self.model, subset)
        # What runs: the module itself, or its last layer; with the statistics of the batch if they are refreshed.
        part = self._head.alone() if self._head else self.model
        self._part = norms.with_statistics_of_the_batch(part) if batch_norm == "refresh" else part
        self._parameters = list(chosen.values())
        local = {id(p): name for name, p in self._part.named_parameters()}
        self._names = [local[id(p)] for p in self._parameters]
        self.shapes = {name: p.shape for name, p in chosen.items()}
        self.weights = torch.cat([p.detach().reshape(-1) for p in self._parameters])
        self.n_params = self.weights.numel()
        self.mlp_layout = layout_of(self._part)
        self._load(self.weights)  # the copy's parameters lie in the one vector from here on
        # `_part` shares no modules with the model if batch norm is refreshed.
        self._plain_layers = PlainLayers(nn.ModuleList([self.model, self._part]))

    def prepare(self, x: Inputs) -> Inputs:
        """Return what the functions of weights below take for inputs: the inputs, or the features of the last layer.

        They lie on the device of the weights, floats in their dtype. Features come from one pass without gradients.

        Raises:
            ValueError: if the outputs of the last layer are not those of the model.
        """
        x = moved(x, self.weights)
        if self._head is None:
            return x
        with self._plain_layers():
            return self._head.features(x)

    def unflatten(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of one weight vector [P], as views."""
        return dict(zip(self.shapes, self._pieces(weights), strict=True))

    def apply(self, weights: Tensor, x: Inputs) -> Tensor:
        """Return the outputs for one weight vector [P], [N, ...]; differentiable, and open to torch.func transforms."""
        named = dict(zip(self._names, self._pieces(weights), strict=True))
        with self._plain_layers(transforms=True):
            return self._run(self._part, named, x)

    def __call__(self, weights: Tensor, x: Inputs, buffers: dict[str, Tensor] | None = None) -> Tensor:
        """Return the outputs for each weight vector of [S, P], [S, N, ...]; without gradients.

        Args:
            weights: [S, P].
            x: prepared inputs.
            buffers: statistics for each weight vector, name -> [S, ...]; of `batch_norm.refreshed_statistics`.

        Raises:
            ValueError: if `weights` is not [S, P], or `buffers` are not S of each.
        """
        self.check_weights(weights)
        with torch.no_grad():
            if buffers is not None:
                norms.check_statistics(buffers, self.model, len(weights))
                each = [{name: value[s] for name, value in buffers.items()} for s in range(len(weights))]
                with self._plain_layers():
                    named = ({**self.unflatten(w), **b} for w, b in zip(weights, each, strict=True))
                    return torch.stack([self._run(self.model, tensors, x) for tensors in named])
            if (layout := self.layout_for(x)) is not None:
                assert isinstance(x, Tensor)
                return mlp_forward(weights, x, layout)
            if self._together(x):
                return torch.cat([vmap(self.apply, (0, None))(w, x) for w in weights.split(self.particles_at_once)])
            outputs = weights.new_empty(0)
            for s, w in enumerate(weights):
                with self.carrying(w):
                    one = self._run(self._part, {}, x)
                outputs = outputs if s else one.new_empty(len(weights), *one.shape)
                outputs[s] = one
            return outputs

    def apply_each(self, weights: Tensor, x: Inputs) -> Tensor:
        """Return the outputs for each weight vector of [S, P], [S, N, ...]; differentiable."""
        layout = self.layout_for(x)
        if layout is None:
            if self._together(x):
                return vmap(self.apply, in_dims=(0, None))(weights, x)
            return torch.stack([self.apply(w, x) for w in weights])
        assert isinstance(x, Tensor)
        activation = ACTIVATIONS[layout.activation]
        h = x.expand(len(weights), *x.shape)
        for i, at in enumerate(layout.layers()):
            w = weights[:, at.weight : at.bias].unflatten(1, (at.n_out, at.n_in))
            b = weights[:, None, at.bias : at.bias + at.n_out]
            h = torch.baddbmm(b, activation(h) if i else h, w.mT)
        return h

    def value_and_grad(self, weights: Tensor, x: Inputs, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return loss(outputs) [K] and its gradients [K, P] for each of weights [K, P].

        Particles that run one after the other hold the graph of one and write into the result, without a copy.

        Args:
            weights: [K, P].
            x: prepared inputs.
            loss: a function of outputs [N, ...] that gives a scalar.

        Raises:
            ValueError: if `weights` is not [K, P].
        """
        self.check_weights(weights)
        weights = weights.detach()
        gradients, values = weights.new_zeros(weights.shape), weights.new_empty(len(weights))
        if self._together(x):
            function = vmap(grad_and_value(lambda w: loss(self.apply(w, x))))
            for at in torch.arange(len(weights)).split(self.particles_at_once):
                rows = slice(int(at[0]), int(at[-1]) + 1)
                gradients[rows], values[rows] = function(weights[rows])
            return values, gradients
        for k, w in enumerate(weights):
            with self.carrying(w), torch.enable_grad():
                for parameter, gradient in zip(self._parameters, self._pieces(gradients[k]), strict=True):
                    parameter.grad = gradient  # backward adds in place
                value = loss(self._run(self._part, {}, x))
                torch.autograd.backward(value, inputs=self._parameters)
                values[k] = value.detach()
        return values, gradients

    def layout_for(self, x: Inputs) -> MLPLayout | None:
        """Return the layout if the network is a perceptron and x one tensor [N, D], as the operations on it need."""
        return self.mlp_layout if isinstance(x, Tensor) and x.ndim == 2 and x.is_floating_point() else None

    def check_weights(self, weights: Tensor) -> None:
        """Raise ValueError if `weights` is not [S, P] with S > 0."""
        if weights.ndim != 2 or weights.shape[1] != self.n_params or not len(weights):
            raise ValueError(f"weights must be [S, {self.n_params}] with S > 0; got {list(weights.shape)}")

    @contextmanager
    def carrying(self, weights: Tensor) -> Iterator[None]:
        """Inside, `model` and all that shares its parameters carry the weights [P], as views; then its own again."""
        self._load(weights)
        try:
            with self._plain_layers():
                yield
        finally:
            self._load(self.weights)
            for parameter in self._parameters:
                parameter.grad = None

    def module(self, weights: Tensor) -> nn.Module:
        """Return a copy of the whole module, in evaluation mode, that carries the weights [P]."""
        model = copy.deepcopy(self.model)
        named = dict(model.named_parameters())
        nn.utils.vector_to_parameters(weights.detach().clone(), [named[name] for name in self.shapes])
        for name in self._set_aside:
            named[name].requires_grad_(True)
        return model

    def _pieces(self, weights: Tensor) -> list[Tensor]:
        """One weight vector [P] as the parameters' shapes, as views."""
        pieces = weights.split([shape.numel() for shape in self.shapes.values()])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes.values(), strict=True)]

    def _run(self, module: nn.Module, named: dict[str, Tensor], x: Inputs) -> Tensor:
        args, kwargs = call_arguments(module, x)
        with advising_on_integers(x):
            returned = functional_call(module, named, args, kwargs) if named else module(*args, **kwargs)
        return outputs_from(returned, n_rows(x))

    def _load(self, weights: Tensor) -> None:
        """Let the copy's parameters be views of the weights [P]; as quick as a plain module, and nothing is copied."""
        for parameter, piece in zip(self._parameters, self._pieces(weights.detach().contiguous()), strict=True):
            parameter.data = piece

    def can_run_together(self, x: Inputs) -> bool:
        """Return whether `torch.func.vmap` has rules for the module and its gradient; two rows of x tell."""
        two, rows = self.weights.expand(2, -1), take(x, slice(0, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # vmap warns where it would run a slow loop of its own
            try:
                vmap(self.apply, (0, None))(two, rows)
                vmap(grad(lambda w: self.apply(w, rows).square().sum()))(two)
            except Exception:  # modules fail under vmap in their own ways; the loop runs them all
                return False
        return True

    def _together(self, x: Inputs) -> bool:
        """Whether particles run together."""
        if self.vectorize is not None or not self.weights.is_cuda:
            return bool(self.vectorize)
        if self._can_run_together is None:
            self._can_run_together = self.can_run_together(x)
        return self._can_run_together

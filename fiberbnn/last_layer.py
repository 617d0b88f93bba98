"""The last layer of a module, and the features that all before it computes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .batch import Inputs, advising_on_integers, call_arguments, concatenated, n_rows, outputs_from, split

BATCH_ROWS = 256  # of the pass that computes features


@dataclass(frozen=True)
class Head:
    """The last layer of a model.

    Attributes:
        model: the whole.
        name: of the layer in the model; "" if the model is that layer.
        layer: the layer itself, not a copy.
    """

    model: nn.Module
    name: str
    layer: nn.Module

    def owns(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether a parameter of the model is one of the layer's."""
        return any(parameter is own for own in self.layer.parameters())

    def alone(self) -> nn.Module:
        """Return the layer as a module of its own, with the same parameters; a linear one as a perceptron."""
        return nn.Sequential(self.layer) if type(self.layer) is nn.Linear else self.layer

    def features(self, x: Inputs, batch_rows: int = BATCH_ROWS) -> Tensor:
        """Return the layer's inputs [N, ...] when the model runs on x, computed without gradients.

        Args:
            x: inputs on the device and in the dtype of the model.
            batch_rows: rows a pass.

        Raises:
            ValueError: if there are no inputs; or the layer does not run once a pass on one tensor with the rows of
                x; or its output is not the model's.
        """
        if n_rows(x) == 0:
            raise ValueError("there are no inputs to compute features of")
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        returned: list[Any] = []
        # First and last of the layer's hooks: what the layer is given, and what comes out in the end.
        hooks = (
            self.layer.register_forward_pre_hook(
                lambda _, args, kwargs: calls.append((args, kwargs)), prepend=True, with_kwargs=True
            ),
            self.layer.register_forward_hook(lambda _, args, output: returned.append(output)),
        )
        parts: list[Inputs] = []
        try:
            with torch.no_grad():
                for batch in split(x, batch_rows):
                    calls.clear()
                    returned.clear()
                    args, kwargs = call_arguments(self.model, batch)
                    with advising_on_integers(batch):
                        outputs = outputs_from(self.model(*args, **kwargs), n_rows(batch))
                    parts.append(self._checked(calls, returned, outputs))
        finally:
            for hook in hooks:
                hook.remove()
        features = concatenated(parts)
        assert isinstance(features, Tensor)
        return features

    def _checked(
        self, calls: list[tuple[tuple[Any, ...], dict[str, Any]]], returned: list[Any], outputs: Tensor
    ) -> Tensor:
        """The features of one pass; ValueError if the layer does not stand at the end."""
        if len(calls) != 1:
            raise ValueError(f"{self._described()} ran {len(calls)} times in a pass instead of once; {_ALTERNATIVE}")
        if outputs is not returned[0]:
            raise ValueError(
                f"the output of {self._described()} is not the model's output: something follows it; {_ALTERNATIVE}, "
                "or let the model end in that layer"
            )
        args, kwargs = calls[0]
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor) or len(args[0]) != len(outputs):
            raise ValueError(f"{self._described()} does not take one tensor with a row an example; {_ALTERNATIVE}")
        return args[0]

    def _described(self) -> str:
        return f"the last layer ({self.name or 'the model'}, {type(self.layer).__name__})"


_ALTERNATIVE = 'choose its weights by a predicate instead, subset=lambda name, parameter: name.startswith("...")'


def head_of(model: nn.Module) -> Head:
    """Return the last layer, in the order of registration, that has parameters of its own.

    Whether the model's output comes from it shows in the first pass: `Head.features` checks.

    Raises:
        ValueError: if none of its weights is trainable, or it shares some with other layers.
    """
    layers = dict(model.named_modules())
    names = [name for name, module in layers.items() if next(module.parameters(recurse=False), None) is not None]
    # A parametrized layer keeps its parameters in modules below it.
    name = names[-1].split("parametrizations.")[0].removesuffix(".")
    head = Head(model, name, layers[name])
    if not any(p.requires_grad for p in head.layer.parameters()):
        raise ValueError(f"{head._described()} has no trainable weights; set requires_grad=True, or {_ALTERNATIVE}")
    prefix = f"{name}." if name else ""
    elsewhere = [n for n, p in model.named_parameters(remove_duplicate=False) if not n.startswith(prefix)]
    named = dict(model.named_parameters(remove_duplicate=False))
    shared = [n for n in elsewhere if head.owns(n, named[n])]
    if shared:
        raise ValueError(f"{head._described()} shares weights with {', '.join(shared)}; {_ALTERNATIVE}")
    return head

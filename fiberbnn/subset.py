"""Which parameters of a module make up the weights, and in which dtype."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

Predicate = Callable[[str, nn.Parameter], bool]
Subset = Predicate | Literal["last_layer"]


def raised_to_float32(model: nn.Module) -> nn.Module:
    """Return the module, its tensors of 16 bits turned to float32: steps of a walk are smaller than their rounding."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in (torch.bfloat16, torch.half):
            tensor.data = tensor.data.float()
    return model


def chosen_parameters(
    model: nn.Module, trainable: dict[str, nn.Parameter], subset: Subset | None
) -> dict[str, nn.Parameter]:
    """Return the parameters that make up the weights, by name, in the module's order.

    Args:
        model: the module.
        trainable: its trainable parameters by name.
        subset: chooses from them; None for all.

    Raises:
        ValueError: if the subset matches nothing or nothing trainable, or one vector cannot hold the chosen.
    """
    chosen = trainable
    if subset is not None:
        if not callable(subset):
            raise ValueError(f'subset must be None, "last_layer" or a predicate on (name, parameter); got {subset!r}')
        matching = [name for name, p in model.named_parameters() if subset(name, p)]
        chosen = {name: trainable[name] for name in matching if name in trainable}
        if not matching:
            raise ValueError(f"no parameter matches the subset; there are {', '.join(trainable)}")
        if not chosen:
            raise ValueError(f"none of the chosen parameters is trainable ({', '.join(matching)}): set requires_grad")
    places = {(p.dtype, p.device) for p in chosen.values()}
    if len(places) > 1:
        raise ValueError(f"all trainable weights must share a dtype and a device; found {sorted(map(str, places))}")
    if (dtype := next(iter(places))[0]) not in (torch.float32, torch.float64):
        raise ValueError(f"the weights must be real floats; they are {dtype}")
    return chosen

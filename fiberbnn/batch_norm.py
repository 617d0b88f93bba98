"""What batch normalisation does when the weights change.

"frozen": the running statistics are those of the trained model, for all weights, in energies and predictions alike.
It is a fixed function of the weights, as any other layer; the statistics no longer fit weights far from the trained.

"refresh": without `buffers`, every call of a `Network` normalises with the statistics of the batch at hand, as in
training: energies, gradients and curvature. An example's output then depends on the others of its batch. Predictions
pass `buffers`: statistics of each weight sample over the training data, recomputed from scratch by
`refreshed_statistics`, for one pass over these data a sample. No buffer of the model changes in either.

Layers that were built without running statistics use those of the batch under both policies.
"""

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torch.nn.modules.batchnorm import _BatchNorm

from .batch import Inputs, call_arguments

if TYPE_CHECKING:
    from .network import Network

Policy = Literal["frozen", "refresh"]


def statistics_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of all batch-norm layers that keep them, by name."""
    return {
        f"{prefix}{kind}": getattr(layer, kind)
        for prefix, layer in _layers(model).items()
        for kind in ("running_mean", "running_var")
    }


def refreshed_statistics(
    network: "Network", weights: Tensor, batches: Callable[[], Iterable[Inputs]]
) -> dict[str, Tensor]:
    """Return the running statistics of each weight vector over the training data, name -> [S, ...].

    They are averages over batches with equal weight, as `torch.optim.swa_utils.update_bn` computes them; unlike there,
    dropout stays off, and inputs may be mappings. Each weight vector costs one pass over the data.

    Args:
        network: with batch norm.
        weights: [S, P].
        batches: gives the training inputs anew at every call, in batches of at least two rows.

    Raises:
        ValueError: if the model has no batch norm, there are no batches, or `weights` is not [S, P].
    """
    network.check_weights(weights)
    if not statistics_of(network.model):
        raise ValueError("the model has no batch norm with running statistics to refresh")
    model = _sharing(network.model, buffers=False)
    layers = _layers(model)
    for layer in layers.values():
        layer.train()
        layer.momentum = None  # a cumulative average
    refreshed = {name: s.new_empty(len(weights), *s.shape) for name, s in statistics_of(model).items()}
    for s, w in enumerate(weights):
        for layer in layers.values():
            layer.reset_running_stats()
        n_batches = 0
        with network.carrying(w), torch.no_grad():
            for batch in batches():
                args, kwargs = call_arguments(model, network.prepare(batch))
                model(*args, **kwargs)
                n_batches += 1
        if n_batches == 0:
            raise ValueError("there are no batches to compute statistics of: `batches` must start anew at every call")
        for name, statistic in statistics_of(model).items():
            refreshed[name][s] = statistic
    return refreshed


def with_statistics_of_the_batch(model: nn.Module) -> nn.Module:
    """Return a module with the same parameters whose batch-norm layers use the statistics of the batch at hand."""
    return replace_all_batch_norm_modules_(_sharing(model, buffers=True))


def check_policy(policy: str, model: nn.Module, subset: object) -> None:
    """Raise ValueError if the policy is unknown, or cannot be followed."""
    if policy not in get_args(Policy):
        raise ValueError(f'batch_norm must be "frozen" or "refresh"; got {policy!r}')
    if policy == "refresh" and not statistics_of(model):
        raise ValueError('batch_norm="refresh", but the model has no batch norm with running statistics; leave it out')
    if policy == "refresh" and subset == "last_layer":
        raise ValueError(
            'batch_norm="refresh" does not go with subset="last_layer": the weights of the other layers stay, '
            'and so do their statistics; use batch_norm="frozen"'
        )


def check_statistics(statistics: dict[str, Tensor], model: nn.Module, n_samples: int) -> None:
    """Raise ValueError if these are not the statistics of the model's batch-norm layers, one for each of S samples."""
    expected = {name: (n_samples, *value.shape) for name, value in statistics_of(model).items()}
    found = {name: tuple(value.shape) for name, value in statistics.items()}
    if expected != found:
        raise ValueError(f"the statistics must be {expected}; got {found}")


def _layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Batch-norm layers with running statistics, by the prefix of their buffers."""
    return {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def _sharing(model: nn.Module, *, buffers: bool) -> nn.Module:
    """A copy of the module with the very same parameters, and the same buffers or copies."""
    kept = [*model.parameters(), *(model.buffers() if buffers else ())]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in kept})

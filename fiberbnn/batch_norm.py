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
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torch.nn.modules.batchnorm import _BatchNorm

from .batch import Inputs, call_arguments, n_rows

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

    They are mean and (unbiased) variance of all that comes to a layer from all batches, every row with the same weight
    however large its batch. Layers before it normalise each batch by itself, as in training. So the statistics of the
    first batch norm are those of all data at once, exactly and for any batches; those of deeper ones vary a little
    with the batches. In one batch, all are what `torch.optim.swa_utils.update_bn` computes, which averages over batches
    with equal weight and leaves the variance between them out. Unlike there, dropout stays off, and inputs may be
    mappings. Each weight vector costs one pass over the data.

    Args:
        network: with batch norm.
        weights: [S, P].
        batches: gives the training inputs anew at every call, in batches of at least two rows.

    Raises:
        ValueError: if the model has no batch norm, there are no batches or one of a single row, or `weights` is not
            [S, P].
    """
    network.check_weights(weights)
    if not statistics_of(network.model):
        raise ValueError("the model has no batch norm with running statistics to refresh")
    model = _sharing(network.model, buffers=False)
    layers = _layers(model)
    tallies = {prefix: _Tally(layer) for prefix, layer in layers.items()}
    refreshed = {name: s.new_empty(len(weights), *s.shape) for name, s in statistics_of(model).items()}
    for s, w in enumerate(weights):
        for tally in tallies.values():
            tally.restart()
        n_batches = 0
        with network.carrying(w), torch.no_grad():
            for batch in batches():
                check_rows(n_rows(batch))
                args, kwargs = call_arguments(model, network.prepare(batch))
                model(*args, **kwargs)
                n_batches += 1
        if n_batches == 0:
            raise ValueError("there are no batches to compute statistics of: `batches` must start anew at every call")
        for prefix, tally in tallies.items():
            refreshed[f"{prefix}running_mean"][s], refreshed[f"{prefix}running_var"][s] = tally.result()
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


def check_rows(n_rows: int) -> None:
    """Raise ValueError if a batch of so many rows has no statistics of its own."""
    if n_rows < 2:
        raise ValueError(
            'batch_norm="refresh" normalises with the statistics of each batch, and one of the batches has a single '
            'row: use a batch_size of at least 3, which leaves none alone, or batch_norm="frozen"'
        )


def check_statistics(statistics: dict[str, Tensor], model: nn.Module, n_samples: int) -> None:
    """Raise ValueError if these are not the statistics of the model's batch-norm layers, one for each of S samples."""
    expected = {name: (n_samples, *value.shape) for name, value in statistics_of(model).items()}
    found = {name: tuple(value.shape) for name, value in statistics.items()}
    if expected != found:
        raise ValueError(f"the statistics must be {expected}; got {found}")


class _Tally:
    """Mean and variance of all that goes through a batch-norm layer, put together from those of its calls.

    Source: Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115, equation 2.1.

    Args:
        layer: put in training mode here; it keeps the statistics of its latest call.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer.train()
        layer.momentum = 1.0
        layer.register_forward_hook(self._add, prepend=True)
        self.restart()

    def restart(self) -> None:
        """Forget what went through."""
        self.layer.reset_running_stats()  # what is not finite would stay even with a momentum of 1
        mean, variance = self._latest()
        self.n, self.mean, self.scatter = 0, torch.zeros_like(mean), torch.zeros_like(variance)

    def _add(self, layer: nn.Module, args: Any, output: Tensor) -> None:
        n, (mean, variance) = output.numel() // self.layer.num_features, self._latest()
        total, apart = self.n + n, mean - self.mean
        self.scatter += (n - 1) * variance + apart.square() * (self.n * n / total)
        self.mean += apart * (n / total)
        self.n = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Return mean and unbiased variance; those of a fresh layer if nothing went through."""
        return (self.mean, self.scatter / (self.n - 1)) if self.n else self._latest()

    def _latest(self) -> tuple[Tensor, Tensor]:
        mean, variance = self.layer.running_mean, self.layer.running_var
        assert mean is not None
        assert variance is not None
        return mean.double(), variance.double()


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

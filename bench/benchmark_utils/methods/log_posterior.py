"""The log posterior as `posteriors` wants it: a function that torch.func can differentiate and map."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from benchmark_utils.tasks.task import Task
from fiberbnn import Energy, MapFit, MinibatchEnergy, Network
from fiberbnn.data import ExamplesInMemory

with warnings.catch_warnings():
    # tensordict announces at the import of posteriors that defaults of its states will no longer be shared.
    warnings.filterwarnings("ignore", message="The Tensor default of the field", category=FutureWarning)
    from posteriors import sgmcmc, vi

__all__ = ["energy_in_batches", "log_posterior", "sgmcmc", "vi"]


def log_posterior(weights: Tensor, energy: Energy) -> tuple[Tensor, Tensor]:
    """Return -U, nats, and nothing else: what `posteriors` calls a log posterior and its auxiliary output.

    The gradients are those of the library, for all weight vectors at once, and counted by the energy.

    Args:
        weights: of one network [P], or of several [K, P], whose -U are summed: each then moves by its own gradient.
        energy: of the batch.
    """
    return _MinusEnergies.apply(weights, energy)[0].sum(), torch.empty(0)


def energy_in_batches(task: Task, map_fit: MapFit, batch_rows: int) -> Energy | MinibatchEnergy:
    """Return the energy of the task over the weights of its MAP, with a count of its own: `at(step)` is a batch's.

    Minibatches are plain ones, without control variates; a table with no more than `batch_rows` rows is one batch.
    """
    network, likelihood, tau = Network(map_fit.model), task.likelihood(), task.prior_precision
    if len(task.x_train) <= batch_rows:
        return Energy(network, likelihood, task.x_train, task.y_train, tau)
    examples = ExamplesInMemory(task.x_train, task.y_train)
    return MinibatchEnergy(
        network, likelihood, examples, tau, batch_size=batch_rows, control_variates=False, seed=task.seed
    )


class _MinusEnergies(torch.autograd.Function):
    """-U of weights [P] or [K, P], [] or [K]; its gradients come with it."""

    @staticmethod
    def forward(weights: Tensor, energy: Energy) -> tuple[Tensor, Tensor]:
        values, gradients = energy.value_and_grad(weights.reshape(-1, weights.shape[-1]))
        return -values.view(weights.shape[:-1]), -gradients.view(weights.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return slope[..., None] * gradients, None

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int, None], weights: Tensor, energy: Energy) -> tuple[Any, tuple[int, int]]:
        return _MinusEnergies.apply(weights.movedim(in_dims[0], 0), energy), (0, 0)

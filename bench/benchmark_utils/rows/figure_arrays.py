"""What the figures are drawn from: arrays that a method's run keeps at one seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmark_utils.metrics.classification import reliability
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows.reference import Reference
from benchmark_utils.tasks.task import Task

GRID = 64  # points a side of an uncertainty map


def figure_arrays(
    task: Task,
    predict: Callable[[Tensor], Prediction],
    prediction: Prediction,
    reference: Reference | None = None,
) -> dict[str, np.ndarray]:
    """Return arrays by name, float32.

    A task with x_plot gives bands over a line: x, mean and sd (of the function, observation noise not included),
    each [M], in the units of the data, and a stored HMC run's as reference_mean and reference_sd. A classification
    gives its reliability, reliability/confidence and the like, [ECE_BINS]; one of two inputs also a map over the
    plane: entropy [GRID, GRID] (of the averaged predictive, nats; rows go up the second input) and extent [4] (left,
    right, bottom, top). Bands and maps come with the training data.

    Args:
        task: the task.
        predict: of the method.
        prediction: for the test set.
        reference: the stored HMC run.
    """
    found: dict[str, Tensor] = {}
    if task.x_plot is not None and task.noise_std is not None:
        found |= _bands(task, task.x_plot, task.noise_std, predict, reference)
    if task.kind == "classification":
        found |= {f"reliability/{name}": value for name, value in reliability(prediction, task.y_test).items()}
        if task.x_train.ndim == 2 and task.x_train.shape[1] == 2:
            found |= _map(task.x_train, predict)
    if {"x", "entropy"} & found.keys():
        found |= {"x_train": task.x_units.original(task.x_train), "y_train": task.y_train}
        if task.kind == "regression":
            found["y_train"] = task.y_units.original(task.y_train)
    return {name: value.detach().cpu().numpy().astype(np.float32) for name, value in found.items()}


def _bands(
    task: Task, x: Tensor, noise_std: float, predict: Callable[[Tensor], Prediction], reference: Reference | None
) -> dict[str, Tensor]:
    """The predictive over a line, x [M, 1]."""
    prediction = predict(x)
    found = {"mean": prediction.moments()[0], "sd": prediction.function_sd(noise_std)}
    if reference is not None:
        found |= {f"reference_{name}": torch.from_numpy(reference.arrays[f"plot_{name}"]) for name in ("mean", "sd")}
    found = {
        name: task.y_units.original(value) if name.endswith("mean") else task.y_units.scale * value
        for name, value in found.items()
    }
    return {"x": task.x_units.original(x[:, 0]), **found}


def _map(x_train: Tensor, predict: Callable[[Tensor], Prediction]) -> dict[str, Tensor]:
    """The predictive's entropy over the plane around x_train, [N, 2]."""
    low, high = x_train.amin(0), x_train.amax(0)
    # Far from the data is where methods differ.
    low, high = low - 0.35 * (high - low), high + 0.35 * (high - low)
    first, second = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low, high, strict=True))
    plane = torch.cartesian_prod(second, first).flip(1)  # [GRID * GRID, 2], the second input slowest
    entropy = predict(plane).entropy().reshape(GRID, GRID)
    return {"entropy": entropy, "extent": torch.tensor([low[0], high[0], low[1], high[1]])}

"""One row: a method's scores on one task and seed, what it cost, and what it was made with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark_utils import provenance
from benchmark_utils.cost import Meter
from benchmark_utils.metrics import energy_ratio, evaluate, gap_spread
from benchmark_utils.prediction import Prediction
from benchmark_utils.reference import Reference, load_reference, reference_prediction
from benchmark_utils.shared_map import shared_energy
from benchmark_utils.task import Task
from fiberbnn import MapFit

SUITE_VERSION = "1"
ENERGY_SAMPLES = 200  # weight draws whose energies give the energy ratio
FIGURE_SEED = 0  # the seed whose arrays are kept for the figures
GRID = 64  # points a side of an uncertainty map


def evaluate_method(
    task: Task,
    map_fit: MapFit,
    predict: Callable[[Tensor], Prediction],
    sample_weights: Callable[[int], Tensor | None],
    cost: dict[str, float],
    info: dict[str, Any],
) -> dict[str, Any]:
    """Return the row of one fitted method.

    Args:
        task: the task at one seed.
        map_fit: the MAP that all methods of this task and seed share.
        predict: [N, D] inputs to a prediction; its one call on the test inputs is timed as `predict_s`.
        sample_weights: n to weight samples [n, P], or None for a method that has none.
        cost: counts of the solver (grad_evals, hvp_evals) and what was measured around its run (fit_s,
            peak_mib, peak_rise_mib). All are the method's own, on top of the MAP's map_s and map_grad_evals.
        info: further columns that the solver reports of itself.

    Returns:
        A flat dict; `status` is "done", or "diverged" if the test NLL is not finite. `arrays` holds what the
        figures need, empty but for the figures' seed.
    """
    with torch.no_grad():
        with Meter() as meter:
            prediction = predict(task.x_test)
        hmc = reference_prediction(task)  # None, with a warning, if what is stored was made for something else
        reference = None if hmc is None else load_reference(task)
        scores = evaluate(prediction, task.y_test, hmc)
        if task.x_plot is not None:
            scores |= gap_spread(predict, task)
        scores["energy_ratio"] = measured_energy_ratio(task, map_fit, sample_weights)
        arrays = figure_arrays(task, predict, reference) if task.seed == FIGURE_SEED else {}
    finite = math.isfinite(scores["nll"])
    return {
        "suite_version": SUITE_VERSION,
        "task": task.name,
        "kind": task.kind,
        "seed": task.seed,
        "status": "done" if finite else "diverged",
        "reason": "" if finite else f"the test NLL is {scores['nll']}",
        **scores,
        "map_s": map_fit.seconds,
        "map_grad_evals": map_fit.grad_evals,
        "map_grad_norm": map_fit.grad_norm,
        **cost,
        **reference_columns(reference),
        "predict_s": meter.seconds,
        "n_params": map_fit.weights.numel(),
        "n_train": len(task.x_train),
        "n_test": len(task.x_test),
        "n_samples": prediction.n_samples,
        "device": provenance.device(),
        "backend": "torch",
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "dataset_sha256": task.sha256,
        "dataset_matches": task.sha256 == task.expected_sha256,
        "dataset_source": task.source,
        **info,
        "arrays": arrays,
    }


def reference_columns(reference: Reference | None) -> dict[str, float]:
    """Return what the stored HMC run itself scored and cost: nll_hmc, sd_gap_hmc, fit_s_hmc and the like."""
    if reference is None:
        return {}
    cost = reference.about["cost"]
    found = {**reference.about["scores"], "grad_evals": cost["grad_evals"], "fit_s": cost["seconds"]}
    return {f"{name}_hmc": float(value) for name, value in found.items()}


def measured_energy_ratio(task: Task, map_fit: MapFit, sample_weights: Callable[[int], Tensor | None]) -> float:
    """Return the energy ratio of a method's weight samples over the training data; NaN if it has none."""
    weights = sample_weights(ENERGY_SAMPLES)
    if weights is None:
        return math.nan
    energies = shared_energy(task, map_fit)(weights)
    return energy_ratio(energies, map_fit.energy, map_fit.weights.numel())


def figure_arrays(
    task: Task, predict: Callable[[Tensor], Prediction], reference: Reference | None = None
) -> dict[str, np.ndarray]:
    """Return what the figures are drawn from, float32: bands over a line, or entropies over a plane.

    A task with x_plot gives x, mean and sd (of the function, observation noise not included), each [M], and a
    stored HMC run's as reference_mean and reference_sd. A classification of two inputs gives entropy [GRID,
    GRID] (of the averaged predictive, nats; rows go up the second input) and extent [4] (left, right, bottom,
    top). Both come with the training data. Other tasks give nothing.
    """
    data = {"x_train": task.x_train, "y_train": task.y_train}
    if task.x_plot is not None and task.noise_std is not None:
        prediction = predict(task.x_plot)
        mean, _ = prediction.moments()
        found = {"x": task.x_plot[:, 0], "mean": mean, "sd": prediction.function_sd(task.noise_std), **data}
        if reference is not None:
            found |= {
                f"reference_{name}": torch.from_numpy(reference.arrays[f"plot_{name}"]) for name in ("mean", "sd")
            }
    elif task.kind == "classification" and task.x_train.shape[1] == 2:
        low, high = task.x_train.amin(0), task.x_train.amax(0)
        low, high = (
            low - 0.35 * (high - low),
            high + 0.35 * (high - low),
        )  # far from the data is where methods differ
        first, second = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low, high, strict=True))
        plane = torch.cartesian_prod(second, first).flip(1)  # [GRID * GRID, 2], the second input slowest
        log_probs = predict(plane).averaged_log_probs()
        entropy = torch.special.entr(log_probs.exp()).sum(-1).reshape(GRID, GRID)
        found = {"entropy": entropy, "extent": torch.tensor([low[0], high[0], low[1], high[1]]), **data}
    else:
        return {}
    return {name: value.detach().numpy().astype(np.float32) for name, value in found.items()}

"""One row: a method's scores on one task and seed, what it cost, and what it was made with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmark_utils.methods.mixture import mixture_prediction
from benchmark_utils.metrics.evaluation import energy_ratio, evaluate_task, gap_spread
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows import provenance
from benchmark_utils.rows.cost import Meter, gradients_of
from benchmark_utils.rows.figure_arrays import figure_arrays
from benchmark_utils.rows.image_row import detection, shifted
from benchmark_utils.rows.reference import Reference, load_reference, reference_prediction
from benchmark_utils.tasks.shared_map import shared_energy
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit, Network

SUITE_VERSION = "1"
ENERGY_SAMPLES = 200  # weight draws whose energies give the energy ratio
ENERGY_SAMPLES_IMAGES = 20  # where one energy is a pass over thousands of images, and weights are many
FIGURE_SEED = 0  # the seed whose arrays are kept for the figures


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
        predict: inputs [N, ...] to a prediction; its one call on the test inputs is timed as `predict_s`, those
            on out-of-distribution and shifted inputs are not.
        sample_weights: n to weight samples [n, P], or None for a method that has none.
        cost: counts of the solver (grad_evals, hvp_evals, energy_evals) and what was measured around its run (fit_s,
            peak_mib, peak_rise_mib). All are the method's own, on top of the MAP's map_s and map_grad_evals.
        info: further columns that the solver reports of itself.

    Returns:
        A flat dict; `status` is "done", or "diverged" if the test NLL is not finite. `arrays` holds what the
        figures need, empty but for the figures' seed.
    """
    with torch.no_grad():
        # Outside the clock: the first prediction of a process imports hundreds of modules.
        mixture_prediction(Network(map_fit.model), map_fit.weights[None], task.x_test[:1])
        with Meter() as meter:
            prediction = predict(task.x_test)
        hmc = reference_prediction(task)  # None, with a warning, if what is stored was made for something else
        reference = None if hmc is None else load_reference(task)
        scores = evaluate_task(task, prediction, hmc)
        if task.x_plot is not None:
            scores |= gap_spread(predict, task)
        scores["energy_ratio"] = measured_energy_ratio(task, map_fit, sample_weights)
        found, curves = detection(task, predict, prediction)
        drawn = task.seed == FIGURE_SEED
        arrays = figure_arrays(task, predict, prediction, reference) | curves if drawn else {}
        columns = found | shifted(task, predict, prediction)
    finite = math.isfinite(scores["nll"])
    return {
        **columns_of_task(task, map_fit),
        "status": "done" if finite else "diverged",
        "reason": "" if finite else f"the test NLL is {scores['nll']}",
        **scores,
        **columns,
        "energy_evals": 0,
        **cost,
        "gradients": gradients_of(cost),
        **reference_columns(reference),
        "predict_s": meter.seconds,
        "n_samples": prediction.n_samples,
        **info,
        "arrays": arrays,
    }


def diverged_row(task: Task, map_fit: MapFit, cost: dict[str, float], reason: str) -> dict[str, Any]:
    """Return the row of a method that diverged: no scores, and of the cost what was measured or counted by then.

    Args:
        task: as for evaluate_method.
        map_fit: likewise.
        cost: likewise; counts that the solver did not come to give are missing.
        reason: in words.
    """
    counted = {"gradients": gradients_of(cost)} if "grad_evals" in cost else {}
    about = {"status": "diverged", "reason": reason}
    return {**columns_of_task(task, map_fit), **about, **cost, **counted, "arrays": {}}


def columns_of_task(task: Task, map_fit: MapFit) -> dict[str, Any]:
    """Return the columns that all methods of a task and seed have alike, and what this process runs on."""
    return {
        "suite_version": SUITE_VERSION,
        "task": task.name,
        "kind": task.kind,
        "seed": task.seed,
        "map_s": map_fit.seconds,
        "map_grad_evals": map_fit.grad_evals,
        "map_grad_norm": map_fit.grad_norm,
        "noise_std": math.nan if task.noise_std is None else task.noise_std * task.y_units.scale,
        "n_params": map_fit.weights.numel(),
        "n_train": len(task.x_train),
        "n_test": len(task.x_test),
        "device": provenance.device(),
        "backend": "torch",
        "timing": provenance.timing(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "dataset_sha256": task.sha256,
        "dataset_matches": task.sha256 == task.expected_sha256,
        "dataset_source": task.source,
    }


def reference_columns(reference: Reference | None) -> dict[str, float]:
    """Return what the stored HMC run itself scored and cost: nll_hmc, sd_gap_hmc, fit_s_hmc and the like."""
    if reference is None:
        return {}
    cost = reference.about["cost"]
    found = {**reference.about["scores"], "gradients": cost["grad_evals"], "fit_s": cost["seconds"]}
    return {f"{name}_hmc": float(value) for name, value in found.items()}


def measured_energy_ratio(task: Task, map_fit: MapFit, sample_weights: Callable[[int], Tensor | None]) -> float:
    """Return the energy ratio of a method's weight samples over the training data; NaN if it has none.

    The mean over S samples of P weights has a relative error of about sqrt(2 / (S P)): 20 do for an image net.
    """
    weights = sample_weights(ENERGY_SAMPLES)
    if weights is None:
        return math.nan
    if task.x_train.ndim > 2 and len(weights) > ENERGY_SAMPLES_IMAGES:
        # Evenly over what there is: the walk's samples come in the order that it visited them.
        weights = weights[torch.linspace(0, len(weights) - 1, ENERGY_SAMPLES_IMAGES).long()]
    energies = shared_energy(task, map_fit)(weights)
    return energy_ratio(energies, map_fit.energy, map_fit.weights.numel())

"""The MAPs that walks start from, and how long they walk: one for tables, several short ones for images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from benchmark_utils.methods.mixture import IMAGE_ROWS
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.shared_map import shared_map
from benchmark_utils.tasks.task import Task
from fiberbnn import AutoencoderSettings, MapFit, WalkSchedule, WalkSettings
from fiberbnn.cost import Cost

# Of images one mode is not enough, and a walk sees minibatches: a twentieth of the data each step. Three MAPs with
# three particles and 76 steps each take no more gradients than an ensemble of five MAPs, those of all MAPs
# included.
IMAGE_MAPS = 3
IMAGE_PARTICLES = 3
IMAGE_BATCHES = 20
IMAGE_SCHEDULE = WalkSchedule(max_steps=76, min_warmup=38, n_snapshots=10)
# Thirty points of a walk lie in a basis that the latent space holds whole: little is left to learn.
IMAGE_AUTOENCODER = AutoencoderSettings(steps=50, max_steps=50, decay_steps=50, batch_points=8, batch_inputs=32)

Drift = Literal["persistent", "literal", "literal-careful", "literal-langevin", "literal-settling"]
Preconditioner = Literal["learned", "initial", "identity"]
# How long the drift of the literal readings is in all: as the root mean square of a Gaussian posterior's deviation from
# its mean, the square root of the number of weights in preconditioned units.
LITERAL_REACH = 1.0
# The learning rate of a refinement goes as the square of this; the library's own is 0.5.
CAREFUL_FIRST_STEP = 0.02


def number_of_maps(task: Task, n_maps: int | Literal["auto"]) -> int:
    """Return how many MAPs are walked from: "auto" is one, or three for images."""
    if n_maps == "auto":
        return IMAGE_MAPS if task.architecture is not None else 1
    return n_maps


def map_fits(task: Task, map_fit: MapFit, n_maps: int | Literal["auto"]) -> list[MapFit]:
    """Return the shared MAP and others, the same that an ensemble has for members."""
    return [map_fit, *(shared_map(task, member) for member in range(1, number_of_maps(task, n_maps)))]


def cost_from(fits: list[MapFit], costs: list[Cost]) -> dict[str, float]:
    """Return the cost of walks, with that of all MAPs but the first, whose own every method reports apart."""
    total = sum(costs, Cost(sum(fit.grad_evals for fit in fits[1:])))
    return {
        "grad_evals": total.grad_evals,
        "hvp_evals": total.hvp_evals,
        "energy_evals": total.energy_evals,
        "shared_s": sum(fit.seconds for fit in fits[1:]),
    }


def schedule_of(task: Task, steps: int | Literal["settled"] = "settled", drift: Drift = "persistent") -> WalkSchedule:
    """Return how long walks of this task are.

    Args:
        task: the task.
        steps: in all, the warm-up half of them; or until the energy has settled.
        drift: a literal step takes several gradients: so many fewer steps are the most.
    """
    schedule = WalkSchedule() if task.architecture is None else IMAGE_SCHEDULE
    if drift != "persistent":
        schedule = replace(schedule, max_steps=max(2, schedule.max_steps // (1 + WalkSettings().refine_steps)))
    if drift == "literal-careful":
        schedule = replace(schedule, first_step=CAREFUL_FIRST_STEP)
    return schedule if steps == "settled" else replace(schedule, max_steps=steps, min_warmup=max(1, steps // 2))


def walk_settings_of(
    drift: Drift, metropolis: bool, preconditioner: Preconditioner, schedule: WalkSchedule, n_params: int
) -> WalkSettings:
    """Return how particles step.

    Of the literal readings, "literal" refines by plain gradient steps, "literal-careful" by much smaller ones,
    "literal-langevin" by Langevin steps, and the particles of "literal-settling" drift during the warm-up only, and
    then settle by Langevin steps.
    """
    if drift == "persistent":
        return WalkSettings(metropolis=metropolis, preconditioner=preconditioner)
    half = max(1, schedule.max_steps // 2)
    settling = drift == "literal-settling"
    return WalkSettings(
        drift="literal",
        metropolis=metropolis,
        preconditioner=preconditioner,
        drift_length=LITERAL_REACH * n_params**0.5 / (half if settling else 2 * half),
        drift_steps=half if settling else None,
        refine_noise=0.0 if drift in ("literal", "literal-careful") else 1.0,
    )


def batch_size_of_walk(task: Task) -> int | None:
    """Return how many training examples a step of a walk sees; None for all."""
    return None if task.architecture is None else max(1, len(task.x_train) // IMAGE_BATCHES)


def particles_of(task: Task, n_particles: int | Literal["auto"] = "auto") -> int:
    """Return how many particles walk from each MAP: "auto" is 30, or three for images."""
    if n_particles == "auto":
        return 30 if task.architecture is None else IMAGE_PARTICLES
    return n_particles


def autoencoder_settings_of(task: Task) -> AutoencoderSettings:
    """Return how autoencoders of this task are trained."""
    return AutoencoderSettings() if task.architecture is None else IMAGE_AUTOENCODER


def thinned(task: Task, weights: Tensor) -> Tensor:
    """Return the snapshots of one walk [M, P] that predict: every second one for images, whose predictions are dear."""
    return weights if task.architecture is None else weights[::2]


def prediction_of(outputs: Any, x: Tensor, noise_std: float | None) -> Prediction:
    """Return the prediction of S networks at x, from a function that gives their outputs [S, N, C] for some rows."""
    found = torch.cat([outputs(rows).cpu() for rows in x.split(IMAGE_ROWS if x.ndim > 2 else len(x))], dim=1)
    if noise_std is None:
        return Prediction(log_probs=found.double().log_softmax(-1))
    mean = found[..., 0]
    return Prediction(mean=mean, variance=torch.full_like(mean, noise_std**2))

"""The walk alone: its snapshots are the posterior samples."""

import contextlib
from typing import Any, get_args

import torch
from benchopt import BaseSolver

from benchmark_utils.methods.changed_settings import ChangedSettings
from benchmark_utils.methods.modes import (
    Drift,
    Preconditioner,
    batch_size_of_walk,
    cost_from,
    map_fits,
    particles_of,
    prediction_of,
    schedule_of,
    thinned,
    walk_settings_of,
)
from benchmark_utils.tasks.task import Task
from fiberbnn import (
    Energy,
    MapFit,
    MinibatchEnergy,
    Network,
    Trajectory,
    WalkDivergedError,
    WalkSchedule,
    walk_from,
)
from fiberbnn.data import ExamplesInMemory
from fiberbnn.predictive import outputs_of
from fiberbnn.streams import seed_of_mode


class Solver(ChangedSettings, BaseSolver):
    """The first stage of MetricBNN with the library's defaults; several short walks on minibatches for images.

    Further MAPs are those of an ensemble's members; their seconds and gradients are charged.

    Of `drift`, "persistent" is ours; those that begin with "literal" are readings of the paper's words, which
    modes.py tells apart. `steps` is "settled" for a walk that ends by itself, or a number of steps.
    """

    name = "walk"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {
        "drift": ["persistent"],
        "metropolis": [False],
        "preconditioner": ["learned"],
        "n_particles": ["auto"],
        "steps": ["settled"],
        "n_maps": ["auto"],
    }
    choices = {
        "drift": get_args(Drift),
        "preconditioner": get_args(Preconditioner),
        "n_particles": ["auto", int],
        "steps": ["settled", int],
        "n_maps": ["auto", int],
    }

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip what minibatches do not allow."""
        if self.metropolis and batch_size_of_walk(task) is not None:
            return True, "minibatches give no acceptance probability, so there is no Metropolis rule on images"
        if self.metropolis and self.drift != "persistent":
            return True, "a literal drift has no acceptance probability, so there is no Metropolis rule for it"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Get other MAPs that are wanted, and pay for first calls outside the clock, with a walk of four steps."""
        self.fits = map_fits(self.task, self.map_fit, self.n_maps)
        with contextlib.suppress(WalkDivergedError):  # the walk itself will say so
            self.walk_of(self.map_fit, 0, WalkSchedule(max_steps=4))

    def run(self, _: Any) -> None:
        """Walk from each MAP."""
        self.walks = [self.walk_of(fit, number, self.schedule()) for number, fit in enumerate(self.fits)]

    def schedule(self) -> WalkSchedule:
        """Return how long the walks are."""
        return schedule_of(self.task, self.steps, self.drift)

    def walk_of(self, fit: MapFit, number: int, schedule: WalkSchedule) -> Trajectory:
        """Return the walk from one MAP."""
        task, size = self.task, batch_size_of_walk(self.task)
        network, likelihood, tau = Network(fit.model), task.likelihood(), task.prior_precision
        energy: Energy | MinibatchEnergy
        if size is None:
            energy = Energy(network, likelihood, task.x_train, task.y_train, tau)
        else:
            examples = ExamplesInMemory(task.x_train, task.y_train)
            energy = MinibatchEnergy(network, likelihood, examples, tau, batch_size=size, seed=task.seed)
        settings = walk_settings_of(
            self.drift, self.metropolis, self.preconditioner, self.schedule(), fit.weights.numel()
        )
        return walk_from(
            energy, fit.weights, n_particles=particles_of(task, self.n_particles), settings=settings, schedule=schedule,
            seed=seed_of_mode(task.seed, number),
        )  # fmt: skip

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the networks that the walks visited."""
        walks, task = self.walks, self.task
        networks = [Network(fit.model) for fit in self.fits]

        def outputs(x: torch.Tensor) -> torch.Tensor:
            pairs = zip(networks, walks, strict=True)
            return torch.cat([outputs_of(network, thinned(task, walk.weights), x) for network, walk in pairs])

        weights = torch.cat([walk.weights for walk in walks])
        return {
            "predict": lambda x: prediction_of(outputs, x, task.noise_std),
            "sample_weights": lambda n: weights,
            "cost": cost_from(self.fits, [walk.cost for walk in walks]),
            "info": {
                "n_maps": len(walks),
                "walk_settled": all(walk.settled for walk in walks),
                "walk_steps": len(walks[0].history),
                "walk_undone": sum(walk.undone for walk in walks) / len(walks),
                "walk_heat": sum(walk.heat for walk in walks) / len(walks),
            },
        }

"""The walk alone: its snapshots are the posterior samples."""

from typing import Any

from benchopt import BaseSolver

from benchmark_utils.mixture import mixture_prediction
from benchmark_utils.shared_map import shared_energy
from benchmark_utils.task import Task
from fiberbnn import MapFit, Network, WalkSchedule, WalkSettings, walk_from


class Solver(BaseSolver):
    """The first stage of MetricBNN with the library's defaults."""

    name = "walk"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {"drift": ["persistent"], "metropolis": [False]}

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with a walk of four steps."""
        walk_from(shared_energy(self.task, self.map_fit), self.map_fit.weights, schedule=WalkSchedule(max_steps=4))

    def run(self, _: Any) -> None:
        """Walk."""
        energy = shared_energy(self.task, self.map_fit)
        settings = WalkSettings(drift=self.drift, metropolis=self.metropolis)
        self.walk = walk_from(energy, self.map_fit.weights, settings=settings, seed=self.task.seed)

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the networks that the walk visited."""
        walk, network, noise_std = self.walk, Network(self.map_fit.model), self.task.noise_std
        return {
            "predict": lambda x: mixture_prediction(network, walk.weights, x, noise_std),
            "sample_weights": lambda n: walk.weights,
            "cost": {"grad_evals": walk.cost.grad_evals, "hvp_evals": walk.cost.hvp_evals},
            "info": {
                "walk_settled": walk.settled,
                "walk_steps": len(walk.history),
                "walk_undone": walk.undone,
            },
        }

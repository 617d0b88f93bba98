"""The walk alone: its snapshots are the posterior samples."""

from typing import Any

from benchmark_utils.mixture import mixture_prediction
from benchmark_utils.task import Task
from benchopt import BaseSolver
from fiberbnn import Energy, MapFit, Network, WalkSettings, walk_from


class Solver(BaseSolver):
    """The first stage of MetricBNN with the library's defaults."""

    name = "walk"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {"drift": ["persistent"], "metropolis": [False]}

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def run(self, _: Any) -> None:
        """Walk."""
        task = self.task
        energy = Energy(Network(self.map_fit.model), task.likelihood(), task.x_train, task.y_train, task.prior_precision)
        settings = WalkSettings(drift=self.drift, metropolis=self.metropolis)
        self.walk = walk_from(energy, self.map_fit.weights, settings=settings, seed=task.seed)

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the networks that the walk visited."""
        walk, network, noise_std = self.walk, Network(self.map_fit.model), self.task.noise_std
        return {
            "predict": lambda x: mixture_prediction(network, walk.weights, x, noise_std),
            "sample_weights": lambda n: walk.weights,
            "cost": {"grad_evals": walk.cost.grad_evals, "hvp_evals": walk.cost.hvp_evals},
            "info": {"walk_settled": walk.settled, "walk_steps": len(walk.history), "walk_undone": walk.undone},
        }

"""The trained network alone: what every other method has to improve on."""

from typing import Any

from benchopt import BaseSolver

from benchmark_utils.methods.mixture import mixture_prediction
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit, Network


class Solver(BaseSolver):
    """The MAP estimate that all methods of a task and seed share; it costs nothing on top of itself."""

    name = "map"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.network, self.weights = task, Network(map_fit.model), map_fit.weights[None]

    def run(self, _: Any) -> None:
        """Do nothing: the MAP is trained already, and its seconds stand in the column map_s."""

    def get_result(self) -> dict[str, Any]:
        """Return the network's own prediction; its only weight sample is the MAP."""
        network, weights, noise_std = self.network, self.weights, self.task.noise_std
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, noise_std),
            "sample_weights": lambda n: weights,
            "cost": {"grad_evals": 0, "hvp_evals": 0},
            "info": {},
        }

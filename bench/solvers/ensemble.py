"""Deep ensembles: networks from several initial weights (Lakshminarayanan et al. 2017, arXiv:1612.01474)."""

from typing import Any

import torch
from benchopt import BaseSolver

from benchmark_utils.methods.mixture import has_batch_norm, mixture_prediction
from benchmark_utils.tasks.shared_map import member_seed, train_map
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit, Network
from fiberbnn.batch_norm import statistics_of


class Solver(BaseSolver):
    """The shared MAP and others of the same posterior, trained the same way from other seeds.

    Seconds and gradients are those of the other members; the first one's stand in map_s, as for every method.
    """

    name = "ensemble"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {"members": [5]}

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip an ensemble of one, which is the solver `map`."""
        if self.members < 2:
            return True, "an ensemble needs at least two members; one alone is the solver 'map'"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP, the first member."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with a short training."""
        train_map(self.task, briefly=True)

    def run(self, _: Any) -> None:
        """Train the other members."""
        self.fits = [train_map(self.task, member_seed(self.task, member)) for member in range(1, self.members)]

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the members; they are the weight samples, however many are asked for."""
        members = [self.map_fit, *self.fits]
        weights = torch.stack([fit.weights for fit in members])
        network, noise_std, buffers = Network(self.map_fit.model), self.task.noise_std, None
        if own := has_batch_norm(network):  # every member has gathered statistics of its own
            each = [statistics_of(fit.model) for fit in members]
            buffers = {name: torch.stack([statistics[name] for statistics in each]) for name in each[0]}
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, noise_std, buffers=buffers),
            # Their energies with the statistics of the MAP would be those of other functions.
            "sample_weights": lambda n: None if own else weights,
            "cost": {"grad_evals": sum(fit.grad_evals for fit in self.fits), "hvp_evals": 0},
            "info": {"not_converged": sum(not fit.converged for fit in self.fits)},
        }

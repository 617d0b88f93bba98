"""The control of MetricBNN's second stage: a Gaussian on the walk's singular vectors, which is known to fail."""

from typing import Any

from benchopt import BaseSolver
from torch import Tensor

from benchmark_utils.methods.changed_settings import ChangedSettings
from benchmark_utils.methods.mixture import mixture_prediction
from benchmark_utils.methods.modes import cost_from
from benchmark_utils.tasks.shared_map import shared_energy
from benchmark_utils.tasks.task import Task
from fiberbnn import Basis, LatentSettings, MapFit, Network, WalkSchedule, walk_from
from fiberbnn_kernels import philox_normal

COEFFICIENT_STREAM = 80


class Solver(ChangedSettings, BaseSolver):
    """The same walk and the same basis as MetricBNN's, then independent normal coefficients (the paper's Fig. 3)."""

    name = "svd-gaussian"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {"rank": [LatentSettings().rank], "n_samples": [300]}

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip images: the control belongs to walks on all data."""
        if task.architecture is not None:
            return True, "the control of the second stage is run on tables only"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with a walk of four steps."""
        walk_from(shared_energy(self.task, self.map_fit), self.map_fit.weights, schedule=WalkSchedule(max_steps=4))

    def run(self, _: Any) -> None:
        """Walk, and decompose the snapshots."""
        energy = shared_energy(self.task, self.map_fit)
        self.walk = walk_from(energy, self.map_fit.weights, seed=self.task.seed)
        self.basis = Basis.fit(self.walk.weights, self.walk.scale, rank=self.rank)

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of networks drawn from the Gaussian."""
        network, weights, noise_std = (
            Network(self.map_fit.model),
            self.sample(self.n_samples),
            self.task.noise_std,
        )
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, noise_std),
            "sample_weights": self.sample,
            "cost": cost_from([], [self.walk.cost]),
            "info": {"energy_ratio_walk": self.walk.energy_ratio},
        }

    def sample(self, n: int) -> Tensor:
        """Return n draws [n, P], always the same ones."""
        noise = philox_normal(n, self.basis.rank, seed=self.task.seed, step=0, stream=COEFFICIENT_STREAM)
        return self.basis.decode(noise * self.basis.deviations)

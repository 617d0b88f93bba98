"""MetricBNN: the walk, and the latent posterior fitted to it."""

import warnings
from typing import Any

import torch
from benchopt import BaseSolver

from benchmark_utils.cost import Meter
from benchmark_utils.metrics import evaluate
from benchmark_utils.metrics_reference import total_variation, total_variation_density
from benchmark_utils.mixture import mixture_prediction
from benchmark_utils.task import Task
from fiberbnn import AutoencoderSettings, LatentPosterior, LatentSettings, MapFit, MetricBNN, Network, WalkSchedule


class Solver(BaseSolver):
    """The library as a user runs it; predictions are those of decoded latent draws.

    The row also says how the walk under it did: `tv_walk` is the total variation between the two predictives on the
    test inputs, `nll_walk` and `energy_ratio_walk` are the walk's own, `draw_distance` says how new draws are.
    """

    name = "metricbnn"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {"density": ["kde"], "n_samples": [300]}

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with a walk of eight steps."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so short a walk has every reason to warn
            self.fitted(WalkSchedule(max_steps=8), LatentSettings(autoencoder=AutoencoderSettings(steps=2)))

    def run(self, _: Any) -> None:
        """Walk and fit the latent posterior."""
        self.posterior = self.fitted(WalkSchedule(), LatentSettings(density=self.density))

    def fitted(self, schedule: WalkSchedule, latent: LatentSettings) -> MetricBNN:
        """Return the posterior that a user would get."""
        task = self.task
        posterior = MetricBNN(
            self.map_fit.model,
            task.likelihood(),
            prior_precision=task.prior_precision,
            schedule=schedule,
            latent=latent,
            seed=task.seed,
        )
        return posterior.fit((task.x_train, task.y_train))

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of decoded networks."""
        task, posterior, network = self.task, self.posterior, Network(self.map_fit.model)
        latent, walk = posterior.latent_posterior, posterior.trajectory
        weights = latent.sample(self.n_samples, seed=task.seed)
        decoded = mixture_prediction(network, weights, task.x_test, task.noise_std)
        walked = mixture_prediction(network, walk.weights, task.x_test, task.noise_std)
        distance = total_variation if task.kind == "classification" else total_variation_density
        known = posterior.diagnose((task.x_test, task.y_test))
        with Meter() as draw:
            latent.sample(1000, seed=task.seed)
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, task.noise_std),
            "sample_weights": lambda n: latent.sample(n, seed=task.seed),
            "cost": {"grad_evals": known.grad_evals, "hvp_evals": known.hvp_evals},
            "info": {
                "walk_s": walk.seconds,
                "latent_s": latent.seconds,
                "draw_1000_s": draw.seconds,
                "tv_walk": distance(decoded, walked),
                "nll_walk": evaluate(walked, task.y_test)["nll"],
                "energy_ratio_walk": walk.energy_ratio,
                "walk_settled": walk.settled,
                "walk_steps": len(walk.history),
                "walk_undone": walk.undone,
                "bandwidth": latent.density.bandwidth,
                "draw_distance": draw_distance(latent, self.n_samples, task.seed),
                "r_hat": known.r_hat_median,
            },
        }


def draw_distance(latent: LatentPosterior, n_samples: int, seed: int) -> float:
    """Return how far draws lie from the nearest point of the walk, against how far those lie from each other.

    Medians of distances between latents: near 0, sampling only repeats the walk; near 1, draws are as new as
    the walk's own points are to each other.
    """
    points = latent.density.points
    between = torch.cdist(points, points).fill_diagonal_(torch.inf).min(dim=1).values.median()
    draws = latent.density.sample(n_samples, seed=seed)
    return float(torch.cdist(draws, points).min(dim=1).values.median() / between)

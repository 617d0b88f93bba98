"""MetricBNN: the walk, and the latent posterior fitted to it."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import torch
from benchopt import BaseSolver
from torch import Tensor

from benchmark_utils.methods.changed_settings import ChangedSettings
from benchmark_utils.methods.mixture import mixture_prediction, samples_for
from benchmark_utils.methods.modes import (
    autoencoder_settings_of,
    batch_size_of_walk,
    cost_from,
    map_fits,
    particles_of,
    prediction_of,
    schedule_of,
)
from benchmark_utils.metrics.evaluation import evaluate_task
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.metrics.reference import total_variation, total_variation_density
from benchmark_utils.rows.cost import Meter
from benchmark_utils.tasks.task import Task
from fiberbnn import AutoencoderSettings, LatentPosterior, LatentSettings, MapFit, MetricBNN, WalkSchedule
from fiberbnn.batch_norm import Policy, statistics_of
from fiberbnn.latent_metric import Distances


class Solver(ChangedSettings, BaseSolver):
    """The library as a user runs it; predictions are those of decoded latent draws.

    The row also says how the walk under it did: `tv_walk` is the total variation between the two predictives on the
    test inputs, `nll_walk` and `energy_ratio_walk` are the walk's own, `draw_distance` says how new draws are.
    Further MAPs are those of an ensemble's members; their seconds and gradients are charged. A network with batch norm
    is run with `batch_norm`; the seconds that refreshed statistics take are `refresh_s`, not part of `fit_s`.

    `function` and `metric` are losses of the autoencoder: the function-space loss on or off, and what distances between
    latents are held to, "chords", "geodesics" or "consecutive" as AutoencoderSettings has them, or "unstructured".
    """

    name = "metricbnn"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {
        "density": ["kde"],
        "calibrate": [True],
        "function": [True],
        "metric": ["chords"],
        "rank": [LatentSettings().rank],
        "latent_size": [AutoencoderSettings().latent_size],
        "n_maps": ["auto"],
        "temperature": [1.0],
        "batch_norm": ["frozen"],
        "n_samples": [300],
    }
    choices = {
        "density": ["kde", "gaussian"],
        "metric": [*get_args(Distances), "unstructured"],
        "n_maps": ["auto", int],
        "batch_norm": get_args(Policy),
    }

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip refreshed statistics where there are none."""
        if self.batch_norm == "refresh" and not statistics_of(map_fit.model):
            return True, "the network has no batch norm whose statistics could be refreshed"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Get other MAPs that are wanted, and pay for first calls outside the clock, with a walk of eight steps."""
        self.fits = map_fits(self.task, self.map_fit, self.n_maps)
        settings = self.latent_settings()
        briefly = replace(settings.autoencoder, steps=2, max_steps=2, decay_steps=1)
        self.fitted([self.map_fit], WalkSchedule(max_steps=8), replace(settings, autoencoder=briefly))

    def run(self, _: Any) -> None:
        """Walk from each MAP, and fit the latent posteriors."""
        self.posterior = self.fitted(self.fits, schedule_of(self.task), self.latent_settings())

    def latent_settings(self) -> LatentSettings:
        """Return how the latent posteriors are fitted."""
        default = autoencoder_settings_of(self.task)
        autoencoder = replace(
            default,
            latent_size=self.latent_size,
            function=default.function if self.function else 0.0,
            metric=0.0 if self.metric == "unstructured" else default.metric,
            distances=default.distances if self.metric == "unstructured" else self.metric,
        )
        return LatentSettings(rank=self.rank, density=self.density, calibrate=self.calibrate, autoencoder=autoencoder)

    def fitted(self, fits: list[MapFit], schedule: WalkSchedule, latent: LatentSettings) -> MetricBNN:
        """Return the posterior that a user would get."""
        task = self.task
        posterior = MetricBNN(
            [fit.model for fit in fits],
            task.likelihood(),
            prior_precision=task.prior_precision,
            temperature=self.temperature,
            batch_norm=self.batch_norm,
            batch_size=batch_size_of_walk(task),
            n_particles=particles_of(task),
            schedule=schedule,
            latent=latent,
            seed=task.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the row holds the diagnostics
            return posterior.fit((task.x_train, task.y_train))

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of decoded networks."""
        task, posterior, n = self.task, self.posterior, samples_for(self.task, self.n_samples)

        def predict(x: Tensor) -> Prediction:
            return prediction_of(lambda rows: posterior.outputs(rows, n), x, task.noise_std)

        def sample_weights(n: int) -> Tensor | None:
            # Energies with the statistics of the MAP would be those of other functions.
            return None if self.batch_norm == "refresh" else posterior.draws(n)

        refresh_s = posterior.refresh(n_samples=n) if self.batch_norm == "refresh" else math.nan
        with Meter() as draw:
            posterior.draws(1000)
        known, walks = posterior.diagnostics, [mode.trajectory for mode in posterior.modes]
        costs = [mode.energy.cost.copy() for mode in posterior.modes if mode.energy is not None]
        return {
            "predict": predict,
            "sample_weights": sample_weights,
            "cost": cost_from(self.fits, costs),
            "info": {
                "n_maps": len(walks),
                "walk_s": known.walk_s,
                "latent_s": known.latent_s,
                "refresh_s": refresh_s,
                "draw_1000_s": draw.seconds,
                "energy_ratio_walk": known.energy_ratio_walk,
                "walk_settled": known.settled,
                "walk_steps": len(walks[0].history),
                "walk_undone": known.undone,
                "walk_heat": known.heat,
                "bandwidth": posterior.latent_posterior.density.bandwidth,
                "draw_distance": draw_distance(posterior.latent_posterior, n, task.seed),
                **self.beside_the_walk(predict),
            },
        }

    def beside_the_walk(self, predict: Callable[[Tensor], Prediction]) -> dict[str, float]:
        """Return how the predictive differs from the walk's own; of tables, since it takes all snapshots."""
        task, posterior = self.task, self.posterior
        if task.architecture is not None:
            return {}
        networks, walks = [mode.network for mode in posterior.modes], [mode.trajectory for mode in posterior.modes]
        weights = torch.cat([walk.weights for walk in walks])  # perceptrons: one network runs them all
        walked = mixture_prediction(networks[0], weights, task.x_test, task.noise_std)
        distance = total_variation if task.kind == "classification" else total_variation_density
        known = posterior.diagnose((task.x_test, task.y_test))
        return {
            "tv_walk": distance(predict(task.x_test), walked),
            "nll_walk": evaluate_task(task, walked)["nll"],
            "r_hat": known.r_hat_median,
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

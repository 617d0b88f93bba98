"""MetricBNN: the posterior of a trained network, in the shape of laplace-torch."""

import math
import os
import warnings
from dataclasses import asdict
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from . import saved
from .basis import CHUNK_BYTES
from .curvature import newton_gain
from .data import Data, collect
from .diagnostics import Diagnostics, judged, of_fit
from .energy import Energy
from .latent import LatentPosterior, LatentSettings
from .likelihood import Categorical, Gaussian, Likelihood, fitted_noise_std, likelihood_of
from .memory import check_fits
from .network import Network
from .predictive import outputs_of, predictions_of
from .trajectory import Trajectory, WalkSchedule, walk_from
from .walk_state import WalkSettings


class MetricBNN:
    """A Bayesian neural network from a trained one, by a walk around its weights and a latent model of the walk.

    Our reading of "Walking on the Fiber" (arXiv 2512.01500); docs/method.md says what is the paper's.

    Args:
        model: the trained module; it is copied, never changed.
        likelihood: "classification" (logits), "regression", or a `Categorical()` or `Gaussian(noise_std)`.
        prior_precision: one over the variance of the Gaussian prior on each weight (weight decay of the summed loss).
        noise_std: of the observations of a regression, in the units of y; fitted to the training residuals if None.
        n_particles: K, particles of the walk.
        walk: how particles step.
        schedule: how long.
        latent: how the latent posterior is fitted.
        seed: of everything random in `fit`, and of the draws behind predictions.

    Attributes:
        trajectory: the walk, after `fit`; None after `load`.
        latent_posterior: after `fit` or `load`.

    Raises:
        ValueError: if the likelihood is unknown, `noise_std` does not belong to it, or no weight is trainable.
    """

    def __init__(
        self,
        model: nn.Module,
        likelihood: Literal["classification", "regression"] | Likelihood,
        *,
        prior_precision: float = 1.0,
        noise_std: float | None = None,
        n_particles: int = 30,
        walk: WalkSettings | None = None,
        schedule: WalkSchedule | None = None,
        latent: LatentSettings | None = None,
        seed: int = 0,
    ) -> None:
        if not 0.0 < prior_precision < math.inf:
            raise ValueError(f"prior_precision must be positive and finite; got {prior_precision}")
        if n_particles < 1:
            raise ValueError(f"n_particles must be at least 1; got {n_particles}")
        self.network = Network(model)
        self.likelihood = likelihood_of(likelihood, noise_std)
        self._noise_is_fitted = self.likelihood is None
        self.prior_precision, self.n_particles, self.seed = prior_precision, n_particles, seed
        self.walk_settings, self.schedule = walk or WalkSettings(), schedule or WalkSchedule()
        self.latent_settings = latent or LatentSettings()
        self.trajectory: Trajectory | None = None
        self.latent_posterior: LatentPosterior | None = None
        self._diagnostics = Diagnostics()

    def memory_estimate(self) -> int:
        """Return the bytes that `fit` will hold for walk and latent fit, without the data and activations."""
        snapshots = self.n_particles * self.schedule.n_snapshots
        rank = min(self.latent_settings.rank, snapshots - 1)
        batch = self.latent_settings.autoencoder.batch_points
        # Particles, velocity, gradient and their successors, noise; snapshots and their encoding; basis; latent batch.
        vectors = 8 * self.n_particles + 2 * snapshots + rank + 6 * batch
        n_params = self.network.n_params
        pieces = min(16 * snapshots * n_params, 3 * CHUNK_BYTES)  # of the samples, when the basis is fitted
        return vectors * n_params * self.network.weights.element_size() + pieces

    def fit(self, train_data: Data, *, progress_bar: bool = False) -> Self:
        """Walk, then fit the latent posterior; return self.

        Args:
            train_data: a loader of pairs (x, y), or one pair of tensors, with all the training data.
            progress_bar: show progress of walk and latent fit.

        Raises:
            ValueError, TypeError: if the data are empty, not finite, or do not fit model and likelihood.
            MemoryError: if the walk will not fit into memory.
            WalkDivergedError: if most steps of the walk fail.

        Warns:
            UserWarning: if the model is not at a minimum of the energy, or a diagnostic is out of bounds.
        """
        x, y = collect(train_data)
        network, weights = self.network, self.network.weights
        check_fits(
            self.memory_estimate(),
            weights.device,
            "lower n_particles, the schedule's n_snapshots or the latent rank",
        )
        likelihood = Gaussian(1.0) if self._noise_is_fitted else self._known_likelihood()
        energy = Energy(network, likelihood, x, y, self.prior_precision)
        if self._noise_is_fitted:
            with torch.no_grad():
                noise_std = fitted_noise_std(network.apply(weights, energy.x), energy.y)
            energy = Energy(network, Gaussian(noise_std), x, y, self.prior_precision)
        self._warn_unless_at_minimum(energy)
        trajectory = walk_from(
            energy,
            weights,
            n_particles=self.n_particles,
            settings=self.walk_settings,
            schedule=self.schedule,
            seed=self.seed,
            progress_bar=progress_bar,
        )
        latent = LatentPosterior.fit(
            trajectory.weights,
            energy,
            scale=trajectory.scale,
            settings=self.latent_settings,
            seed=self.seed,
            progress_bar=progress_bar,
        )
        self.likelihood, self.trajectory, self.latent_posterior = energy.likelihood, trajectory, latent
        self._diagnostics = of_fit(energy, trajectory, latent, seed=self.seed)
        for text in self._diagnostics.warnings:
            warnings.warn(text, stacklevel=2)
        return self

    def sample(self, n_samples: int = 100, *, generator: torch.Generator | None = None) -> Tensor:
        """Return posterior weight samples, decoded in one pass, [S, P].

        Args:
            n_samples: S.
            generator: of torch, which gives the seed of the draws; torch's global one if None.

        Raises:
            RuntimeError: before `fit` or `load`.
            ValueError: if `n_samples` is not positive.
        """
        device = generator.device if generator is not None else None
        seed = int(torch.randint(0, 2**62, (1,), generator=generator, device=device))
        return self._fitted().sample(n_samples, seed=seed)

    def predictive_samples(self, x: Tensor, n_samples: int = 100) -> Tensor:
        """Return the predictions of S posterior samples, [S, N, C]: probabilities, or means of a regression.

        The S weight draws come from the posterior's own seed: they are the same for all x, in every call.

        Args:
            x: inputs, [N, ...].
            n_samples: S.

        Raises:
            RuntimeError: before `fit` or `load`.
            ValueError: if x is empty or not finite.
        """
        outputs = outputs_of(self.network, self._fitted().sample(n_samples, seed=self.seed), x)
        return predictions_of(self._known_likelihood(), outputs)

    def __call__(self, x: Tensor, n_samples: int = 100) -> Tensor | tuple[Tensor, Tensor]:
        """Return the averaged predictive: probabilities [N, C], or mean and variance [N, C] of a regression.

        The variance is that of the observations: the spread of the means plus the noise.
        """
        samples = self.predictive_samples(x, n_samples)
        if isinstance(self.likelihood, Gaussian):
            return samples.mean(dim=0), samples.var(dim=0, correction=0) + self.likelihood.noise_std**2
        return samples.mean(dim=0)

    def diagnose(self, val_data: Data, n_samples: int = 200) -> Diagnostics:
        """Return the diagnostics of walk and latent posterior, with predictions judged on held-out data.

        Args:
            val_data: a loader or a pair (x, y) that was not trained on.
            n_samples: S, samples of the latent posterior.

        Raises:
            RuntimeError: before `fit` or `load`.
            ValueError: if the data do not fit model and likelihood.
        """
        x, y = collect(val_data)
        samples = self._fitted().sample(n_samples, seed=self.seed)
        return judged(self._diagnostics, self.network, self._known_likelihood(), samples, self.trajectory, x, y)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that make up the posterior.

        Raises:
            RuntimeError: before `fit` or `load`.
        """
        return {"map_weights": self.network.weights, **saved.latent_tensors(self._fitted())}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to a safetensors file; the walk itself is not kept.

        Raises:
            RuntimeError: before `fit` or `load`.
            OSError: if the folder cannot be written.
        """
        likelihood = self._known_likelihood()
        settings: dict[str, Any] = {
            "likelihood": likelihood.kind,
            "noise_std": likelihood.noise_std if isinstance(likelihood, Gaussian) else None,
            "prior_precision": self.prior_precision,
            "seed": self.seed,
            "latent": saved.latent_settings(self._fitted()),
            "diagnostics": asdict(self._diagnostics),
        }
        saved.save(path, self.state_dict(), settings, self.network)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module) -> Self:
        """Return a saved posterior over the weights of `model`, on its device and in its dtype.

        The MAP weights come from the file; those that `model` carries do not matter.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, of a newer format, or of another architecture.
        """
        network = Network(model)
        tensors, settings = saved.load(path, network)
        kind = settings["likelihood"]
        likelihood = Categorical() if kind == Categorical.kind else Gaussian(settings["noise_std"])
        posterior = cls(
            network.module(tensors["map_weights"]),
            likelihood,
            prior_precision=settings["prior_precision"],
            seed=settings["seed"],
        )
        posterior.latent_posterior = saved.latent_from(tensors, settings["latent"])
        stored = settings["diagnostics"]
        posterior._diagnostics = Diagnostics(**{**stored, "warnings": tuple(stored["warnings"])})
        return posterior

    def _fitted(self) -> LatentPosterior:
        if self.latent_posterior is None:
            raise RuntimeError("this posterior has not been fitted: call fit(train_data) first, or load a saved one")
        return self.latent_posterior

    def _known_likelihood(self) -> Likelihood:
        if self.likelihood is None:
            raise RuntimeError("the noise has not been fitted yet: call fit(train_data) first, or give noise_std")
        return self.likelihood

    def _warn_unless_at_minimum(self, energy: Energy) -> None:
        """Warn if the model's weights are clearly above a minimum of the energy."""
        weights = self.network.weights
        gradient = energy.value_and_grad(weights[None])[1][0]
        gain = newton_gain(energy, weights, gradient, seed=self.seed)
        if gain > 1.0:
            warnings.warn(
                f"the model is not at a minimum of its energy (gradient norm {float(gradient.norm()):.2g}, about "
                f"{gain:.1f} nats above one): train it further with the same prior, for example by "
                "fiberbnn.fit_map(model, x, y, likelihood, "
                f"prior_precision={self.prior_precision:g})",
                stacklevel=3,
            )

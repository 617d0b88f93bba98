"""MetricBNN: the posterior of a trained network, in the shape of laplace-torch."""

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Self

from torch import Tensor, nn

from . import saved
from .assessment import judged, of_fit
from .batch_norm import Policy
from .data import Data, Examples, collect, examples_of
from .diagnostics import Diagnostics
from .latent import LatentSettings
from .likelihood import Likelihood, UnfittedGaussian, from_dict, likelihood_of
from .map import MapFit
from .memory import bytes_of_fit, check_fits
from .mode import Mode, ModeSettings, energy_of, fit_mode, gradients_on, networks_of, noise_of
from .network import Network
from .pooled import shares_of_modes
from .predictor import Predictor, positive
from .saved_checks import damage_named, seed_from
from .schedule import WalkSchedule
from .streams import seed_of_mode
from .subset import Subset
from .trajectory import Trajectory
from .tuning import Tuning, tune
from .walk_state import WalkSettings


class MetricBNN(Predictor):
    """A Bayesian neural network from a trained one, by a walk around its weights and a latent model of the walk.

    Our reading of "Walking on the Fiber" (arXiv 2512.01500); docs/method.md says what is the paper's.

    Args:
        model: the trained module, or what `fit_map` returned; it is copied, never changed. Or several of one
            architecture, trained apart: each is a mode with a walk and a latent posterior of its own, and samples are
            drawn from all of them.
        likelihood: "classification" (logits), "regression", or a `Categorical`, `Gaussian` or
            `HeteroscedasticGaussian`.
        prior_precision: one over the variance of the Gaussian prior on each weight (weight decay of the summed loss).
        temperature: factor on the variance of the latents' deviations from their mean, when samples are drawn; an
            attribute that may be set later.
        noise_std: of the observations of a regression, in the units of y: a number, one for each output, None or
            "per_output" to fit either to the training residuals, "head" if the network predicts it.
        subset: which weights are walked: None for all, a predicate on (name, parameter), or "last_layer".
        batch_norm: "frozen", or "refresh" for statistics of each weight sample; see `fiberbnn.batch_norm`.
        mode_weights: share of the samples that each of several models gets; None for equal shares.
        batch_size: training examples a step of the walk sees; None for all.
        n_particles: K, particles of the walk from each model.
        walk: how particles step.
        schedule: how long.
        latent: how the latent posterior is fitted.
        seed: of everything random in `fit`, and of the draws behind predictions.

    Attributes:
        modes: after `fit` or `load`, one for each model.

    Raises:
        ValueError: if the likelihood is unknown, `noise_std` does not belong to it, no weight is trainable, or models
            are of several architectures.
    """

    def __init__(
        self,
        model: nn.Module | MapFit | Sequence[nn.Module | MapFit],
        likelihood: Literal["classification", "regression"] | Likelihood,
        *,
        prior_precision: float = 1.0,
        temperature: float = 1.0,
        noise_std: float | Sequence[float] | Literal["per_output", "head"] | None = None,
        subset: Subset | None = None,
        batch_norm: Policy = "frozen",
        mode_weights: Sequence[float] | None = None,
        batch_size: int | None = None,
        n_particles: int = 30,
        walk: WalkSettings | None = None,
        schedule: WalkSchedule | None = None,
        latent: LatentSettings | None = None,
        seed: int = 0,
    ) -> None:
        self._prior_precision = positive("prior_precision", prior_precision)
        positive("temperature", temperature)
        if n_particles < 1 or (batch_size is not None and batch_size < 1):
            raise ValueError(f"n_particles and batch_size must be at least 1; got {n_particles} and {batch_size}")
        models = [model] if isinstance(model, (nn.Module, MapFit)) else list(model)
        networks = networks_of([one.model if isinstance(one, MapFit) else one for one in models], subset, batch_norm)
        shares = shares_of_modes(mode_weights, len(networks))
        settings = ModeSettings(
            n_particles=n_particles, batch_size=batch_size, walk=walk or WalkSettings(),
            schedule=schedule or WalkSchedule(), latent=latent or LatentSettings(), seed=seed,
        )  # fmt: skip
        super().__init__(networks, shares, likelihood_of(likelihood, noise_std), temperature, settings)
        # Noise that is to be fitted is fitted anew by each call of `fit`.
        self._noise = self._likelihood if isinstance(self._likelihood, UnfittedGaussian) else None

    @property
    def prior_precision(self) -> float:
        """One over the variance of the Gaussian prior on each weight, which the fit was made with.

        Raises:
            AttributeError: if it is set.
        """
        return self._prior_precision

    @prior_precision.setter
    def prior_precision(self, value: float) -> None:
        raise AttributeError(
            "prior_precision belongs to the fit and cannot be changed afterwards: make another MetricBNN with it and "
            "fit again, or call tune(val_data, prior_precisions=...)"
        )

    @property
    def trajectory(self) -> Trajectory | None:
        """The walk from the first model; None before `fit` and after `load`."""
        return self.modes[0].trajectory if self.modes else None

    def memory_estimate(self) -> int:
        """Return the bytes that `fit` will hold in tensors of walks and latent fits, without data and activations.

        The C library's heap can keep a tenth more of what was freed.
        """
        return bytes_of_fit(self.network.weights, len(self.networks), self.settings)

    def fit(self, train_data: Data, *, in_memory: bool = True, progress_bar: bool = False) -> Self:
        """Walk from each model, then fit its latent posterior; return self.

        Under `torch.distributed` (torchrun) the particles of each walk are shared among the processes, every one of
        which has to call this with the same arguments and ends with the same posterior.

        Args:
            train_data: a loader of pairs (x, y), or of mappings with their targets under "labels"; or one such batch
                with all the training data.
            in_memory: read a loader's examples once and keep them; otherwise read them when they are needed, which
                asks for a `batch_size`.
            progress_bar: show progress of walk and latent fit.

        Raises:
            ValueError, TypeError: if the data are empty, not finite, or do not fit model and likelihood; or if the walk
                would leave a single sample.
            RuntimeError: under `torch.inference_mode`.
            MemoryError: if the walk will not fit into memory.
            WalkDivergedError: if most steps of the walk fail.

        Warns:
            UserWarning: if a model is not at a minimum of the energy, or a diagnostic is out of bounds.
        """
        with gradients_on("fit"):
            self.settings.check_enough_samples()
            examples = examples_of(train_data, in_memory=in_memory)
            advice = "lower n_particles, the schedule's n_snapshots or the latent rank"
            check_fits(self.memory_estimate(), self.network.weights.device, advice)
            if self._noise is None:
                likelihood = self.likelihood
            else:
                likelihood = noise_of(self._noise, self.networks, examples, self.settings.batch_size)
            return self._fit(examples, likelihood, progress_bar)

    def _fit(self, examples: Examples, likelihood: Likelihood, progress_bar: bool) -> Self:
        settings, modes = self.settings, []
        for number, network in enumerate(self.networks):
            of_mode = replace(settings, seed=seed_of_mode(self.seed, number))
            energy = energy_of(network, likelihood, examples, self.prior_precision, settings.batch_size, self.seed)
            modes.append(fit_mode(energy, of_mode, progress_bar=progress_bar))
        self._likelihood, self.modes, self._examples = likelihood, tuple(modes), examples
        self._statistics = {}
        self._diagnostics = of_fit(self.modes, self.mode_weights, temperature=self.temperature, seed=self.seed)
        for text in self._diagnostics.warnings:
            warnings.warn(text, stacklevel=3)
        return self

    def diagnose(self, val_data: Data, n_samples: int = 100) -> Diagnostics:
        """Return the diagnostics of walk and latent posterior, with predictions judged on held-out data.

        Args:
            val_data: a loader or a batch that was not trained on.
            n_samples: S, samples of the latent posterior.

        Raises:
            RuntimeError: before `fit` or `load`.
            ValueError: if the data do not fit model and likelihood.
        """
        x, y = collect(val_data)
        outputs = self.outputs(x, n_samples)
        return judged(self.diagnostics, self.modes, self.mode_weights, self.likelihood, outputs, x, y)

    def tune(
        self,
        val_data: Data,
        *,
        prior_precisions: Sequence[float] = (),
        temperatures: Sequence[float] = (0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0),
        noise_factors: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5),
        n_samples: int = 100,
        progress_bar: bool = False,
    ) -> Tuning:
        """Choose prior precision, temperature and noise by held-out NLL; set them, and return all that was tried.

        See `fiberbnn.tuning.tune`.
        """
        with gradients_on("tune"):
            return tune(
                self, val_data, prior_precisions=prior_precisions, temperatures=temperatures,
                noise_factors=noise_factors, n_samples=n_samples, progress_bar=progress_bar,
            )  # fmt: skip

    def refitted(self, prior_precision: float, models: list[nn.Module]) -> Self:
        """Return a posterior with the same settings, noise and data, but another prior precision and models."""
        if self._examples is None:
            raise RuntimeError("this needs the training data: call fit(train_data) first")
        other, network = copy.copy(self), self.network
        other.networks = networks_of(models, network.subset, network.batch_norm)
        other._prior_precision = prior_precision
        return other._fit(self._examples, self.likelihood, progress_bar=False)

    def adopt(self, other: Self, *, temperature: float, likelihood: Likelihood) -> None:
        """Become another fit, with this temperature and likelihood."""
        self.__dict__.update(other.__dict__)
        self.temperature, self._likelihood, self._statistics = temperature, likelihood, {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that make up the posterior.

        Raises:
            RuntimeError: before `fit` or `load`.
        """
        self._draws()
        return saved.tensors_of(self.modes, self._statistics)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to a safetensors file; the walk itself is not kept.

        Refreshed batch-norm statistics are written too, those of 100 samples if nothing was predicted before.

        Raises:
            RuntimeError: before `fit` or `load`.
            OSError: if the folder cannot be written.
        """
        if self.modes and self.network.batch_norm == "refresh" and not self._statistics and self._examples is not None:
            self.refresh()
        settings: dict[str, Any] = {
            "likelihood": self.likelihood.to_dict(),
            "prior_precision": self.prior_precision,
            "temperature": self.temperature,
            "seed": self.seed,
            "mode_weights": self.mode_weights,
            "modes": [saved.latent_settings(mode.latent) for mode in self.modes],
            "batch_norm": self.network.batch_norm,
            "fit": saved.settings_of(self.settings),
            "diagnostics": asdict(self.diagnostics),
        }
        saved.save(path, self.state_dict(), settings, self.network)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module, *, subset: Subset | None = None) -> Self:
        """Return a saved posterior over the weights of `model`, on its device and in its dtype.

        All weights come from the file, for each of its modes; those that `model` carries do not matter.

        Args:
            path: of the file.
            model: a module of the architecture that the posterior was fitted to.
            subset: the one that the posterior was fitted with.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, damaged, of a newer format, or of another architecture or subset.
        """
        tensors, settings = saved.load(path, Network(model, subset=subset))
        with damage_named(path):
            models = saved.models_from(tensors, model, len(settings["modes"]))
            posterior = cls(
                models, from_dict(settings["likelihood"]), subset=subset, batch_norm=settings["batch_norm"],
                mode_weights=settings["mode_weights"], prior_precision=settings["prior_precision"],
                temperature=settings["temperature"], **saved.settings_from(settings),
            )  # fmt: skip
            posterior.seed = seed_from(settings)
            latents = saved.latents_from(tensors, settings["modes"], posterior.network.n_params)
            posterior.modes = tuple(map(Mode, posterior.networks, latents))
            posterior._statistics = saved.statistics_from(tensors)
            posterior._diagnostics = Diagnostics.from_dict(settings["diagnostics"])
        return posterior

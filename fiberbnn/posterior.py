"""MetricBNN: the posterior of a trained network, in the shape of laplace-torch."""

import math
import os
import warnings
from dataclasses import asdict, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from . import saved
from .autoencoder import Autoencoder
from .basis import Basis
from .curvature import diagonal_scale, ggn_diagonal
from .data import Data, collect
from .density import LatentDensity
from .diagnostics import Diagnostics, predictive_nll, split_r_hat, warnings_of
from .energy import Cost, Energy
from .latent import LatentPosterior, LatentSettings
from .likelihood import Categorical, Gaussian, Likelihood, fitted_noise_std
from .memory import check_fits, peak_mib
from .network import Network
from .trajectory import Trajectory, WalkSchedule, walk_from
from .walk import WalkSettings

# Examples of one prediction pass are bounded so that [S, N, C] outputs of a batch stay below this.
PREDICT_BYTES = 1 << 28


class MetricBNN:
    """A Bayesian neural network from a trained one, by a walk around its weights and a latent model of the walk.

    Our reading of "Walking on the Fiber" (arXiv 2512.01500); METHOD in the documentation says what is the paper's.

    Args:
        model: the trained module; it is copied, never changed.
        likelihood: "classification" (logits), "regression", or a `Categorical()` or `Gaussian(noise_std)`.
        prior_precision: one over the variance of the Gaussian prior on each weight; the weight decay of the summed loss.
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
        ValueError: if the likelihood is unknown, `noise_std` does not belong to it, or the model has no trainable weights.
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
        self.network = Network(model)
        self.likelihood = _likelihood(likelihood, noise_std)
        self.prior_precision, self.n_particles, self.seed = prior_precision, n_particles, seed
        self.walk_settings, self.schedule = walk or WalkSettings(), schedule or WalkSchedule()
        self.latent_settings = latent or LatentSettings()
        self.trajectory: Trajectory | None = None
        self.latent_posterior: LatentPosterior | None = None
        self._diagnostics = Diagnostics()

    def memory_estimate(self) -> int:
        """Return the bytes that `fit` will hold for the walk and the latent fit, training data not included."""
        snapshots = self.n_particles * self.schedule.n_snapshots
        rank = min(self.latent_settings.rank, snapshots - 1)
        batch = self.latent_settings.autoencoder.batch_points
        # Particles, velocity, gradient and their successors, noise; snapshots and their encoding; basis; latent batch.
        vectors = 8 * self.n_particles + 2 * snapshots + rank + 6 * batch
        return vectors * self.network.n_params * self.network.weights.element_size()

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
        check_fits(self.memory_estimate(), weights.device, "lower n_particles, the schedule's n_snapshots or the latent rank")
        if self.likelihood is None:
            with torch.no_grad():
                outputs = network.apply(weights, x.to(weights))
            Gaussian(1.0).check(outputs, y)
            self.likelihood = Gaussian(fitted_noise_std(outputs, y.to(outputs)))
        energy = Energy(network, self.likelihood, x, y, self.prior_precision)
        _warn_unless_at_minimum(energy, weights, self.seed)
        walk_cost = energy.cost.copy()
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
        self.trajectory, self.latent_posterior = trajectory, latent
        self._diagnostics = self._fit_diagnostics(energy, energy.cost - walk_cost)
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
        outputs = self._outputs(self._fitted().sample(n_samples, seed=self.seed), x)
        return outputs.softmax(-1) if isinstance(self.likelihood, Categorical) else outputs

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
        latent, likelihood = self._fitted(), self._known_likelihood()
        x, y = collect(val_data)
        map_outputs = self._outputs(self.network.weights[None], x)
        y = y.to(map_outputs) if y.is_floating_point() else y.to(map_outputs.device)
        likelihood.check(map_outputs[0], y)
        outputs = self._outputs(latent.sample(n_samples, seed=self.seed), x)
        averaged, single = predictive_nll(likelihood, outputs, y)
        found = replace(
            self._diagnostics,
            nll_map=predictive_nll(likelihood, map_outputs, y)[0],
            nll_latent=averaged,
            nll_single=single,
            spread_latent=_spread(likelihood, outputs),
        )
        if self.trajectory is not None:
            found = self._with_walk(found, self.trajectory, outputs, x, y)
        return replace(found, warnings=warnings_of(found))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that make up the posterior.

        Raises:
            RuntimeError: before `fit` or `load`.
        """
        latent = self._fitted()
        density = latent.density
        tensors = {"map_weights": self.network.weights}
        tensors |= {f"basis.{name}": getattr(latent.basis, name) for name in Basis.__dataclass_fields__}
        tensors |= {f"autoencoder.{name}": t for name, t in latent.autoencoder.state_dict().items()}
        return tensors | {"density.points": density.points, "density.mean": density.mean, "density.factor": density.factor}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to a safetensors file; the walk itself is not kept.

        Raises:
            RuntimeError: before `fit` or `load`.
            OSError: if the folder cannot be written.
        """
        density, likelihood = self._fitted().density, self._known_likelihood()
        settings: dict[str, Any] = {
            "likelihood": likelihood.kind,
            "noise_std": likelihood.noise_std if isinstance(likelihood, Gaussian) else None,
            "prior_precision": self.prior_precision,
            "seed": self.seed,
            "hidden": self._fitted().autoencoder.encoder.inner.out_features,
            "bandwidth": density.bandwidth,
            "stretch": density.stretch,
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
        basis = Basis(**{name: tensors[f"basis.{name}"] for name in Basis.__dataclass_fields__})
        mean = tensors["density.mean"]
        autoencoder = Autoencoder(basis.deviations, len(mean), settings["hidden"])
        prefix = "autoencoder."
        autoencoder.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
        density = LatentDensity(
            tensors["density.points"], mean, tensors["density.factor"], settings["bandwidth"], settings["stretch"]
        )
        posterior.latent_posterior = LatentPosterior(basis, autoencoder.requires_grad_(False), density)
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

    def _outputs(self, weights: Tensor, x: Tensor) -> Tensor:
        """Outputs of weight samples [S, P] on x, [S, N, C], in batches of bounded memory."""
        if len(x) == 0 or (x.is_floating_point() and not x.isfinite().all()):
            raise ValueError("x is empty, or holds NaN or infinite values")
        x = x.to(self.network.weights) if x.is_floating_point() else x.to(self.network.weights.device)
        rows = max(1, PREDICT_BYTES // (len(weights) * 64 * 4))
        return torch.cat([self.network(weights, batch) for batch in x.split(rows)], dim=1)

    def _fit_diagnostics(self, energy: Energy, cost: Cost) -> Diagnostics:
        """What is known after the fit, without held-out data."""
        trajectory, latent = self.trajectory, self._fitted()
        assert trajectory is not None  # noqa: S101 - narrows the type; fit has just set it
        rise = float(energy(latent.sample(100, seed=self.seed)).double().mean()) - trajectory.map_energy
        found = Diagnostics(
            energy_ratio_walk=trajectory.energy_ratio,
            energy_ratio_latent=2.0 * rise / self.network.n_params,
            settled=trajectory.settled,
            undone=trajectory.undone,
            grad_evals=cost.grad_evals,
            hvp_evals=cost.hvp_evals,
            walk_s=trajectory.seconds,
            latent_s=latent.seconds,
            peak_mib=peak_mib(self.network.weights.device),
        )
        return replace(found, warnings=warnings_of(found))

    def _with_walk(self, found: Diagnostics, walk: Trajectory, latent_outputs: Tensor, x: Tensor, y: Tensor) -> Diagnostics:
        """Add what compares the latent posterior with the walk's own snapshots."""
        likelihood = self._known_likelihood()
        outputs = self._outputs(walk.weights, x)
        predictions = outputs.softmax(-1) if isinstance(likelihood, Categorical) else outputs
        n_particles = int(walk.particle.unique().numel())
        chains = predictions.unflatten(0, (-1, n_particles)).transpose(0, 1)
        r_hat = split_r_hat(chains) if chains.shape[1] >= 4 else predictions.new_tensor(math.nan)
        tv = math.nan
        if isinstance(likelihood, Categorical):
            difference = predictions.mean(dim=0) - latent_outputs.softmax(-1).mean(dim=0)
            tv = float(0.5 * difference.abs().sum(-1).mean())
        return replace(
            found,
            nll_walk=predictive_nll(likelihood, outputs, y)[0],
            spread_walk=_spread(likelihood, outputs),
            tv_latent=tv,
            r_hat_median=float(r_hat.median()),
            r_hat_max=float(r_hat.max()),
        )


def _likelihood(kind: str | Likelihood, noise_std: float | None) -> Likelihood | None:
    """The likelihood that was asked for; None for a regression whose noise is yet to be fitted."""
    if noise_std is not None and kind != "regression":
        raise ValueError('noise_std belongs to likelihood="regression"; give it inside Gaussian(noise_std) otherwise')
    if isinstance(kind, (Categorical, Gaussian)):
        return kind
    if kind == "classification":
        return Categorical()
    if kind == "regression":
        return None if noise_std is None else Gaussian(noise_std)
    raise ValueError(f'likelihood must be "classification", "regression", Categorical() or Gaussian(...); got {kind!r}')


def _spread(likelihood: Likelihood, outputs: Tensor) -> float:
    """Mean standard deviation of predictions [S, N, C] over samples."""
    predictions = outputs.softmax(-1) if isinstance(likelihood, Categorical) else outputs
    return float(predictions.double().std(dim=0).mean()) if len(predictions) > 1 else 0.0


def _warn_unless_at_minimum(energy: Energy, weights: Tensor, seed: int) -> None:
    """Warn if a Newton step with the preconditioner's curvature would lower the energy by more than a nat."""
    gradient = energy.value_and_grad(weights[None])[1][0]
    scale = diagonal_scale(ggn_diagonal(energy, weights, n_probes=16, seed=seed), energy.prior_precision)
    gain = 0.5 * float((scale * gradient).square().sum())
    if gain > 1.0:
        warnings.warn(
            f"the model is not at a minimum of its energy (gradient norm {float(gradient.norm()):.2g}, about {gain:.1f} nats "
            "above one): train it further with the same prior, for example by fiberbnn.fit_map(model, x, y, likelihood)",
            stacklevel=3,
        )

"""One mode of a posterior: a trained network, the walk from it, and the latent posterior of the walk."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from .any_energy import AnyEnergy
from .batch import check_finite
from .batch_norm import Policy
from .cost import Cost
from .curvature import newton_gain
from .data import Examples, ExamplesInMemory
from .energy import Energy
from .latent import LatentPosterior, LatentSettings
from .likelihood import Categorical, Gaussian, Likelihood, UnfittedGaussian
from .minibatch import MinibatchEnergy
from .network import Network
from .schedule import WalkSchedule
from .subset import Subset
from .trajectory import Trajectory, walk_from
from .walk_state import WalkSettings


@dataclass(frozen=True, eq=False)
class Mode:
    """What a fit leaves of one trained network.

    Attributes:
        network: the network as a function of the weights that were walked; its own weights are the MAP.
        latent: the latent posterior.
        trajectory: the walk; None after loading.
        energy: U as the fit saw it; None after loading.
    """

    network: Network
    latent: LatentPosterior
    trajectory: Trajectory | None = None
    energy: AnyEnergy | None = None

    @property
    def cost(self) -> Cost:
        """What the fit computed."""
        return Cost() if self.energy is None else self.energy.cost


@dataclass(frozen=True, kw_only=True)
class ModeSettings:
    """How a mode is fitted; see `MetricBNN`."""

    n_particles: int
    batch_size: int | None
    walk: WalkSettings
    schedule: WalkSchedule
    latent: LatentSettings
    seed: int

    def check_enough_samples(self) -> None:
        """Raise ValueError if the walk would leave too few samples for a latent posterior, even if none is lost."""
        n_snapshots = min(self.schedule.n_snapshots, max(1, self.schedule.max_steps // 2))
        if self.n_particles * n_snapshots < 2:
            raise ValueError(
                "one particle and one snapshot are one sample of the walk, and a latent posterior needs two at least: "
                "raise n_particles, or the schedule's n_snapshots (and max_steps: half of the steps give snapshots)"
            )


@contextmanager
def gradients_on(call: str) -> Iterator[None]:
    """Inside, gradients can be taken, even under `torch.no_grad`.

    Args:
        call: what needs them, for the error.

    Raises:
        RuntimeError: under `torch.inference_mode`, whose tensors never have gradients.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(f"{call} takes gradients, which torch.inference_mode() rules out: call it outside")
    with torch.enable_grad():
        yield


def networks_of(models: list[nn.Module], subset: Subset | None, batch_norm: Policy) -> list[Network]:
    """Return the networks of models of one architecture.

    Raises:
        ValueError: if there is no model, or their weights differ in names or shapes.
    """
    if not models:
        raise ValueError("there is no model: give one, or a list of trained models of one architecture")
    networks = [Network(model, subset=subset, batch_norm=batch_norm) for model in models]
    for number, network in enumerate(networks[1:], start=2):
        if network.shapes != networks[0].shapes or str(network.model) != str(networks[0].model):
            raise ValueError(
                f"model {number} is of another architecture than the first: pooled posteriors need models that differ "
                "in their weights only"
            )
    return networks


def noise_of(
    unfitted: UnfittedGaussian, networks: list[Network], examples: Examples, batch_size: int | None
) -> Gaussian:
    """Return the likelihood whose noise fits the residuals of all networks at their own weights.

    Raises:
        ValueError: if the data are not finite or do not fit the networks, or the residuals are no more than rounding.
    """
    outputs, targets = [], []
    for network in networks:
        for x, y in examples.batches(batch_size or examples.n):
            check_finite(x, "inputs")
            check_finite(y, "targets")
            outputs.append(network(network.weights[None], network.prepare(x))[0])
            targets.append(y.to(outputs[-1].device))
            Gaussian(1.0).check(outputs[-1], targets[-1])
    return unfitted.fitted(torch.cat(outputs), torch.cat(targets))


def energy_of(
    network: Network,
    likelihood: Likelihood,
    examples: Examples,
    prior_precision: float,
    batch_size: int | None,
    seed: int,
) -> AnyEnergy:
    """Return the energy of all examples, or one of minibatches.

    Raises:
        ValueError: if the data do not fit likelihood and network, or examples that are read on demand come without a
            batch size.
    """
    if batch_size is not None:
        return MinibatchEnergy(network, likelihood, examples, prior_precision, batch_size=batch_size, seed=seed)
    if not isinstance(examples, ExamplesInMemory):
        raise ValueError("examples that are read on demand need a batch_size")
    return Energy(network, likelihood, examples.x, examples.y, prior_precision)


def fit_mode(energy: AnyEnergy, settings: ModeSettings, *, progress_bar: bool = False) -> Mode:
    """Return the mode around the network's own weights: walk, then latent posterior.

    Raises:
        WalkDivergedError: if most steps of the walk fail.

    Warns:
        UserWarning: if the network is not at a minimum of the energy.
    """
    network, seed = energy.network, settings.seed
    _warn_unless_at_minimum(energy, seed)
    trajectory = walk_from(
        energy, network.weights, n_particles=settings.n_particles, settings=settings.walk, schedule=settings.schedule,
        seed=seed, progress_bar=progress_bar,
    )  # fmt: skip
    latent = LatentPosterior.fit(
        trajectory.weights, energy, scale=trajectory.scale, particle=trajectory.particle, settings=settings.latent,
        seed=seed, progress_bar=progress_bar,
    )  # fmt: skip
    return Mode(network, latent, trajectory, energy)


def _warn_unless_at_minimum(energy: AnyEnergy, seed: int) -> None:
    """Warn if the network's weights are clearly above a minimum of the energy; minibatches are too noisy to tell."""
    if not isinstance(energy, Energy):
        return
    weights = energy.network.weights
    gradient = energy.value_and_grad(weights[None])[1][0]
    gain = newton_gain(energy, weights, gradient, seed=seed)
    if gain > 1.0:
        named = '"classification"' if energy.likelihood == Categorical() else f"fiberbnn.{energy.likelihood}"
        warnings.warn(
            f"the model is not at a minimum of its energy (gradient norm {float(torch.linalg.norm(gradient)):.2g}, "
            f"{gain:.1f} nats or more above one): train it further with the same prior, for example by "
            f"model = fiberbnn.fit_map(model, x, y, {named}, "
            f"prior_precision={energy.prior_precision:g}).model",
            stacklevel=5,  # whoever called `fit` of MetricBNN
        )

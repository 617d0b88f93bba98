"""Two small problems with their MAP, a toy walk, and one thread: tiny matrices only lose by more."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Self

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from fiberbnn import (
    AutoencoderSettings,
    Categorical,
    Cost,
    Energy,
    Gaussian,
    LatentSettings,
    Likelihood,
    MapFit,
    MetricBNN,
    Network,
    Sampler,
    WalkInfo,
    WalkSchedule,
    WalkSettings,
    WalkState,
    fit_map,
)
from fiberbnn.walk import build

# For tests whose fits are too short to be right, and say so.
TOO_SHORT = pytest.mark.filterwarnings(
    "ignore:the model is not at a minimum",
    "ignore:the walk's energy",
    "ignore:the noise of minibatches heats",
    "ignore:the walk's velocities are too hot",
    "ignore:.* of the walk's steps were undone",
    "ignore:.*particles could not move",
    "ignore:decoded samples are hotter",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Problem:
    """Training data, held-out data and a trained network."""

    kind: str
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    likelihood: Likelihood
    map_fit: MapFit

    def energy(self, dtype: torch.dtype = torch.float32) -> Energy:
        """The energy around the trained network, its counters at zero."""
        model = copy.deepcopy(self.map_fit.model).to(dtype)
        return Energy(Network(model), self.likelihood, self.x, self.y)


def make_mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    """A tanh perceptron with torch's own initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [layer for n_in, n_out in pairwise(widths) for layer in (nn.Linear(n_in, n_out), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def draw_teacher(model: nn.Sequential, x: Tensor, seed: int) -> Tensor:
    """Outputs of the model with weights drawn from the prior: data for which the posterior is the best predictor."""
    network = Network(model)
    return network(torch.randn(1, network.n_params, generator=torch.Generator().manual_seed(seed)), x)[0]


def make_classification() -> Problem:
    """Three classes in the plane."""
    generator = torch.Generator().manual_seed(1)
    x, model = torch.randn(360, 2, generator=generator), make_mlp(2, 8, 3)
    y = draw_teacher(model, x, seed=4).softmax(-1).multinomial(1, generator=generator)[:, 0]
    fit = fit_map(model, x[:60], y[:60], Categorical())
    return Problem("classification", x[:60], y[:60], x[60:], y[60:], Categorical(), fit)


def make_regression() -> Problem:
    """A curve with noise, seen left and right of a gap."""
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.rand(360, 1, generator=generator) + 0.6
    x, model = torch.where(torch.arange(360)[:, None] % 2 == 0, x, -x), make_mlp(1, 8, 1)
    y = draw_teacher(model, x, seed=4) + 0.3 * torch.randn(360, 1, generator=generator)
    fit = fit_map(model, x[:40], y[:40], Gaussian(0.3))
    return Problem("regression", x[:40], y[:40], x[40:], y[40:], Gaussian(0.3), fit)


class StandIn:
    """All that the walk asks of an exact energy but its values: a base for functions of weights without data."""

    exact, n, prior_precision = True, 1, 1.0
    network = SimpleNamespace(n_params=5)

    def __init__(self) -> None:
        self.cost = Cost()

    def at(self, time: int) -> Self:
        """Itself: every step sees all data."""
        return self

    def anchored(self, weights: Tensor) -> Self:
        """Itself: there is no noise to lower."""
        return self

    def rows(self, index: Tensor) -> Tensor:
        """Its one row, which nothing depends on, as often as it is asked for."""
        return torch.zeros(len(index), 1)


class Quartic(StandIn):
    """U(w) = sum of w^2/2 + w^4/10 and a coupling: smooth, not Gaussian, and it counts its gradients."""

    def single(self, w: Tensor) -> Tensor:
        """The energy of one weight vector."""
        return 0.5 * w.square().sum() + 0.1 * w.pow(4).sum() + 0.3 * (w[0] * w[1]).sin()

    def value_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and gradients, as a real one's."""
        self.cost.grad_evals += len(weights)
        gradient, value = vmap(grad_and_value(self.single))(weights)
        return value, gradient


class ToyWalk:
    """Six particles in five dimensions, in float64."""

    n_particles, n_params = 6, 5
    energy = Quartic
    start = torch.linspace(-0.5, 0.7, 5, dtype=torch.float64)
    scale = torch.linspace(0.6, 1.4, 5, dtype=torch.float64)

    def sampler(self, settings: WalkSettings, *, energy: Quartic | None = None, h: float = 0.2, **options) -> Sampler:
        """A walk with settings bound; the options are those of `build`."""
        chosen = {"scale": self.scale, "n_particles": 6, "seed": 7} | options
        return build(energy or Quartic(), step_size=h, settings=settings, **chosen)

    def run(self, walk: Sampler, n_steps: int) -> list[tuple[WalkState, WalkInfo]]:
        """States and infos of a run from the start."""
        state, visited = walk.init(self.start), []
        for _ in range(n_steps):
            state, info = walk.step(state)
            visited.append((state, info))
        return visited


@pytest.fixture(scope="session")
def toy() -> ToyWalk:
    return ToyWalk()


@pytest.fixture(scope="session")
def classification() -> Problem:
    return make_classification()


@pytest.fixture(scope="session")
def regression() -> Problem:
    return make_regression()


@pytest.fixture(scope="session", params=["classification", "regression"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def quick() -> dict[str, object]:
    """Settings of `MetricBNN` for a fit in a fraction of a second, too short to be right."""
    return {
        "n_particles": 8,
        "schedule": WalkSchedule(max_steps=40, min_warmup=10, n_snapshots=5),
        "latent": LatentSettings(autoencoder=AutoencoderSettings(steps=15, max_steps=15, decay_steps=5)),
    }


@pytest.fixture(scope="session")
def make() -> Callable[..., MetricBNN]:
    """Make an unfitted posterior of a problem; a regression's noise is known unless `options` say otherwise."""

    def fresh(problem: Problem, quick: dict[str, object], **options: object) -> MetricBNN:
        if problem.kind == "regression":
            options = {"noise_std": 0.3} | options
        return MetricBNN(problem.map_fit.model, problem.kind, **(quick | options))

    return fresh

"""Two small problems with their MAP, made once, and one thread: tiny matrices only lose by more."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import (
    AutoencoderSettings,
    Categorical,
    Energy,
    Gaussian,
    LatentSettings,
    Likelihood,
    MapFit,
    Network,
    WalkSchedule,
    fit_map,
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
    y = draw_teacher(model, x, seed=3).softmax(-1).multinomial(1, generator=generator)[:, 0]
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
        "latent": LatentSettings(autoencoder=AutoencoderSettings(steps=15)),
    }

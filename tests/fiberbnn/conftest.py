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
    """Training data and a trained network."""

    kind: str
    x: Tensor
    y: Tensor
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


def make_classification() -> Problem:
    """Three classes in the plane, none of them certain."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(90, 2, generator=generator)
    noise = 0.5 * torch.randn(90, generator=generator)
    y = torch.bucketize(x.prod(dim=1) + noise, torch.tensor([-0.4, 0.4]))
    fit = fit_map(make_mlp(2, 8, 3), x, y, Categorical())
    return Problem("classification", x, y, Categorical(), fit)


def make_regression() -> Problem:
    """A sine with a gap."""
    generator = torch.Generator().manual_seed(2)
    x = torch.cat([torch.linspace(-2, -0.6, 25), torch.linspace(0.6, 2, 25)])[:, None]
    y = torch.sin(3 * x) + 0.3 * torch.randn(50, 1, generator=generator)
    fit = fit_map(make_mlp(1, 8, 1), x, y, Gaussian(0.3))
    return Problem("regression", x, y, Gaussian(0.3), fit)


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
    return dict(
        n_particles=8,
        schedule=WalkSchedule(max_steps=40, min_warmup=10, n_snapshots=5),
        latent=LatentSettings(autoencoder=AutoencoderSettings(steps=15)),
    )

"""Posteriors with a known answer: Bayesian linear regression in closed form, one skewed posterior by quadrature.

Particles are independent, so the spread of their averages over time gives the standard errors: no autocorrelation
has to be estimated. Every z-score has to lie within four, and their mean square near one.
"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import (
    AutoencoderSettings,
    Categorical,
    Energy,
    Gaussian,
    LatentPosterior,
    LatentSettings,
    Network,
    Trajectory,
    WalkSchedule,
    WalkSettings,
    walk_from,
)
from fiberbnn.walk import build

NOISE, TAU, K = 0.5, 1.0, 600


class Conjugate(NamedTuple):
    """A linear regression and its posterior N(mean, covariance)."""

    energy: Energy
    mean: Tensor  # [P]
    covariance: Tensor  # [P, P]


class Moments(NamedTuple):
    """Estimates of mean and covariance, stacked to one vector, and their standard errors."""

    value: Tensor
    error: Tensor


@pytest.fixture(scope="module")
def conjugate() -> Conjugate:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(25, 4, generator=generator)
    x[:, 1] += 2 * x[:, 0]  # correlated, so that no diagonal preconditioner makes it round
    y = x @ torch.randn(4, 1, generator=generator) + NOISE * torch.randn(25, 1, generator=generator)
    design = torch.cat([x, torch.ones(25, 1)], dim=1).double()
    precision = design.T @ design / NOISE**2 + TAU * torch.eye(5, dtype=torch.float64)
    mean = torch.linalg.solve(precision, design.T @ y[:, 0].double() / NOISE**2)
    energy = Energy(Network(nn.Sequential(nn.Linear(4, 1))), Gaussian(NOISE), x, y, TAU)
    return Conjugate(energy, mean, torch.linalg.inv(precision))


@pytest.fixture(scope="module")
def walked(conjugate: Conjugate) -> Trajectory:
    """A walk with default settings but for its length, of 1,200 weight samples."""
    schedule = WalkSchedule(max_steps=400, min_warmup=150, n_snapshots=3)
    return walk_from(conjugate.energy, conjugate.mean.float(), n_particles=400, schedule=schedule, seed=2)


def moments(samples: Tensor, mean: Tensor) -> Moments:
    """Of samples [K, T, P]: the deviation from a known mean, and the mean square about it, averaged over K."""
    centred = samples.double() - mean
    products = centred[..., :, None] * centred[..., None, :]
    upper = torch.triu_indices(len(mean), len(mean))
    each = torch.cat([centred.mean(1), products.mean(1)[:, upper[0], upper[1]]], dim=1)
    return Moments(each.mean(0), each.std(0) / len(each) ** 0.5)


def z_scores(found: Moments, conjugate: Conjugate, extra_error: Tensor | float = 0.0) -> Tensor:
    """How many standard errors lie between the moments and the closed form."""
    upper = torch.triu_indices(*conjugate.covariance.shape)
    exact = torch.cat([torch.zeros_like(conjugate.mean), conjugate.covariance[upper[0], upper[1]]])
    return (found.value - exact) / (found.error.square() + extra_error**2).sqrt()


def assert_match(found: Moments, conjugate: Conjugate, extra_error: Tensor | float = 0.0) -> None:
    z = z_scores(found, conjugate, extra_error)
    assert z.abs().max() < 4, z
    assert z.square().mean() < 2.5, z
    # The errors are small enough to say something: 10 % of the variances, at most.
    variances = found.error[len(conjugate.mean) :][_diagonal(len(conjugate.mean))]
    assert (variances < 0.1 * conjugate.covariance.diagonal()).all()


def _diagonal(n: int) -> Tensor:
    """Where the diagonal stands in the upper triangle read row by row."""
    return torch.tensor([i * n - i * (i - 1) // 2 for i in range(n)])


def samples_of(trajectory: Trajectory) -> Tensor:
    """The snapshots, [K, T, P]."""
    n_particles = int(trajectory.particle.max()) + 1
    return trajectory.weights.unflatten(0, (-1, n_particles)).transpose(0, 1)


def stepped(conjugate: Conjugate, settings: WalkSettings, h: float, *, time: float = 30.0, n_kept: int = 8) -> Tensor:
    """Samples [K, T, P] of a walk with a fixed step, preconditioned as ours are."""
    scale = torch.linalg.inv(conjugate.covariance).diagonal().rsqrt().float()
    walk = build(conjugate.energy, scale=scale, step_size=h, n_particles=K, seed=1, settings=settings)
    state = walk.init(conjugate.mean.float())
    kept = []
    for t in range(1, 2 * int(time / h) + 1):
        state, info = walk.step(state)
        if t > time / h and t % max(1, int(time / h / n_kept)) == 0:
            kept.append(state.particles)
    assert settings.metropolis or info.moved.all()
    return torch.stack(kept, dim=1)


@pytest.mark.parametrize("h", [0.2, 1.0])
def test_the_persistent_walk_has_the_closed_form(conjugate, h):
    # Where the energy is quadratic, BAOAB has no error in the positions at any stable step.
    settings = WalkSettings(friction=0.5, energy_error_limit=1e6)
    assert_match(moments(stepped(conjugate, settings, h), conjugate.mean), conjugate)


@pytest.mark.parametrize("friction", [0.1, 1.0])
def test_the_metropolis_walk_has_the_closed_form_at_a_long_step(conjugate, friction):
    settings = WalkSettings(friction=friction, metropolis=True)
    assert_match(moments(stepped(conjugate, settings, 0.8, time=60.0), conjugate.mean), conjugate)


def test_langevin_refinement_has_the_closed_form_at_a_short_step(conjugate):
    # The literal mode without its drift is the unadjusted Langevin algorithm, whose bias is of order h^2 / 4.
    settings = WalkSettings(drift="literal", drift_length=0.0, refine_steps=10, refine_noise=1.0)
    found = moments(stepped(conjugate, settings, 0.25, time=25.0), conjugate.mean)
    assert_match(found, conjugate, extra_error=0.25**2 / 4 * conjugate.covariance.diagonal().max())


def test_a_walk_that_adapts_by_itself_has_the_closed_form(conjugate, walked):
    assert_match(moments(samples_of(walked), conjugate.mean), conjugate)
    assert walked.energy_ratio == pytest.approx(1.0, abs=0.1)
    assert walked.settled


def test_a_metropolis_walk_that_adapts_by_itself_has_the_closed_form(conjugate):
    trajectory = walk_from(
        conjugate.energy,
        conjugate.mean.float(),
        n_particles=400,
        settings=WalkSettings(metropolis=True),
        schedule=WalkSchedule(max_steps=400, min_warmup=150),
        seed=2,
    )
    assert_match(moments(samples_of(trajectory), conjugate.mean), conjugate)


@pytest.mark.parametrize("density", ["gaussian", "kde"])
@pytest.mark.parametrize("steps", [0, 200])
def test_decoded_samples_have_the_closed_form(conjugate, walked, density, steps):
    settings = LatentSettings(density=density, autoencoder=AutoencoderSettings(steps=steps, max_steps=steps))
    latent = LatentPosterior.fit(walked.weights, conjugate.energy, scale=walked.scale, settings=settings, seed=3)
    drawn = moments(latent.sample(20_000, seed=4)[:, None], conjugate.mean)
    # What the walk did not know, the decoded samples cannot.
    assert_match(drawn, conjugate, extra_error=moments(samples_of(walked), conjugate.mean).error)


class Slope(nn.Module):
    """A logistic regression of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), self.weight * x[:, 0]], dim=1)


def test_metropolis_makes_a_skewed_posterior_exact():
    # All labels agree with the sign of x, so that only the prior stops the weight: mean, variance and skewness by
    # quadrature. The step is long on purpose: without Metropolis the answer is wrong by many standard errors.
    x = torch.tensor([[3.0], [-2.0], [1.0], [4.0]], dtype=torch.float64)
    network = Network(Slope().double(), vectorize=True, particles_at_once=2000)
    energy = Energy(network, Categorical(), x, (x[:, 0] > 0).long(), prior_precision=0.05)
    grid = torch.linspace(-10, 60, 20_001, dtype=torch.float64)
    density = (-energy(grid[:, None])).exp()
    density /= density.sum()
    mean = (density * grid).sum()
    exact = torch.stack([(density * (grid - mean) ** power).sum() for power in (1, 2, 3)])
    assert exact[2] > 0.5 * exact[1] ** 1.5  # skewed indeed

    z = {}
    for metropolis in (True, False):
        walk = build(
            energy,
            scale=exact[1].sqrt()[None],
            step_size=1.8,
            n_particles=2000,
            seed=5,
            settings=WalkSettings(friction=0.5, metropolis=metropolis, energy_error_limit=1e6),
        )
        state = walk.init(mean[None])
        kept = []
        for t in range(150):
            state, _ = walk.step(state)
            if t >= 50 and t % 10 == 0:
                kept.append(state.particles)
        centred = torch.cat(kept, dim=1) - mean
        each = torch.stack([centred.pow(power).mean(1) for power in (1, 2, 3)])
        z[metropolis] = (each.mean(1) - exact) / (each.std(1) / 2000**0.5)
    assert z[True].abs().max() < 4
    assert z[False].abs().max() > 8

"""The heat of minibatches, with a known answer: linear regression, where posterior and noise have closed forms.

Particles share their batches, so that their errors are alike: standard errors come from blocks of time.
"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import Energy, Gaussian, Network, WalkSchedule, WalkSettings, walk_from
from fiberbnn.data import ExamplesInMemory
from fiberbnn.energy import Energy as Batch
from fiberbnn.minibatch import MinibatchEnergy
from fiberbnn.walk import build

N, D, NOISE, TAU = 64, 7, 0.5, 1.0
BLOCKS = 20


class Linear(NamedTuple):
    """A linear regression and its posterior N(mean, covariance)."""

    network: Network
    x: Tensor
    y: Tensor
    mean: Tensor  # [P]
    covariance: Tensor  # [P, P]

    @property
    def scale(self) -> Tensor:
        """The preconditioner at the MAP, [P]."""
        return torch.linalg.inv(self.covariance).diagonal().rsqrt()

    def exact(self) -> Energy:
        """The energy of all data."""
        return Energy(self.network, Gaussian(NOISE), self.x, self.y, TAU)

    def seen(self, kind: type[MinibatchEnergy], batch_size: int, *, control_variates: bool) -> MinibatchEnergy:
        """The energy of minibatches, anchored at the MAP."""
        energy = kind(
            self.network, Gaussian(NOISE), ExamplesInMemory(self.x, self.y), TAU,
            batch_size=batch_size, control_variates=control_variates,
        )  # fmt: skip
        return energy.anchored(self.mean)


class Fresh(MinibatchEnergy):
    """Each step's batch is drawn anew, not from what an epoch has left: noise without memory."""

    def at(self, time: int) -> Batch:
        return super().at(time * (self.n // self.batch_size))


@pytest.fixture(scope="module")
def linear() -> Linear:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    noise = NOISE * torch.randn(N, 1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(D, 1, generator=generator, dtype=torch.float64) + noise
    design = torch.cat([x, torch.ones(N, 1, dtype=torch.float64)], dim=1)
    precision = design.T @ design / NOISE**2 + TAU * torch.eye(D + 1, dtype=torch.float64)
    mean = torch.linalg.solve(precision, design.T @ y[:, 0] / NOISE**2)
    network = Network(nn.Sequential(nn.Linear(D, 1)).double())
    return Linear(network, x, y, mean, torch.linalg.inv(precision))


class Found(NamedTuple):
    """Means over particles and time, and their standard errors from blocks of time."""

    heat: float
    variance: float  # mean of the covariance^-1-weighted squares over P: 1 for the posterior
    heat_error: float
    variance_error: float
    energy_ratio: float  # of the last states, on all data


def walked(linear: Linear, energy, *, thermostat: float, h: float = 0.1, friction: float = 0.5, n_steps: int = 1200):
    """What a walk of a fixed step finds in its second half."""
    settings = WalkSettings(friction=friction, thermostat=thermostat, energy_error_limit=1e9)
    walk = build(energy, scale=linear.scale, step_size=h, n_particles=80, seed=1, settings=settings)
    state, heats, squares = walk.init(linear.mean), [], []
    precision = torch.linalg.inv(linear.covariance)
    for t in range(n_steps):
        state, info = walk.step(state)
        if t >= n_steps // 2:
            offset = state.particles - linear.mean
            heats.append(info.heat.mean())
            squares.append(((offset @ precision) * offset).sum(1).mean() / (D + 1))
    found = [torch.stack(values).unflatten(0, (BLOCKS, -1)).mean(1) for values in (heats, squares)]
    exact = linear.exact()
    rise = exact(state.particles).mean() - exact(linear.mean[None])[0]
    return Found(
        *(float(values.mean()) for values in found),
        *(float(values.std()) / BLOCKS**0.5 for values in found),
        float(2 * rise / (D + 1)),
    )


def heat_of_white_noise(linear: Linear, batch_size: int, h: float, friction: float, *, at_map: bool) -> float:
    """The stationary temperature where each batch is drawn anew, from the noise of its preconditioned gradient.

    A step of h and friction gamma puts in h^2 a^2 V and takes out 1 - a^2 of the velocity's square, a = exp(-gamma h).
    V = V0 + T V1: the noise at the MAP (none with control variates), and what grows with the variance of the weights.
    """
    design = torch.cat([linear.x, torch.ones(N, 1, dtype=torch.float64)], dim=1)
    residual = linear.y[:, 0] - design @ linear.mean

    def noise(each: Tensor) -> Tensor:
        """Trace of the covariance of N/B times the sum over a batch without replacement of rows [N, P]."""
        spread = (each - each.mean(0)).square().sum() / (N - 1)
        return N**2 / batch_size * (1 - batch_size / N) * spread

    at_the_map = noise(linear.scale * design * residual[:, None] / NOISE**2)
    root = torch.linalg.cholesky(linear.covariance)
    of_spread = sum(noise(linear.scale * design * (design @ column)[:, None] / NOISE**2) for column in root.T)
    a2 = torch.exp(torch.tensor(-2 * friction * h, dtype=torch.float64))
    gain = h * h * a2 / (1 - a2) / (D + 1)
    return float((1 + (gain * at_the_map if at_map else 0)) / (1 - gain * of_spread))


def test_all_data_have_no_heat_and_the_thermostat_is_off(linear):
    plain = walked(linear, linear.exact(), thermostat=1.0, h=0.6, n_steps=800)
    # In the middle of the step the velocity has no error of the step size; at its ends it would have 9 %.
    assert abs(plain.heat - 1) < 4 * plain.heat_error
    assert abs(plain.variance - 1) < 4 * plain.variance_error
    assert max(plain.heat_error, plain.variance_error) < 0.01
    assert walked(linear, linear.exact(), thermostat=0.0, h=0.6, n_steps=800) == plain


@pytest.mark.parametrize("control_variates", [False, True])
def test_without_a_thermostat_the_heat_is_that_of_the_noise(linear, control_variates):
    batch_size, h, friction = 16, 0.1, 0.5
    energy = linear.seen(Fresh, batch_size, control_variates=control_variates)
    found = walked(linear, energy, thermostat=0.0, h=h, friction=friction)
    expected = heat_of_white_noise(linear, batch_size, h, friction, at_map=not control_variates)
    assert expected > (1.035 if control_variates else 1.08)
    # The formula is of first order in h and counts all directions alike.
    assert found.heat - 1 == pytest.approx(expected - 1, rel=0.15, abs=3 * found.heat_error)
    assert found.variance - 1 == pytest.approx(expected - 1, rel=0.15, abs=3 * found.variance_error)
    assert found.heat > 1 + 4 * found.heat_error


@pytest.mark.parametrize(("control_variates", "batch_size"), [(False, 16), (True, 8)])
def test_the_thermostat_takes_the_heat_out(linear, control_variates, batch_size):
    energy = linear.seen(Fresh, batch_size, control_variates=control_variates)
    assert heat_of_white_noise(linear, batch_size, 0.1, 0.5, at_map=not control_variates) > 1.08
    held = walked(linear, energy, thermostat=1.0)
    assert held.heat == pytest.approx(1.0, abs=max(0.01, 4 * held.heat_error))
    # Exact for noise of one strength in all directions and places; of ours a part grows with the distance.
    assert held.variance == pytest.approx(1.0, abs=0.04 + 3 * held.variance_error)
    assert held.variance_error < 0.03
    assert held.energy_ratio == pytest.approx(1.0, abs=0.25)


def test_epochs_without_control_variates_are_held_a_little_cold(linear):
    # Noises of one epoch add up to zero: they heat velocities more than they move weights, and the thermostat reads
    # velocities. Control variates leave little of it.
    variance = {}
    for control_variates in (False, True):
        energy = linear.seen(MinibatchEnergy, 8, control_variates=control_variates)
        found = walked(linear, energy, thermostat=1.0)
        assert found.heat == pytest.approx(1.0, abs=max(0.01, 4 * found.heat_error))
        variance[control_variates] = found.variance
    assert 0.85 < variance[False] < 0.96
    assert 0.94 < variance[True] < 1.02


def test_a_thermostat_does_not_cool_where_there_is_no_heat(linear):
    # Batches of all data but for a rounding: chance alone must not add friction.
    energy = linear.seen(MinibatchEnergy, N, control_variates=True)
    found = walked(linear, energy, thermostat=1.0)
    assert found.heat == pytest.approx(1.0, abs=0.01)
    assert found.variance == pytest.approx(1.0, abs=4 * found.variance_error)


def test_a_walk_on_minibatches_that_adapts_by_itself(linear):
    found = walk_from(
        linear.seen(MinibatchEnergy, 16, control_variates=True),
        linear.mean,
        n_particles=200,
        schedule=WalkSchedule(max_steps=400, min_warmup=150),
        seed=2,
    )
    assert found.settled
    assert found.heat == pytest.approx(1.0, abs=0.05)
    assert found.energy_ratio == pytest.approx(1.0, abs=0.15)
    exact = linear.exact()
    torch.testing.assert_close(found.full_energy, exact(found.weights[-200:]))
    measured = found.history[:, 1].isfinite()
    assert measured[4::5][: len(found.history) // 10].all()
    assert not measured[len(found.history) // 2 :].any()


def test_the_walk_reports_the_heat_that_it_could_not_take_out(linear):
    heats = [
        walk_from(
            linear.seen(Fresh, 24, control_variates=False),
            linear.mean,
            n_particles=50,
            settings=WalkSettings(thermostat=thermostat, friction=0.5),
            schedule=WalkSchedule(max_steps=160, min_warmup=80),
            seed=2,
        ).heat
        for thermostat in (0.0, 1.0)
    ]
    assert heats[0] > 1.2
    assert heats[1] == pytest.approx(1.0, abs=0.05)

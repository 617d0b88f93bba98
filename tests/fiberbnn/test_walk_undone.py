"""Steps that fail: put back, flagged, and never accepted."""

import math

import pytest
import torch
from torch import Tensor

from fiberbnn import WalkSettings
from fiberbnn.streams import Stream
from fiberbnn_kernels import philox_normal
from tests.fiberbnn.conftest import Quartic

P = 5  # the toy walk's weights


class Cliff(Quartic):
    """The toy energy up to a wall, behind which nothing is finite."""

    def value_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = super().value_and_grad(weights)
        beyond = weights[:, 0] > 1.0
        return value.masked_fill(beyond, math.nan), gradient.masked_fill(beyond[:, None], math.inf)


@pytest.mark.parametrize(
    "settings", [WalkSettings(energy_error_limit=1e6), WalkSettings(drift="literal", drift_length=4.0)]
)
def test_a_particle_that_leaves_the_finite_is_put_back_and_flagged(toy, settings):
    walk = toy.sampler(settings, energy=Cliff(), h=0.9, n_particles=50)
    state = walk.init(toy.start)
    after, info = walk.step(state)
    undone = ~info.moved
    assert 0 < undone.sum() < 50
    assert (info.acceptance[undone] == 0).all()
    for field in ("particles", "energy", "grad"):
        assert torch.equal(getattr(after, field)[undone], getattr(state, field)[undone])
        assert getattr(after, field).isfinite().all()
    assert after.velocity.isfinite().all()
    assert after.time == 1


def test_a_particle_with_a_huge_energy_error_is_put_back_with_a_new_velocity(toy):
    walk = toy.sampler(WalkSettings(friction=0.3, energy_error_limit=0.5), h=0.8, n_particles=200)
    state = walk.init(toy.start)
    after, info = walk.step(state)
    undone = ~info.moved
    assert 0 < undone.sum() < 200
    assert torch.equal(after.particles[undone], state.particles[undone])
    # exp(-error) below exp(-limit) is exactly what makes a step undone.
    assert torch.equal(undone, info.acceptance < math.exp(-0.5))
    fresh = philox_normal(200, P, seed=7, step=0, stream=Stream.REVIVE, dtype=torch.float64)
    assert torch.equal(after.velocity[undone], fresh[undone])
    kept = walk.step(state)[0].velocity[info.moved]
    assert not (kept == fresh[info.moved]).any()


def test_an_infinite_energy_is_never_accepted(toy):
    walk = toy.sampler(WalkSettings(friction=0.3, metropolis=True), energy=Cliff(), h=0.9, n_particles=50)
    state = walk.init(toy.start)
    for _ in range(10):
        state, info = walk.step(state)
        assert all(part.isfinite().all() for part in state[:4])
        assert info.acceptance.isfinite().all()
    assert (state.particles[:, 0] <= 1.0).all()

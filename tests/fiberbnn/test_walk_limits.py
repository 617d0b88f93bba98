"""The walk's limits and invariants: where it is another known scheme, and what it must keep."""

import math

import pytest
import torch
from torch import distributions as D

from fiberbnn import WalkSettings
from fiberbnn.streams import Stream
from fiberbnn.walk import init
from fiberbnn_kernels import philox_normal

K, P = 6, 5  # the toy walk's particles and weights
# So little friction that exp(-friction h) is 1: the noise vanishes and Hamiltonian dynamics are left.
NO_FRICTION = WalkSettings(friction=1e-30, energy_error_limit=1e6)
PERSISTENT, METROPOLIS = WalkSettings(friction=0.3), WalkSettings(friction=0.3, metropolis=True)


def test_a_vanishing_step_leaves_everything_alone(toy):
    for mode in (PERSISTENT, METROPOLIS):
        walk = toy.sampler(mode, h=1e-300)
        state = walk.init(toy.start)
        after, info = walk.step(state)
        assert torch.equal(after.particles, state.particles)
        assert torch.equal(after.velocity, state.velocity)
        assert info.moved.all()
        assert (info.acceptance == 1).all()


def test_the_literal_walk_without_drift_rests_at_the_minimum(toy):
    walk = toy.sampler(WalkSettings(drift="literal", drift_length=0.0))
    minimum = torch.zeros(P, dtype=torch.float64)
    energy = toy.energy()
    energy.single = lambda w: 0.5 * w.square().sum()
    after, _ = toy.sampler(WalkSettings(drift="literal", drift_length=0.0), energy=energy).step(
        init(minimum, energy, WalkSettings(drift="literal"), n_particles=K, seed=0)
    )
    assert torch.equal(after.particles, torch.zeros(K, P, dtype=torch.float64))
    assert walk.init(toy.start).velocity.norm(dim=1) == pytest.approx(1.0)


def test_the_literal_walk_without_drift_descends(toy):
    states = [state for state, _ in toy.run(toy.sampler(WalkSettings(drift="literal", drift_length=0.0), h=0.8), 20)]
    energies = torch.stack([state.energy for state in states])
    assert (energies.diff(dim=0) < 0).all()
    assert (states[-1].grad.norm(dim=1) < 0.1 * states[0].grad.norm(dim=1)).all()


def test_a_literal_step_is_the_drift_then_gradient_steps(toy):
    walk = toy.sampler(WalkSettings(drift="literal", drift_length=0.3, refine_steps=2))
    state = walk.init(toy.start)
    expected = toy.start + 0.3 * toy.scale * state.velocity
    for _ in range(2):
        expected = expected - 0.5 * 0.2**2 * toy.scale**2 * toy.energy().value_and_grad(expected)[1]
    torch.testing.assert_close(walk.step(state)[0].particles, expected)


def test_the_literal_drift_is_fixed_and_stops_when_told(toy):
    steps = toy.run(toy.sampler(WalkSettings(drift="literal", drift_length=0.3, drift_steps=2)), 3)
    assert torch.equal(steps[0][0].velocity, steps[2][0].velocity)
    third = toy.sampler(WalkSettings(drift="literal", drift_length=0.0)).step(steps[1][0])[0]
    assert torch.equal(steps[2][0].particles, third.particles)
    second = toy.sampler(WalkSettings(drift="literal", drift_length=0.0)).step(steps[0][0])[0]
    assert not torch.equal(steps[1][0].particles, second.particles)


def test_langevin_refinement_has_the_noise_of_its_temperature(toy):
    # At the minimum of a flat energy nothing but noise moves a particle: R steps of variance (h scale)^2.
    flat = toy.energy()
    flat.single = lambda w: 0.0 * w.sum()
    settings = WalkSettings(drift="literal", drift_length=0.0, refine_steps=3, refine_noise=1.0)
    state = toy.run(toy.sampler(settings, energy=flat, h=0.2, n_particles=4000), 1)[0][0]
    variance = ((state.particles - toy.start) / toy.scale).var(dim=0)
    torch.testing.assert_close(variance, torch.full_like(variance, 3 * 0.2**2), rtol=5 * math.sqrt(2 / 4000), atol=0)


def test_perturbation_has_its_standard_deviation(toy):
    flat = toy.energy()
    flat.single = lambda w: 0.0 * w.sum()
    settings = WalkSettings(drift="literal", drift_length=0.0, perturbation=0.3)
    state = toy.run(toy.sampler(settings, energy=flat, n_particles=4000), 1)[0][0]
    deviation = ((state.particles - toy.start) / toy.scale).std(dim=0)
    torch.testing.assert_close(deviation, torch.full_like(deviation, 0.3), rtol=5 * math.sqrt(0.5 / 4000), atol=0)


@pytest.mark.parametrize("drift", ["persistent", "literal"])
def test_drifts_are_uniform_in_orientation_and_have_the_stated_length(toy, drift):
    n = 20_000
    state = init(toy.start, toy.energy(), WalkSettings(drift=drift), n_particles=n, seed=5)
    lengths = state.velocity.norm(dim=1)
    length = math.sqrt(2 * P) if drift == "persistent" else 1.0
    torch.testing.assert_close(lengths, torch.full_like(lengths, length))
    direction = state.velocity / lengths[:, None]
    # Of a uniform direction: mean 0, covariance I/P, fourth moments 3/(P (P + 2)).
    assert (direction.mean(0).abs() < 4 * math.sqrt(1 / P / n)).all()
    covariance = direction.T @ direction / n
    assert (covariance - torch.eye(P) / P).abs().max() < 4 * math.sqrt(2 / P / (P + 2) / n)
    fourth = direction.pow(4).mean(0)
    assert (fourth * P * (P + 2) / 3 - 1).abs().max() < 0.05


def test_drift_at_the_map_has_the_energy_of_the_typical_set(toy):
    # P/2 nats of kinetic energy and the P/2 of potential energy that the start lacks.
    state = init(toy.start, toy.energy(), WalkSettings(), n_particles=K, seed=5)
    torch.testing.assert_close(0.5 * state.velocity.square().sum(1), torch.full((K,), float(P), dtype=torch.float64))


@pytest.mark.parametrize("metropolis", [False, True])
def test_energy_error_is_of_second_order(toy, metropolis):
    # Over a fixed time, without friction; the order is the slope of log error against log step.
    settings = WalkSettings(friction=1e-30, energy_error_limit=1e6, metropolis=metropolis)
    steps, errors = [0.16, 0.08, 0.04, 0.02], []
    for h in steps:
        walk = toy.sampler(settings, h=h)
        total = [s.energy + 0.5 * s.velocity.square().sum(1) for s, _ in toy.run(walk, round(1.6 / h))]
        errors.append(float((total[-1] - total[0]).abs().mean()))
    slopes = torch.tensor(errors).log().diff() / torch.tensor(steps).log().diff()
    assert (slopes - 2).abs().max() < 0.2


def test_acceptance_is_that_of_the_energy_error(toy):
    walk = toy.sampler(NO_FRICTION, h=0.8)
    state = walk.init(toy.start)
    after, info = walk.step(state)
    error = after.energy - state.energy + 0.5 * (after.velocity.square() - state.velocity.square()).sum(1)
    assert error.max() > 0.05
    torch.testing.assert_close(info.acceptance, (-error).exp().clamp(max=1.0))


def test_energy_error_leaves_the_noise_out(toy):
    # Friction exchanges energy with the bath; that is no error, and it vanishes with the step.
    small = toy.run(toy.sampler(WalkSettings(friction=1e4), h=0.02), 3)
    energies = torch.stack([state.energy + 0.5 * state.velocity.square().sum(1) for state, _ in small])
    assert energies.diff(dim=0).abs().mean() > 0.3
    assert all((info.acceptance > 0.99).all() for _, info in small)


@pytest.mark.parametrize("metropolis", [False, True])
def test_friction_is_per_unit_of_time_and_keeps_the_temperature(toy, metropolis):
    # Where nothing bends the drift, a step of h leaves exp(-friction h) of it and fills up with noise.
    flat = toy.energy()
    flat.single = lambda w: 0.0 * w.sum()
    walk = toy.sampler(WalkSettings(friction=2.0, metropolis=metropolis), energy=flat, h=0.3)
    state = walk.init(toy.start)
    noise, again = (
        philox_normal(K, P, seed=7, step=0, stream=stream, dtype=torch.float64)
        for stream in (Stream.REFRESH, Stream.REFRESH_AGAIN)
    )
    kept = math.exp(-2.0 * 0.3)
    if metropolis:  # half of the refresh before the step, half after
        half = math.sqrt(kept)
        between = half * state.velocity + math.sqrt(1 - kept) * noise
        expected = half * between + math.sqrt(1 - kept) * again
    else:
        expected = kept * state.velocity + math.sqrt(1 - kept**2) * noise
    torch.testing.assert_close(walk.step(state)[0].velocity, expected)


def test_without_friction_the_walk_is_reversible(toy):
    walk = toy.sampler(NO_FRICTION)
    forth = toy.run(walk, 10)[-1][0]
    state = forth._replace(velocity=-forth.velocity)
    for _ in range(10):
        state, _ = walk.step(state)
    torch.testing.assert_close(state.particles, toy.start.expand(K, P), rtol=0, atol=1e-12)
    torch.testing.assert_close(-state.velocity, walk.init(toy.start).velocity, rtol=0, atol=1e-12)


def test_much_friction_is_the_overdamped_scheme(toy):
    # Leimkuhler and Matthews (2013), equation 1.5: x += -h^2/2 M^2 grad U + h/2 M (xi_n + xi_n+1).
    h = 0.3
    states = [state for state, _ in toy.run(toy.sampler(WalkSettings(friction=1e6, energy_error_limit=1e6), h=h), 4)]
    noise = [
        philox_normal(K, P, seed=7, step=t, stream=Stream.REFRESH, dtype=torch.float64) for t in range(len(states))
    ]
    for n in range(1, len(states)):
        before = states[n - 1]
        expected = (
            before.particles - 0.5 * h**2 * toy.scale**2 * before.grad + 0.5 * h * toy.scale * (noise[n - 1] + noise[n])
        )
        torch.testing.assert_close(states[n].particles, expected)


def test_much_friction_with_metropolis_is_the_adjusted_langevin_algorithm(toy):
    # The acceptance is that of Roberts and Tweedie's (1996) proposal, by torch.distributions.
    h, settings = 0.9, WalkSettings(friction=1e6, metropolis=True)
    walk = toy.sampler(settings, h=h, n_particles=400)
    state = walk.step(walk.init(toy.start))[0]
    noise = philox_normal(400, P, seed=7, step=1, stream=Stream.REFRESH, dtype=torch.float64)
    centre = state.particles - 0.5 * h**2 * toy.scale**2 * state.grad
    proposal = centre + h * toy.scale * noise
    value, gradient = toy.energy().value_and_grad(proposal)
    back = proposal - 0.5 * h**2 * toy.scale**2 * gradient
    log_q_forth = D.Normal(centre, h * toy.scale).log_prob(proposal).sum(1)
    log_q_back = D.Normal(back, h * toy.scale).log_prob(state.particles).sum(1)
    expected = (state.energy - value + log_q_back - log_q_forth).exp().clamp(max=1.0)
    after, info = walk.step(state)
    torch.testing.assert_close(info.acceptance, expected)
    assert 0.1 < info.moved.double().mean() < 0.95
    # Accepted as often as the probabilities say.
    n_moved, variance = info.moved.sum(), (expected * (1 - expected)).sum()
    assert (n_moved - expected.sum()).abs() < 4 * variance.sqrt()
    moved = info.moved[:, None]
    torch.testing.assert_close(after.particles, torch.where(moved, proposal, state.particles))


def test_a_refused_step_turns_back(toy):
    # Little friction: of a refused particle all but the sign of the velocity stays.
    walk = toy.sampler(WalkSettings(friction=1e-30, metropolis=True), h=1.0, n_particles=200)
    state = walk.init(toy.start)
    after, info = walk.step(state)
    refused = ~info.moved
    assert 0 < refused.sum() < 200
    assert torch.equal(after.particles[refused], state.particles[refused])
    torch.testing.assert_close(after.velocity[refused], -state.velocity[refused])
    assert (after.particles[info.moved] != state.particles[info.moved]).all()

"""The walk's steps: limits, invariants, and one contract for all modes."""

import inspect
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch import distributions as D
from torch.func import grad_and_value, vmap

from fiberbnn import WalkSettings
from fiberbnn.streams import Stream
from fiberbnn.walk import Sampler, build, init, step
from fiberbnn_kernels import philox_normal

K, P = 6, 5
START = torch.linspace(-0.5, 0.7, P, dtype=torch.float64)
SCALE = torch.linspace(0.6, 1.4, P, dtype=torch.float64)
# So little friction that exp(-friction h) is 1: the noise vanishes and Hamiltonian dynamics are left.
NO_FRICTION = WalkSettings(friction=1e-30, energy_error_limit=1e6)

MODES = {
    "persistent": WalkSettings(friction=0.3),
    "persistent, Metropolis": WalkSettings(friction=0.3, metropolis=True),
    "literal": WalkSettings(drift="literal", drift_length=0.05),
    "literal, noisy, settling": WalkSettings(
        drift="literal", drift_length=0.05, drift_steps=2, perturbation=0.02, refine_steps=2, refine_noise=1.0
    ),
}


class Quartic:
    """U(w) = sum of w^2/2 + w^4/10 + a coupling: smooth, not Gaussian, and it counts its gradients."""

    network = SimpleNamespace(n_params=P)

    def __init__(self) -> None:
        self.grad_evals = 0

    def single(self, w: Tensor) -> Tensor:
        return 0.5 * w.square().sum() + 0.1 * w.pow(4).sum() + 0.3 * (w[0] * w[1]).sin()

    def value_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        self.grad_evals += len(weights)
        gradient, value = vmap(grad_and_value(self.single))(weights)
        return value, gradient


class Cliff(Quartic):
    """The same up to a wall, behind which nothing is finite."""

    def value_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = super().value_and_grad(weights)
        beyond = weights[:, 0] > 1.0
        return value.masked_fill(beyond, math.nan), gradient.masked_fill(beyond[:, None], math.inf)


def sampler(settings: WalkSettings, *, energy: Quartic | None = None, h: float = 0.2, **settings_of_build) -> Sampler:
    options = {"scale": SCALE, "n_particles": K, "seed": 7} | settings_of_build
    return build(energy or Quartic(), step_size=h, settings=settings, **options)


def run(walk: Sampler, n_steps: int) -> list:
    """States and infos of a run from START."""
    state, visited = walk.init(START), []
    for _ in range(n_steps):
        state, info = walk.step(state)
        visited.append((state, info))
    return visited


@pytest.fixture(params=MODES)
def settings(request):
    return MODES[request.param]


# The contract of all modes.


def test_states_and_infos_have_the_same_form_in_all_modes(settings):
    walk = sampler(settings)
    state = walk.init(START)
    for time in range(4):
        assert state.time == time
        for field in ("particles", "velocity", "grad"):
            assert getattr(state, field).shape == (K, P)
            assert getattr(state, field).dtype == torch.float64
        assert state.energy.shape == (K,)
        value, gradient = Quartic().value_and_grad(state.particles)
        torch.testing.assert_close(state.energy, value)
        torch.testing.assert_close(state.grad, gradient)
        state, info = walk.step(state)
        assert info.acceptance.shape == info.moved.shape == (K,)
        assert info.moved.dtype == torch.bool
        assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()


def test_float32_stays_float32(settings):
    walk = sampler(settings, scale=SCALE.float())
    state, info = walk.step(walk.init(START.float()))
    tensors = [*state[:4], info.acceptance]
    assert all(tensor.dtype == torch.float32 for tensor in tensors)


def test_a_step_does_not_change_its_state(settings):
    walk = sampler(settings)
    state, _ = walk.step(walk.init(START))
    before = [part.clone() for part in state[:4]]
    first, again = walk.step(state), walk.step(state)
    assert all(torch.equal(part, copy) for part, copy in zip(state[:4], before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first[0][:4], again[0][:4], strict=True))


def test_one_seed_gives_one_walk(settings):
    last = [run(sampler(settings, seed=seed), 3)[-1][0] for seed in (7, 7, 8)]
    assert torch.equal(last[0].particles, last[1].particles)
    assert not torch.equal(last[0].particles, last[2].particles)


def test_particles_in_chunks_draw_what_one_walk_draws(settings):
    whole = run(sampler(settings), 4)
    parts = [run(sampler(settings, n_particles=n, particle0=at), 4) for at, n in ((0, 2), (2, K - 2))]
    for (state, info), (first, first_info), (rest, rest_info) in zip(whole, *parts, strict=True):
        for part, a, b in zip(state[:4], first[:4], rest[:4], strict=True):
            torch.testing.assert_close(part, torch.cat([a, b]), rtol=1e-12, atol=1e-12)
        assert torch.equal(info.moved, torch.cat([first_info.moved, rest_info.moved]))


def test_particles_do_not_meet(settings):
    # A particle with its own number draws its own noise; with the noise fixed, the order is all that a swap changes.
    walk = sampler(settings)
    state, _ = walk.step(walk.init(START))
    lone = sampler(settings, n_particles=1, particle0=3)
    alone, _ = lone.step(state._replace(**{name: getattr(state, name)[3:4] for name in state._fields[:4]}))
    torch.testing.assert_close(alone.particles[0], walk.step(state)[0].particles[3], rtol=1e-12, atol=1e-12)


def test_gradients_are_counted_exactly(settings):
    energy = Quartic()
    run(sampler(settings, energy=energy), 5)
    a_step = 1 + settings.refine_steps if settings.drift == "literal" else 1
    assert energy.grad_evals == K * (1 + 5 * a_step)


def test_build_binds_what_init_and_step_take(settings):
    energy = Quartic()
    state = init(START, energy, settings, n_particles=K, seed=7)
    by_hand = step(state, energy, settings, scale=SCALE, step_size=0.2, seed=7)
    built = run(sampler(settings), 1)[0]
    assert torch.equal(by_hand[0].particles, built[0].particles)
    assert list(inspect.signature(sampler(settings).step).parameters) == ["state"]


# Limits and invariants.


def test_a_vanishing_step_leaves_everything_alone():
    for mode in (MODES["persistent"], MODES["persistent, Metropolis"]):
        walk = sampler(mode, h=1e-300)
        state = walk.init(START)
        after, info = walk.step(state)
        assert torch.equal(after.particles, state.particles)
        assert torch.equal(after.velocity, state.velocity)
        assert info.moved.all()
        assert (info.acceptance == 1).all()


def test_the_literal_walk_without_drift_rests_at_the_minimum():
    walk = sampler(WalkSettings(drift="literal", drift_length=0.0))
    minimum = torch.zeros(P, dtype=torch.float64)
    energy = Quartic()
    energy.single = lambda w: 0.5 * w.square().sum()
    after, _ = sampler(WalkSettings(drift="literal", drift_length=0.0), energy=energy).step(
        init(minimum, energy, WalkSettings(drift="literal"), n_particles=K, seed=0)
    )
    assert torch.equal(after.particles, torch.zeros(K, P, dtype=torch.float64))
    assert walk.init(START).velocity.norm(dim=1) == pytest.approx(1.0)


def test_the_literal_walk_without_drift_descends():
    states = [state for state, _ in run(sampler(WalkSettings(drift="literal", drift_length=0.0), h=0.8), 20)]
    energies = torch.stack([state.energy for state in states])
    assert (energies.diff(dim=0) < 0).all()
    assert (states[-1].grad.norm(dim=1) < 0.1 * states[0].grad.norm(dim=1)).all()


def test_a_literal_step_is_the_drift_then_gradient_steps():
    walk = sampler(WalkSettings(drift="literal", drift_length=0.3, refine_steps=2))
    state = walk.init(START)
    expected = START + 0.3 * SCALE * state.velocity
    for _ in range(2):
        expected = expected - 0.5 * 0.2**2 * SCALE**2 * Quartic().value_and_grad(expected)[1]
    torch.testing.assert_close(walk.step(state)[0].particles, expected)


def test_the_literal_drift_is_fixed_and_stops_when_told():
    steps = run(sampler(WalkSettings(drift="literal", drift_length=0.3, drift_steps=2)), 3)
    assert torch.equal(steps[0][0].velocity, steps[2][0].velocity)
    third = sampler(WalkSettings(drift="literal", drift_length=0.0)).step(steps[1][0])[0]
    assert torch.equal(steps[2][0].particles, third.particles)
    second = sampler(WalkSettings(drift="literal", drift_length=0.0)).step(steps[0][0])[0]
    assert not torch.equal(steps[1][0].particles, second.particles)


def test_langevin_refinement_has_the_noise_of_its_temperature():
    # At the minimum of a flat energy nothing but noise moves a particle: R steps of variance (h scale)^2.
    flat = Quartic()
    flat.single = lambda w: 0.0 * w.sum()
    settings = WalkSettings(drift="literal", drift_length=0.0, refine_steps=3, refine_noise=1.0)
    state = run(sampler(settings, energy=flat, h=0.2, n_particles=4000), 1)[0][0]
    variance = ((state.particles - START) / SCALE).var(dim=0)
    torch.testing.assert_close(variance, torch.full_like(variance, 3 * 0.2**2), rtol=5 * math.sqrt(2 / 4000), atol=0)


def test_perturbation_has_its_standard_deviation():
    flat = Quartic()
    flat.single = lambda w: 0.0 * w.sum()
    settings = WalkSettings(drift="literal", drift_length=0.0, perturbation=0.3)
    state = run(sampler(settings, energy=flat, n_particles=4000), 1)[0][0]
    deviation = ((state.particles - START) / SCALE).std(dim=0)
    torch.testing.assert_close(deviation, torch.full_like(deviation, 0.3), rtol=5 * math.sqrt(0.5 / 4000), atol=0)


@pytest.mark.parametrize("drift", ["persistent", "literal"])
def test_drifts_are_uniform_in_orientation_and_have_the_stated_length(drift):
    n = 20_000
    state = init(START, Quartic(), WalkSettings(drift=drift), n_particles=n, seed=5)
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


def test_drift_at_the_map_has_the_energy_of_the_typical_set():
    # P/2 nats of kinetic energy and the P/2 of potential energy that the start lacks.
    state = init(START, Quartic(), WalkSettings(), n_particles=K, seed=5)
    torch.testing.assert_close(0.5 * state.velocity.square().sum(1), torch.full((K,), float(P), dtype=torch.float64))


@pytest.mark.parametrize("metropolis", [False, True])
def test_energy_error_is_of_second_order(metropolis):
    # Over a fixed time, without friction; the order is the slope of log error against log step.
    settings = WalkSettings(friction=1e-30, energy_error_limit=1e6, metropolis=metropolis)
    steps, errors = [0.16, 0.08, 0.04, 0.02], []
    for h in steps:
        walk = sampler(settings, h=h)
        total = [s.energy + 0.5 * s.velocity.square().sum(1) for s, _ in run(walk, round(1.6 / h))]
        errors.append(float((total[-1] - total[0]).abs().mean()))
    slopes = torch.tensor(errors).log().diff() / torch.tensor(steps).log().diff()
    assert (slopes - 2).abs().max() < 0.2


def test_acceptance_is_that_of_the_energy_error():
    walk = sampler(NO_FRICTION, h=0.8)
    state = walk.init(START)
    after, info = walk.step(state)
    error = after.energy - state.energy + 0.5 * (after.velocity.square() - state.velocity.square()).sum(1)
    assert error.max() > 0.05
    torch.testing.assert_close(info.acceptance, (-error).exp().clamp(max=1.0))


def test_energy_error_leaves_the_noise_out():
    # Friction exchanges energy with the bath; that is no error, and it vanishes with the step.
    small = run(sampler(WalkSettings(friction=1e4), h=0.02), 3)
    energies = torch.stack([state.energy + 0.5 * state.velocity.square().sum(1) for state, _ in small])
    assert energies.diff(dim=0).abs().mean() > 0.3
    assert all((info.acceptance > 0.99).all() for _, info in small)


def test_without_friction_the_walk_is_reversible():
    walk = sampler(NO_FRICTION)
    forth = run(walk, 10)[-1][0]
    state = forth._replace(velocity=-forth.velocity)
    for _ in range(10):
        state, _ = walk.step(state)
    torch.testing.assert_close(state.particles, START.expand(K, P), rtol=0, atol=1e-12)
    torch.testing.assert_close(-state.velocity, walk.init(START).velocity, rtol=0, atol=1e-12)


def test_much_friction_is_the_overdamped_scheme():
    # Leimkuhler and Matthews (2013), equation 1.5: x += -h^2/2 M^2 grad U + h/2 M (xi_n + xi_n+1).
    h = 0.3
    states = [state for state, _ in run(sampler(WalkSettings(friction=1e6, energy_error_limit=1e6), h=h), 4)]
    noise = [
        philox_normal(K, P, seed=7, step=t, stream=Stream.REFRESH, dtype=torch.float64) for t in range(len(states))
    ]
    for n in range(1, len(states)):
        before = states[n - 1]
        expected = before.particles - 0.5 * h**2 * SCALE**2 * before.grad + 0.5 * h * SCALE * (noise[n - 1] + noise[n])
        torch.testing.assert_close(states[n].particles, expected)


def test_much_friction_with_metropolis_is_the_adjusted_langevin_algorithm():
    # The acceptance is that of Roberts and Tweedie's (1996) proposal, by torch.distributions.
    h, settings = 0.9, WalkSettings(friction=1e6, metropolis=True)
    walk = sampler(settings, h=h, n_particles=400)
    state = walk.step(walk.init(START))[0]
    noise = philox_normal(400, P, seed=7, step=1, stream=Stream.REFRESH, dtype=torch.float64)
    centre = state.particles - 0.5 * h**2 * SCALE**2 * state.grad
    proposal = centre + h * SCALE * noise
    value, gradient = Quartic().value_and_grad(proposal)
    back = proposal - 0.5 * h**2 * SCALE**2 * gradient
    log_q_forth = D.Normal(centre, h * SCALE).log_prob(proposal).sum(1)
    log_q_back = D.Normal(back, h * SCALE).log_prob(state.particles).sum(1)
    expected = (state.energy - value + log_q_back - log_q_forth).exp().clamp(max=1.0)
    after, info = walk.step(state)
    torch.testing.assert_close(info.acceptance, expected)
    assert 0.1 < info.moved.double().mean() < 0.95
    # Accepted as often as the probabilities say.
    n_moved, variance = info.moved.sum(), (expected * (1 - expected)).sum()
    assert (n_moved - expected.sum()).abs() < 4 * variance.sqrt()
    moved = info.moved[:, None]
    torch.testing.assert_close(after.particles, torch.where(moved, proposal, state.particles))


def test_a_refused_step_turns_back():
    # Little friction: of a refused particle all but the sign of the velocity stays.
    walk = sampler(WalkSettings(friction=1e-30, metropolis=True), h=1.0, n_particles=200)
    state = walk.init(START)
    after, info = walk.step(state)
    refused = ~info.moved
    assert 0 < refused.sum() < 200
    assert torch.equal(after.particles[refused], state.particles[refused])
    torch.testing.assert_close(after.velocity[refused], -state.velocity[refused])
    assert (after.particles[info.moved] != state.particles[info.moved]).all()


# Steps that fail.


@pytest.mark.parametrize(
    "settings", [WalkSettings(energy_error_limit=1e6), WalkSettings(drift="literal", drift_length=4.0)]
)
def test_a_particle_that_leaves_the_finite_is_put_back_and_flagged(settings):
    walk = sampler(settings, energy=Cliff(), h=0.9, n_particles=50)
    state = walk.init(START)
    after, info = walk.step(state)
    undone = ~info.moved
    assert 0 < undone.sum() < 50
    assert (info.acceptance[undone] == 0).all()
    for field in ("particles", "energy", "grad"):
        assert torch.equal(getattr(after, field)[undone], getattr(state, field)[undone])
        assert getattr(after, field).isfinite().all()
    assert after.velocity.isfinite().all()
    assert after.time == 1


def test_a_particle_with_a_huge_energy_error_is_put_back_with_a_new_velocity():
    walk = sampler(WalkSettings(friction=0.3, energy_error_limit=0.5), h=0.8, n_particles=200)
    state = walk.init(START)
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


def test_an_infinite_energy_is_never_accepted():
    walk = sampler(WalkSettings(friction=0.3, metropolis=True), energy=Cliff(), h=0.9, n_particles=50)
    state = walk.init(START)
    for _ in range(10):
        state, info = walk.step(state)
        assert all(part.isfinite().all() for part in state[:4])
        assert info.acceptance.isfinite().all()
    assert (state.particles[:, 0] <= 1.0).all()


# Arguments.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_particles": 0}, "n_particles must be at least 1"),
        ({"h": 0.0}, "step_size must be positive and finite"),
        ({"h": math.inf}, "step_size must be positive and finite"),
        ({"scale": SCALE[:-1]}, r"scale must be positive and finite, \[5\]; got \[4\]"),
        ({"scale": torch.zeros(P)}, "scale must be positive and finite"),
        ({"scale": torch.full((P,), math.nan)}, "scale must be positive and finite"),
    ],
)
def test_build_refuses_what_cannot_walk(wrong, message):
    with pytest.raises(ValueError, match=message):
        sampler(WalkSettings(), **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drift": "ballistic"}, "persistent"),
        ({"friction": 0.0}, "friction"),
        ({"energy_error_limit": 0.0}, "energy_error_limit"),
        ({"refine_steps": 0}, "refine_steps"),
        ({"drift_length": -1.0}, "drift_length"),
        ({"perturbation": -1.0}, "perturbation"),
        ({"refine_noise": -0.1}, "refine_noise"),
        ({"drift": "literal", "metropolis": True}, "the literal mode has no acceptance rule"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        WalkSettings(**wrong)

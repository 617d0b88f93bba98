"""One contract for all modes of the walk, and the arguments that no mode takes."""

import inspect
import math

import pytest
import torch

from fiberbnn import WalkSettings, WalkState
from fiberbnn.walk import init, step

K, P = 6, 5  # the toy walk's particles and weights
TENSORS = ("particles", "velocity", "energy", "grad", "added_friction")  # of a state; the rest is its time

MODES = {
    "persistent": WalkSettings(friction=0.3),
    "persistent, Metropolis": WalkSettings(friction=0.3, metropolis=True),
    "literal": WalkSettings(drift="literal", drift_length=0.05),
    "literal, noisy, settling": WalkSettings(
        drift="literal", drift_length=0.05, drift_steps=2, perturbation=0.02, refine_steps=2, refine_noise=1.0
    ),
}


@pytest.fixture(params=MODES)
def settings(request):
    return MODES[request.param]


def tensors(state: WalkState) -> list[torch.Tensor]:
    return [getattr(state, name) for name in TENSORS]


def test_states_and_infos_have_the_same_form_in_all_modes(toy, settings):
    walk = toy.sampler(settings)
    state = walk.init(toy.start)
    for time in range(4):
        assert state.time == time
        for field in ("particles", "velocity", "grad"):
            assert getattr(state, field).shape == (K, P)
            assert getattr(state, field).dtype == torch.float64
        assert state.energy.shape == state.added_friction.shape == (K,)
        value, gradient = toy.energy().value_and_grad(state.particles)
        torch.testing.assert_close(state.energy, value)
        torch.testing.assert_close(state.grad, gradient)
        state, info = walk.step(state)
        assert info.acceptance.shape == info.moved.shape == (K,)
        assert info.moved.dtype == torch.bool
        assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()


def test_float32_stays_float32(toy, settings):
    walk = toy.sampler(settings, scale=toy.scale.float())
    state, info = walk.step(walk.init(toy.start.float()))
    assert all(tensor.dtype == torch.float32 for tensor in (*tensors(state), info.acceptance))


def test_a_step_does_not_change_its_state(toy, settings):
    walk = toy.sampler(settings)
    state, _ = walk.step(walk.init(toy.start))
    before = [part.clone() for part in tensors(state)]
    first, again = walk.step(state), walk.step(state)
    assert all(torch.equal(part, copy) for part, copy in zip(tensors(state), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tensors(first[0]), tensors(again[0]), strict=True))


def test_one_seed_gives_one_walk(toy, settings):
    last = [toy.run(toy.sampler(settings, seed=seed), 3)[-1][0] for seed in (7, 7, 8)]
    assert torch.equal(last[0].particles, last[1].particles)
    assert not torch.equal(last[0].particles, last[2].particles)


def test_particles_in_chunks_draw_what_one_walk_draws(toy, settings):
    whole = toy.run(toy.sampler(settings), 4)
    parts = [toy.run(toy.sampler(settings, n_particles=n, particle0=at), 4) for at, n in ((0, 2), (2, K - 2))]
    for (state, info), (first, first_info), (rest, rest_info) in zip(whole, *parts, strict=True):
        for part, a, b in zip(tensors(state), tensors(first), tensors(rest), strict=True):
            torch.testing.assert_close(part, torch.cat([a, b]), rtol=1e-12, atol=1e-12)
        assert torch.equal(info.moved, torch.cat([first_info.moved, rest_info.moved]))


def test_particles_do_not_meet(toy, settings):
    # A particle with its own number draws its own noise; with the noise fixed, the order is all that a swap changes.
    walk = toy.sampler(settings)
    state, _ = walk.step(walk.init(toy.start))
    lone = toy.sampler(settings, n_particles=1, particle0=3)
    alone, _ = lone.step(state._replace(**{name: getattr(state, name)[3:4] for name in TENSORS}))
    torch.testing.assert_close(alone.particles[0], walk.step(state)[0].particles[3], rtol=1e-12, atol=1e-12)


def test_gradients_are_counted_exactly(toy, settings):
    energy = toy.energy()
    toy.run(toy.sampler(settings, energy=energy), 5)
    a_step = 1 + settings.refine_steps if settings.drift == "literal" else 1
    assert energy.cost.grad_evals == K * (1 + 5 * a_step)


def test_build_binds_what_init_and_step_take(toy, settings):
    energy = toy.energy()
    state = init(toy.start, energy, settings, n_particles=K, seed=7)
    by_hand = step(state, energy, settings, scale=toy.scale, step_size=0.2, seed=7)
    built = toy.run(toy.sampler(settings), 1)[0]
    assert torch.equal(by_hand[0].particles, built[0].particles)
    assert list(inspect.signature(toy.sampler(settings).step).parameters) == ["state"]


def test_on_minibatches_the_energy_error_is_known_where_it_is_measured(toy):
    class Batch(toy.energy):
        exact = False

    settings, energy = WalkSettings(friction=0.3, thermostat=0.0), Batch()
    options = {"scale": toy.scale, "step_size": 0.4, "seed": 7}
    state = init(toy.start, energy, settings, n_particles=K, seed=7)
    exact_state, exact = step(state, toy.energy(), settings, **options)
    plain_state, plain = step(state, energy, settings, **options)
    assert plain.acceptance is None
    assert energy.cost.grad_evals == 2 * K
    # All batches are the same here, and so are the steps.
    measured_state, measured = step(state, energy, settings, measured=True, **options)
    assert energy.cost.grad_evals == 4 * K  # both ends of the step
    assert torch.equal(measured.acceptance, exact.acceptance)
    for found in (plain_state, measured_state):
        assert all(torch.equal(a, b) for a, b in zip(tensors(found), tensors(exact_state), strict=True))


def test_metropolis_needs_all_data(toy):
    energy = toy.energy()
    energy.exact = False
    with pytest.raises(ValueError, match="metropolis=True needs the energy of all data"):
        toy.sampler(WalkSettings(metropolis=True), energy=energy)


# Arguments.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_particles": 0}, "n_particles must be at least 1"),
        ({"h": 0.0}, "step_size must be positive and finite"),
        ({"h": math.inf}, "step_size must be positive and finite"),
        ({"scale": torch.ones(P - 1)}, r"scale must be positive and finite, \[5\]; got \[4\]"),
        ({"scale": torch.zeros(P)}, "scale must be positive and finite"),
        ({"scale": torch.full((P,), math.nan)}, "scale must be positive and finite"),
    ],
)
def test_build_refuses_what_cannot_walk(toy, wrong, message):
    with pytest.raises(ValueError, match=message):
        toy.sampler(WalkSettings(), **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drift": "ballistic"}, "persistent"),
        ({"preconditioner": "full"}, "preconditioner"),
        ({"friction": 0.0}, "friction"),
        ({"energy_error_limit": 0.0}, "energy_error_limit"),
        ({"refine_steps": 0}, "refine_steps"),
        ({"drift_length": -1.0}, "drift_length"),
        ({"perturbation": -1.0}, "perturbation"),
        ({"refine_noise": -0.1}, "refine_noise"),
        ({"thermostat": -0.1}, "thermostat"),
        ({"drift": "literal", "metropolis": True}, "the literal mode has no acceptance rule"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        WalkSettings(**wrong)

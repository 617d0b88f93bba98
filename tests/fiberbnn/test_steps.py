"""Many steps in one operation are the walk's steps, one after the other, and the operation is what a fit calls."""

import math

import pytest
import torch

from fiberbnn import Categorical, Energy, MinibatchEnergy, WalkSchedule, WalkSettings, steps, walk_from
from fiberbnn.data import ExamplesInMemory
from fiberbnn.steps import steps as steps_of
from fiberbnn.walk import init, step

K, SEED = 5, 8
SETTINGS = WalkSettings(friction=0.3)


def start(problem, settings=SETTINGS, dtype=torch.float64):
    energy = problem.energy(dtype)
    state = init(energy.network.weights, energy, settings, n_particles=K, seed=SEED, particle0=3)
    return energy, state, torch.full_like(energy.network.weights, 0.3)


def all_of(energy, state, scale, settings=SETTINGS, *, n_steps=7, step_size=0.05):
    arguments = {"scale": scale, "step_size": step_size, "seed": SEED, "particle0": 3}
    return list(steps_of(state, energy, settings, n_steps=n_steps, **arguments))


@pytest.mark.parametrize("step_size", [0.05, 40.0])  # of which the longer one is undone
def test_one_operation_makes_the_same_steps(problem, step_size):
    energy, state, scale = start(problem)
    [(found, energies, info)] = all_of(energy, state, scale, step_size=step_size)
    for t in range(7):
        state, one = step(state, energy, SETTINGS, scale=scale, step_size=step_size, seed=SEED, particle0=3)
        torch.testing.assert_close(energies[t], state.energy, rtol=1e-9, atol=0)
        torch.testing.assert_close(info.acceptance[t], one.acceptance, rtol=0, atol=1e-7)
        torch.testing.assert_close(info.heat[t], one.heat, rtol=1e-9, atol=0)
        assert torch.equal(info.moved[t], one.moved)
    assert bool(info.moved.all()) == (step_size < 1)
    assert found.time == state.time == 7
    for name in ("particles", "velocity", "energy", "grad"):
        torch.testing.assert_close(getattr(found, name), getattr(state, name), rtol=1e-7, atol=1e-7)


def test_large_states_take_a_step_at_a_time_to_the_same_end(problem, monkeypatch):
    energy, state, scale = start(problem)
    together = all_of(energy, state, scale)
    monkeypatch.setattr(steps, "CPU_TOGETHER_BYTES", state.particles.nbytes - 1)
    singly = all_of(energy, state, scale)
    assert [len(piece[1]) for piece in together] == [7]
    assert [len(piece[1]) for piece in singly] == [1] * 7
    torch.testing.assert_close(singly[-1][0].particles, together[0][0].particles, rtol=0, atol=0)


@pytest.mark.parametrize("settings", [WalkSettings(metropolis=True), WalkSettings(drift="literal")])
def test_other_walks_step_one_by_one(problem, settings):
    energy, state, scale = start(problem, settings)
    pieces = all_of(energy, state, scale, settings, step_size=0.01)
    assert [piece[1].shape for piece in pieces] == [(1, K)] * 7
    for now, energies, info in pieces:
        after, one = step(state, energy, settings, scale=scale, step_size=0.01, seed=SEED, particle0=3)
        assert torch.equal(now.particles, after.particles)
        assert torch.equal(energies[0], after.energy)
        assert torch.equal(info.moved[0], one.moved)
        state = after


def test_gradients_are_counted(problem):
    energy, state, scale = start(problem)
    before = energy.cost.grad_evals
    all_of(energy, state, scale)
    assert energy.cost.grad_evals == before + 7 * K


def operations_of(problem, monkeypatch, energy, settings=None) -> int:
    """How many steps a walk takes in the operation."""
    taken, operation = [0], steps.mlp_walk

    def counting(*arguments, **options):
        taken[0] += options["n_steps"]
        return operation(*arguments, **options)

    monkeypatch.setattr(steps, "mlp_walk", counting)
    schedule = WalkSchedule(max_steps=40, min_warmup=20, n_snapshots=3)
    found = walk_from(energy, problem.map_fit.weights, n_particles=K, schedule=schedule, settings=settings)
    assert len(found.history) == 40
    assert torch.isfinite(found.history[:, [0, 2, 3, 4]]).all()
    return taken[0]


def test_a_walk_of_a_perceptron_is_that_operation(problem, monkeypatch):
    assert operations_of(problem, monkeypatch, problem.energy()) == 40


def test_a_walk_on_minibatches_is_not(classification, monkeypatch):
    problem = classification
    examples = ExamplesInMemory(problem.x, problem.y)
    energy = MinibatchEnergy(problem.energy().network, problem.likelihood, examples, batch_size=20)
    assert operations_of(problem, monkeypatch, energy) == 0


def test_a_likelihood_of_somebody_elses_is_asked(classification, monkeypatch):
    class Tempered(Categorical):
        def nll(self, outputs, y):
            return 0.5 * super().nll(outputs, y)

    problem = classification
    energy = Energy(problem.energy().network, Tempered(), problem.x, problem.y)
    weights = problem.map_fit.weights[None] * torch.tensor([[1.0], [0.5]])
    value, gradient = energy.value_and_grad(weights)
    torch.testing.assert_close(value, energy(weights))
    plain, plain_gradient = problem.energy().value_and_grad(weights)
    half = 0.5 * (plain_gradient - weights) + weights
    torch.testing.assert_close(gradient, half, rtol=1e-4, atol=1e-4)
    assert not torch.isclose(value, plain).any()
    assert operations_of(problem, monkeypatch, energy) == 0


def test_an_energy_of_somebody_elses_is_asked(classification, monkeypatch):
    class Doubled(Energy):
        def value_and_grad(self, weights):
            value, gradient = super().value_and_grad(weights)
            return 2 * value, 2 * gradient

    problem = classification
    energy = Doubled(problem.energy().network, problem.likelihood, problem.x, problem.y)
    assert operations_of(problem, monkeypatch, energy) == 0


def test_the_step_size_changes_every_few_steps_once_snapshots_are_taken(classification):
    schedule = WalkSchedule(max_steps=60, min_warmup=100, n_snapshots=5)
    found = walk_from(classification.energy(), classification.map_fit.weights, n_particles=K, schedule=schedule)
    sizes = found.history[:, 3]
    changed = (sizes[1:] != sizes[:-1]).nonzero().flatten() + 1
    assert changed.tolist() == [*range(1, 31), 35, 36, 41, 42, 47, 48, 53, 54, 59]


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_literal_refinement_by_other_rules_descends(toy, rule):
    """As torch's own optimizers do."""
    settings = WalkSettings(drift="literal", drift_length=0.0, refine_steps=6, refine_rule=rule)
    walk = toy.sampler(settings, scale=torch.ones_like(toy.scale))
    state = walk.init(toy.start + 1.0)
    found, _ = walk.step(state)
    leaf = state.particles.clone().requires_grad_()
    lr = 0.5 * 0.2**2
    momentum, adam = torch.optim.SGD([leaf], lr=lr, momentum=0.9), torch.optim.Adam([leaf], lr=lr)
    optimizer = momentum if rule == "momentum" else adam
    for _ in range(6):
        leaf.grad = toy.energy().value_and_grad(leaf.detach())[1]
        optimizer.step()
    torch.testing.assert_close(found.particles, leaf.detach(), rtol=1e-9, atol=1e-9)
    assert (found.energy < state.energy).all()
    assert math.isfinite(float(found.energy.sum()))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match='refine_rule must be "sgd", "momentum" or "adam"; got \'lbfgs\''):
        WalkSettings(drift="literal", refine_rule="lbfgs")

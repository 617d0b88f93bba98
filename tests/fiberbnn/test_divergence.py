"""Walks that diverge raise, particles that cannot move are left out: nothing of them is returned silently."""

import math

import pytest
import torch

from fiberbnn import Energy, WalkDivergedError, WalkSchedule, WalkSettings, walk_from

K, PRODUCTS = 6, 20  # particles; Hessian-vector products before the walk, a call each
SHORT = WalkSchedule(max_steps=40, min_warmup=10, n_snapshots=5)


class Broken(Energy):
    """An energy that is NaN but for its first calls by the walk."""

    good_calls = 1

    def value_and_grad(self, weights):
        value, gradient = super().value_and_grad(weights)
        self.good_calls -= 1
        return (value, gradient) if self.good_calls >= 0 else (value * math.nan, gradient * math.nan)


def broken(problem, good_calls: int) -> Energy:
    energy = Broken(problem.energy().network, problem.likelihood, problem.x, problem.y)
    energy.good_calls = PRODUCTS + good_calls
    return energy


MODES = {
    "persistent": WalkSettings(),
    "metropolis": WalkSettings(metropolis=True),
    "literal": WalkSettings(drift="literal", drift_length=0.1, refine_steps=1),
}


class Stuck(Broken):
    """An energy that some particles cannot move in for a while."""

    stuck, bad_calls = (1, 2), 1000

    def value_and_grad(self, weights):
        value, gradient = Energy.value_and_grad(self, weights)
        self.good_calls -= 1
        if -self.bad_calls <= self.good_calls < 0:
            value[list(self.stuck)] = math.nan
        return value, gradient


def walk_with_stuck(problem, good_calls: int, bad_calls: int = 1000, **settings):
    energy = Stuck(problem.energy().network, problem.likelihood, problem.x, problem.y)
    energy.good_calls, energy.bad_calls = PRODUCTS + good_calls, bad_calls
    schedule = WalkSchedule(max_steps=60, min_warmup=100, n_snapshots=4)
    chosen = WalkSettings(**settings)
    return walk_from(
        energy, problem.map_fit.weights, n_particles=K, schedule=schedule, settings=chosen, particle0=10, seed=3
    )


def test_particles_that_cannot_move_are_left_out_and_counted(classification):
    found = walk_with_stuck(classification, good_calls=25)
    assert found.lost == 2
    assert found.particle.tolist() == [10, 13, 14, 15] * 4
    assert len(found.weights) == len(found.energy) == 16
    torch.testing.assert_close(found.energy, classification.energy()(found.weights), rtol=1e-4, atol=1e-3)


def test_particles_that_only_stumble_are_kept(classification):
    # Stuck for the last third of the steps with snapshots.
    found = walk_with_stuck(classification, good_calls=1 + 30 + 20)
    assert found.lost == 0
    assert len(found.weights) == 4 * K


def test_what_happened_in_the_warm_up_loses_nobody(classification):
    assert walk_with_stuck(classification, good_calls=2, bad_calls=28).lost == 0


def test_with_metropolis_a_refusal_loses_nobody(classification):
    found = walk_with_stuck(classification, good_calls=25, metropolis=True)
    assert found.lost == 0
    assert len(found.weights) == 4 * K


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("good_calls", "max_steps"), [(1, 100), (30, 100), (80, 120), (1, 6)])
def test_a_walk_that_diverges_raises(classification, mode, good_calls, max_steps):
    energy = broken(classification, good_calls)
    schedule = WalkSchedule(max_steps=max_steps, min_warmup=100, n_snapshots=3)
    message = r"more than 80 % of the last \d+ failed.*Standardise the inputs.*fit_map.*prior_precision"
    with pytest.raises(WalkDivergedError, match=message):
        walk_from(energy, classification.map_fit.weights, n_particles=K, settings=MODES[mode], schedule=schedule)


def test_a_walk_from_a_point_without_finite_energy_is_refused(classification):
    with pytest.raises(FloatingPointError, match="energy at the start of the walk is not finite"):
        walk_from(broken(classification, 0), classification.map_fit.weights, n_particles=K, schedule=SHORT)

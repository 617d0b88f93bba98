"""A whole run of the walk: its length, what it counts, what it keeps, and how it fails."""

import pytest
import torch

from fiberbnn import Energy, WalkSchedule, WalkSettings, walk_from
from fiberbnn.curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue

SHORT = WalkSchedule(max_steps=40, min_warmup=10, n_snapshots=5)
K, PROBES, PRODUCTS = 6, 64, 20  # particles; gradients and products that scale and first step size cost


def walk(problem, **options):
    defaults = {"n_particles": K, "schedule": SHORT, "seed": 3}
    return walk_from(problem.energy(), problem.map_fit.weights, **(defaults | options))


@pytest.fixture(scope="module")
def short_walk(problem):
    return walk(problem)


def test_a_walk_keeps_what_it_visited(problem, short_walk):
    energy = problem.energy()
    n_params = energy.network.n_params
    assert short_walk.weights.shape == (5 * K, n_params)
    torch.testing.assert_close(short_walk.energy, energy(short_walk.weights), rtol=1e-4, atol=1e-3)
    assert short_walk.particle.tolist() == list(range(K)) * 5
    assert short_walk.lost == 0
    assert torch.equal(short_walk.map_weights, problem.map_fit.weights)
    assert short_walk.map_energy == pytest.approx(float(energy(problem.map_fit.weights[None])), abs=1e-4)
    assert short_walk.scale.shape == (n_params,)
    assert (short_walk.scale > 0).all()
    assert (short_walk.scale <= 1).all()  # the prior's scale
    assert short_walk.history.shape[1] == 5
    # On all data the energies of the snapshots are exact, and no minibatch heats the walk.
    assert torch.equal(short_walk.full_energy, short_walk.energy)
    assert short_walk.heat == pytest.approx(float(short_walk.history[len(short_walk.history) // 2 :, 4].mean()))
    assert short_walk.seconds > 0
    assert short_walk.weights.unique(dim=0).shape[0] == 5 * K


def test_energy_ratio_is_the_rise_over_equipartition(short_walk):
    rise = short_walk.energy.double().mean() - short_walk.map_energy
    assert short_walk.energy_ratio == pytest.approx(float(rise) / (short_walk.weights.shape[1] / 2))
    # The last snapshot is the last state, which the history saw too.
    last = short_walk.energy[-K:].double().mean() - short_walk.map_energy
    assert short_walk.history[-1, 0] == pytest.approx(float(2 * last / short_walk.weights.shape[1]), rel=1e-4)


def test_undone_is_the_share_of_failed_steps_after_the_first_quarter(short_walk):
    quarter = len(short_walk.history) // 4
    assert short_walk.undone == pytest.approx(float(short_walk.history[quarter:, 2].mean()))


@pytest.mark.parametrize(("max_steps", "min_warmup"), [(2, 1), (3, 50), (25, 4), (40, 10), (41, 100)])
def test_a_walk_is_never_longer_than_max_steps_and_its_gradients_are_counted(problem, max_steps, min_warmup):
    settings = WalkSettings(energy_error_limit=1e9)  # so short a walk has not adapted its step
    energy = problem.energy()
    found = walk_from(
        energy,
        problem.map_fit.weights,
        n_particles=K,
        settings=settings,
        schedule=WalkSchedule(max_steps=max_steps, min_warmup=min_warmup, n_snapshots=3),
    )
    n_steps = len(found.history)
    assert 2 <= n_steps <= max_steps
    assert n_steps % 2 == 0
    # One gradient a particle and step, one at the start, and the constant of the preconditioner.
    assert found.cost.grad_evals == K * (n_steps + 1) + PROBES
    assert found.cost.hvp_evals == PRODUCTS
    assert found.cost.grad_evals == energy.cost.grad_evals
    assert len(found.weights) == K * min(3, n_steps // 2)


def test_only_the_walks_own_cost_is_counted(problem):
    energy = problem.energy()
    energy.value_and_grad(problem.map_fit.weights.repeat(11, 1))
    found = walk_from(energy, problem.map_fit.weights, n_particles=K, schedule=SHORT)
    assert energy.cost.grad_evals == found.cost.grad_evals + 11


def test_refinements_are_counted_too(classification):
    settings = WalkSettings(drift="literal", drift_length=0.1, refine_steps=3)
    found = walk(classification, settings=settings)
    assert found.cost.grad_evals == K * (1 + 4 * len(found.history)) + PROBES


def test_a_walk_stops_early_where_the_energy_settles(classification):
    schedule = WalkSchedule(max_steps=2000, n_snapshots=10)
    found = walk(classification, schedule=schedule, n_particles=20)
    assert found.settled
    assert len(found.history) < 400
    assert 0.7 < found.energy_ratio < 1.2


def test_a_walk_that_has_not_settled_says_so(classification):
    found = walk(classification, schedule=WalkSchedule(max_steps=8, min_warmup=2, n_snapshots=2))
    assert not found.settled
    assert len(found.history) == 8


def test_snapshots_are_evenly_spaced_over_the_second_half(classification):
    schedule = WalkSchedule(max_steps=2 * 29, min_warmup=100, n_snapshots=4)
    energies = []
    plain = Energy.value_and_grad

    class Watched(Energy):
        def value_and_grad(self, weights):
            value, gradient = plain(self, weights)
            if len(weights) == K:  # not a Hessian-vector product's
                energies.append(value)
            return value, gradient

    likelihood, x, y = classification.likelihood, classification.x, classification.y
    energy = Watched(classification.energy().network, likelihood, x, y)
    found = walk_from(energy, classification.map_fit.weights, n_particles=K, schedule=schedule)
    visited = torch.stack(energies)  # the start, then each step
    snapshots = found.energy.view(4, K)
    at = [int((visited == snapshot).all(dim=1).nonzero()) for snapshot in snapshots]
    assert at == [29 + 8, 29 + 15, 29 + 22, 29 + 29]


@pytest.mark.parametrize("metropolis", [False, True])
def test_one_seed_gives_one_walk(classification, metropolis):
    settings = WalkSettings(metropolis=metropolis)
    first, again, other = (walk(classification, settings=settings, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.weights, again.weights)
    assert torch.equal(first.history, again.history)
    assert not torch.equal(first.weights, other.weights)


def test_other_particle_numbers_are_other_particles(classification):
    found = walk(classification, particle0=100)
    assert found.particle.min() == 100
    assert not torch.equal(found.weights, walk(classification).weights)


def test_step_size_adapts_to_the_acceptance(classification):
    found = walk(classification, schedule=WalkSchedule(max_steps=200, min_warmup=100), n_particles=20)
    acceptance = found.history[50:, 1].mean()
    assert float(acceptance) == pytest.approx(0.8, abs=0.07)
    careful = walk(
        classification, schedule=WalkSchedule(max_steps=200, min_warmup=100, target_acceptance=0.97), n_particles=20
    )
    assert careful.history[-1, 3] < 0.8 * found.history[-1, 3]


def test_with_metropolis_the_step_size_is_fixed_while_snapshots_are_taken(classification):
    sizes = {}
    for metropolis in (False, True):
        found = walk(classification, settings=WalkSettings(metropolis=metropolis))
        half = len(found.history) // 2
        sizes[metropolis] = found.history[half:, 3]
        assert found.history[:half, 3].unique().numel() > 1
    # The first entry is that of the last warm-up adaptation.
    assert sizes[True].unique().numel() == 1
    assert sizes[False].unique().numel() > 1


def test_the_literal_mode_adapts_nothing(classification):
    found = walk(classification, settings=WalkSettings(drift="literal", drift_length=0.1))
    assert found.history[:, 3].unique().numel() == 1
    twice = walk(
        classification,
        settings=WalkSettings(drift="literal", drift_length=0.1),
        schedule=WalkSchedule(max_steps=40, min_warmup=10, first_step=1.0),
    )
    assert twice.history[0, 3] == pytest.approx(2 * float(found.history[0, 3]))
    energy = classification.energy()
    at_the_map = diagonal_scale(ggn_diagonal(energy, classification.map_fit.weights, seed=3), 1.0)
    assert torch.equal(found.scale, at_the_map)


def test_the_preconditioner_is_learned_on_the_way(classification):
    literal = walk(classification, settings=WalkSettings(drift="literal", drift_length=0.1))
    assert not torch.equal(literal.scale, walk(classification).scale)


@pytest.mark.parametrize("drift", ["persistent", "literal"])
def test_without_a_preconditioner_the_walk_steps_in_the_weights_own_units(classification, drift):
    bare, started = (
        walk(classification, settings=WalkSettings(drift=drift, drift_length=0.1, preconditioner=preconditioner))
        for preconditioner in ("identity", "initial")
    )
    assert torch.equal(bare.scale, torch.ones_like(bare.map_weights))
    at_the_map = diagonal_scale(ggn_diagonal(classification.energy(), classification.map_fit.weights, seed=3), 1.0)
    assert torch.equal(started.scale, at_the_map)
    # Its first step size is that of the Hessian itself, and no probes were paid for.
    eigenvalue = largest_eigenvalue(classification.energy(), bare.map_weights, bare.scale, seed=3)
    assert float(bare.history[0, 3]) == pytest.approx(SHORT.first_step / eigenvalue**0.5)
    steps = [found.cost.grad_evals - len(found.history) * K for found in (bare, started)]
    assert drift == "literal" or steps[1] - steps[0] == PROBES


def test_a_float64_walk_is_float64(classification):
    energy = classification.energy(torch.float64)
    found = walk_from(energy, energy.network.weights, n_particles=K, schedule=SHORT)
    assert found.weights.dtype == found.energy.dtype == found.scale.dtype == torch.float64


def test_progress_goes_to_stderr_only_if_asked(classification, capsys):
    walk(classification)
    assert capsys.readouterr() == ("", "")
    walk(classification, progress_bar=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "walk" in err
    assert "energy_ratio" in err


def test_a_walk_needs_particles(classification):
    with pytest.raises(ValueError, match="n_particles must be at least 1; got 0"):
        walk(classification, n_particles=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_steps": 1},
        {"min_warmup": 0},
        {"n_snapshots": 0},
        {"target_acceptance": 1.0},
        {"target_acceptance": 0.0},
        {"first_step": 0.0},
        {"settled_tolerance": 0.0},
    ],
)
def test_schedules_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WalkSchedule(**wrong)

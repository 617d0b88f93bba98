"""What a fit of MetricBNN is worth, shows and costs."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fiberbnn import (
    MetricBNN,
)

# Fits of this file are too short to be right, and say so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:the walk's energy", "ignore:.* of the walk's steps were undone", "ignore:decoded samples are hotter"
)


@pytest.fixture(scope="module")
def full(problem) -> MetricBNN:
    options = {"noise_std": 0.3} if problem.kind == "regression" else {}
    return MetricBNN(problem.map_fit.model, problem.kind, **options).fit((problem.x, problem.y))


def test_the_diagnostics_of_a_good_fit_raise_no_warning(problem, full):
    d = full.diagnose((problem.x_test, problem.y_test))
    assert d.warnings == ()
    assert d.energy_ratio_walk == pytest.approx(1.0, abs=0.25)
    assert d.energy_ratio_latent == pytest.approx(d.energy_ratio_walk, abs=0.3)
    assert d.spread_latent == pytest.approx(d.spread_walk, rel=0.4)
    assert d.nll_latent < d.nll_map  # the data come from the prior
    assert d.nll_latent < d.nll_single
    assert 0.9 < d.r_hat_median < 1.3
    assert d.undone < 0.05
    assert d.settled
    assert d.lost == 0
    # The check of the minimum, the walk, and batches of points and inputs in passes over the data.
    batches = math.ceil(len(full.latent_posterior.losses) * 32 * 64 / len(problem.x))
    assert d.grad_evals == 1 + 8 + full.trajectory.cost.grad_evals + batches
    assert full.trajectory.cost.grad_evals <= 9000
    assert d.hvp_evals == 4 + 20
    assert min(d.walk_s, d.latent_s, d.peak_mib) > 0
    assert "energy_ratio_walk" in str(d)


@pytest.mark.filterwarnings("ignore:.*particles could not move")
def test_draws_score_as_the_walk_does(problem, full):
    """On average over six fits: that of one fit of the regression deviates by 0.01 from seed to seed."""
    fits = [full]
    for seed in range(1, 6):
        options = {"noise_std": 0.3} if problem.kind == "regression" else {}
        posterior = MetricBNN(problem.map_fit.model, problem.kind, seed=seed, **options)
        fits.append(posterior.fit((problem.x, problem.y)))
    found = [fit.diagnose((problem.x_test, problem.y_test)) for fit in fits]
    gaps = [d.nll_latent - d.nll_walk for d in found]
    assert sum(gaps) / len(gaps) == pytest.approx(0.0, abs=0.02)


def test_predictions_far_from_the_data_are_less_certain(problem, full):
    near, far = problem.x, 5 * problem.x
    if problem.kind == "classification":
        entropy = [torch.special.entr(full(x)).sum(-1).mean() for x in (near, far)]
        with torch.no_grad():
            of_the_map = torch.special.entr(problem.map_fit.model(far).softmax(-1)).sum(-1).mean()
        assert entropy[1] > 1.15 * of_the_map
    else:
        variance = [full(x)[1].mean() for x in (near, far)]
        assert variance[1] > 2 * variance[0]


def test_progress_goes_to_stderr_only_if_asked(problem, quick, capsys, make):
    make(problem, quick).fit((problem.x, problem.y))
    assert capsys.readouterr() == ("", "")
    make(problem, quick).fit((problem.x, problem.y), progress_bar=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "walk" in err
    assert "latent" in err
    assert "energy_ratio" in err


def test_the_memory_estimate_grows_with_what_is_held(problem, quick, make):
    estimate = make(problem, quick).memory_estimate()
    n_params = problem.map_fit.weights.numel()
    snapshots = 8 * 5
    # At least the snapshots and their basis, and no more than a small multiple.
    assert 4 * n_params * 2 * snapshots < estimate < 4 * n_params * 30 * snapshots
    assert make(problem, quick, n_particles=16).memory_estimate() > 1.3 * estimate
    # In float64, snapshots and basis at least take as much again; some sums were in float64 before.
    double = MetricBNN(copy.deepcopy(problem.map_fit.model).double(), problem.likelihood, **quick)
    assert estimate + 4 * n_params * 2 * snapshots < double.memory_estimate() <= 2 * estimate


@pytest.mark.filterwarnings("ignore:the model is not at a minimum", "ignore:.*profiler")
def test_the_memory_estimate_bounds_what_a_fit_allocates(quick):
    # Many inputs and few hidden units: weights are what counts. The profiler sees every tensor come and go.
    model = nn.Sequential(nn.Linear(5_000, 2), nn.Tanh(), nn.Linear(2, 3))
    posterior = MetricBNN(model, "classification", **quick)
    x = torch.randn(6, 5_000, generator=torch.Generator().manual_seed(0)) / 70
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        posterior.fit((x, torch.arange(6) % 3))
    events = sorted(run.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = torch.tensor([event.nbytes() for event in events if event.name() == "[memory]"]).cumsum(0)
    assert 0.2 * posterior.memory_estimate() < held.max() < posterior.memory_estimate()

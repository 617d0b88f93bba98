"""What a posterior says about itself: each warning at its bound, and numbers against plain ones."""

import math
import re
from dataclasses import fields, replace

import pytest
import torch

from fiberbnn import Diagnostics, Likelihood, Network, Trajectory, assessment, walk_from
from fiberbnn.diagnostics import warnings_of
from fiberbnn.mode import Mode
from fiberbnn.predictive import predictive_nll, split_r_hat, spread

GOOD = Diagnostics(
    energy_ratio_walk=0.95,
    energy_ratio_latent=1.0,
    settled=True,
    lost=0,
    undone=0.01,
    r_hat_median=1.1,
    r_hat_max=2.0,
    spread_walk=0.1,
    spread_latent=0.1,
    tv_latent=0.02,
    nll_map=0.5,
    nll_walk=0.4,
    nll_latent=0.41,
    nll_single=0.6,
)


def test_a_good_posterior_has_no_warnings():
    assert warnings_of(GOOD) == ()


def test_what_was_not_measured_gives_no_warnings():
    assert warnings_of(Diagnostics()) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"energy_ratio_walk": 0.84, "settled": False}, "still growing when it ended.*0.84.*max_steps"),
        (
            {"energy_ratio_walk": -0.1, "settled": False, "energy_ratio_latent": 0.1},
            "energy fell below that of the model .*-0.10.*, which was at no minimum.*fiberbnn.fit_map",
        ),
        ({"heat": 1.21, "minibatches": True}, "noise of minibatches heats the walk .*1.21.*raise batch_size"),
        ({"heat": 1.21, "minibatches": False}, "velocities are too hot .*1.21.*particles are few.*Raise n_particles"),
        (
            {"heat": 1.21, "minibatches": False, "settled": False},
            "velocities are too hot.*not settled when snapshots began.*max_steps",
        ),
        ({"lost": 2}, "2 particles could not move and were left out: raise target_acceptance"),
        (
            {"energy_ratio_walk": 1.51, "energy_ratio_latent": 1.5, "heat": 1.0},
            "far above 1: it overheats.*target_acceptance",
        ),
        (
            {"energy_ratio_walk": 1.51, "energy_ratio_latent": 1.5, "heat": math.nan},
            "far above 1: it overheats. Lower drift_length or raise refine_steps",
        ),
        ({"undone": 0.21}, "21% of the walk's steps were undone"),
        ({"r_hat_median": 1.31}, "particles disagree.*1.31.*max_steps"),
        ({"r_hat_median": math.inf}, "particles disagree"),
        ({"spread_latent": 0.009}, "latent posterior has collapsed"),
        ({"spread_latent": 0.0, "spread_walk": math.nan}, "latent posterior has collapsed"),
        ({"spread_latent": 0.009, "temperature": 0.01}, "collapsed: at temperature 0.01 its .* Raise the temperature"),
        ({"spread_latent": 0.009, "temperature": 2.0}, "collapsed: at temperature 2 its .* Raise latent_size"),
        ({"nll_latent": 0.52, "temperature": 3.0}, r"predicts worse.*Check prior_precision, the temperature \(3\) and"),
        (
            {"energy_ratio_latent": 1.3, "nll_latent": 0.45, "temperature": 4.0},
            "hotter.*a temperature of 4 does; lower",
        ),
        ({"nll_latent": 0.52}, "predicts worse than the MAP.*0.520 against 0.500.*do not use it"),
        ({"energy_ratio_latent": 1.3}, r"hotter than the walk \(energy ratio 1.30 against 0.95\).*NLL disagree"),
        ({"energy_ratio_latent": 1.3, "nll_latent": 0.45}, "hotter than the walk.*train the autoencoder longer"),
        ({"energy_ratio_latent": 1.3, "nll_latent": math.nan}, "hotter than the walk.*train the autoencoder longer"),
    ],
)
def test_each_warning_says_what_to_look_at(changes, words):
    found = warnings_of(replace(GOOD, **changes))
    assert len(found) == 1
    assert "minibatches" not in found[0] or changes["minibatches"]
    assert re.search(words, found[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_ratio_walk": 0.86, "settled": False},
        {"energy_ratio_walk": 0.8, "settled": True},
        {"energy_ratio_walk": 1.49, "energy_ratio_latent": 1.5},
        {"undone": 0.19},
        {"heat": 1.19, "minibatches": False},
        {"r_hat_median": 1.29},
        {"spread_latent": 0.011},
        {"nll_latent": 0.505},
        {"energy_ratio_latent": 1.2},
    ],
)
def test_within_the_bounds_there_is_no_warning(changes):
    assert warnings_of(replace(GOOD, **changes)) == ()


def test_as_text_every_number_and_warning_is_shown():
    text = str(replace(GOOD, warnings=("look here",), tv_latent=math.nan))
    lines = text.splitlines()
    assert len(lines) == len(fields(Diagnostics))
    assert "energy_ratio_walk    0.95" in lines
    assert "tv_latent            -" in lines
    assert "settled              True" in lines
    assert lines[-1] == "warning: look here"
    assert "settled              -" in str(Diagnostics())


@pytest.fixture(scope="module")
def walked(problem):
    return walk_from(problem.energy(), problem.map_fit.weights, n_particles=12)


def judged(
    d: Diagnostics, network: Network, likelihood: Likelihood, samples: torch.Tensor, walk: Trajectory | None, x, y
) -> Diagnostics:
    """The diagnostics of a posterior of one mode, whose samples predict."""
    mode = Mode(network, latent=None, trajectory=walk)  # samples are given: nothing is decoded
    return assessment.judged(d, [mode], (1.0,), likelihood, network(samples, x), x, y)


def test_numbers_are_those_of_the_predictions(problem, walked):
    network, likelihood, x, y = problem.energy().network, problem.likelihood, problem.x[::3], problem.y[::3]
    samples = walked.weights[::2]
    d = judged(GOOD, network, likelihood, samples, walked, x, y)
    outputs, walk_outputs, map_outputs = (
        network(weights, x) for weights in (samples, walked.weights, network.weights[None])
    )
    assert d.nll_map == pytest.approx(float(likelihood.nll(map_outputs[0], y)) / len(x), rel=1e-5)
    assert (d.nll_latent, d.nll_single) == pytest.approx(predictive_nll(likelihood, outputs, y))
    assert d.nll_walk == pytest.approx(predictive_nll(likelihood, walk_outputs, y)[0])
    classes = problem.kind == "classification"
    predictions, walk_predictions = (o.softmax(-1) if classes else o for o in (outputs, walk_outputs))
    assert d.spread_latent == pytest.approx(spread(predictions))
    assert d.spread_walk == pytest.approx(spread(walk_predictions))
    if classes:
        tv = 0.5 * (predictions.mean(0) - walk_predictions.mean(0)).abs().sum(-1).mean()
        assert d.tv_latent == pytest.approx(float(tv), rel=1e-4)
    else:
        assert math.isnan(d.tv_latent)
    chains = torch.stack([walk_predictions[walked.particle == k] for k in range(12)])
    r_hat = split_r_hat(chains)
    assert d.r_hat_median == pytest.approx(float(r_hat.median()))
    assert d.r_hat_max == pytest.approx(float(r_hat.max()))
    assert d.r_hat_max > d.r_hat_median
    assert (d.energy_ratio_walk, d.undone, d.settled) == (GOOD.energy_ratio_walk, GOOD.undone, True)
    assert d.warnings == warnings_of(d)


def test_without_the_walk_only_the_samples_are_judged(problem, walked):
    network = problem.energy().network
    d = judged(Diagnostics(), network, problem.likelihood, walked.weights, None, problem.x, problem.y)
    assert math.isnan(d.nll_walk)
    assert math.isnan(d.r_hat_median)
    assert math.isnan(d.tv_latent)
    assert d.nll_latent < d.nll_single


def test_too_few_snapshots_give_no_r_hat(problem, walked):
    few = replace(walked, weights=walked.weights[:36], energy=walked.energy[:36], particle=walked.particle[:36])
    network = problem.energy().network
    d = judged(Diagnostics(), network, problem.likelihood, walked.weights, few, problem.x, problem.y)
    assert math.isnan(d.r_hat_median)
    assert not math.isnan(d.nll_walk)


def test_a_posterior_worse_than_the_map_is_warned_of_loudly(problem):
    network = problem.energy().network
    noise = torch.randn(5, network.n_params, generator=torch.Generator().manual_seed(0))
    d = judged(Diagnostics(), network, problem.likelihood, 100 * noise, None, problem.x, problem.y)
    assert any("do not use it as it is" in text for text in d.warnings)


def test_a_collapsed_posterior_is_warned_of(problem, walked):
    network = problem.energy().network
    same = network.weights.repeat(5, 1)
    d = judged(GOOD, network, problem.likelihood, same, walked, problem.x, problem.y)
    assert d.spread_latent < 1e-6
    assert any("collapsed" in text for text in d.warnings)


def test_targets_that_are_not_finite_are_refused(regression):
    network = regression.energy().network
    y = regression.y.clone()
    y[3] = math.nan
    with pytest.raises(ValueError, match="targets hold 1 NaN or infinite values"):
        judged(Diagnostics(), network, regression.likelihood, network.weights[None], None, regression.x, y)

"""Predictions of samples, their score and their agreement, against torch.distributions and plain loops."""

import math

import pytest
import torch
from torch import distributions as D

from fiberbnn import Categorical, Gaussian, predictive
from fiberbnn.predictive import outputs_of, predictions_of, predictive_nll, split_r_hat, spread

S, N, C = 5, 8, 3
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(S, N, C, generator=GENERATOR)
LABELS = torch.randint(C, (N,), generator=GENERATOR)
TARGETS = torch.randn(N, C, generator=GENERATOR)


def mixture(outputs: torch.Tensor, kind: str) -> D.MixtureSameFamily:
    """The averaged predictive as an equal-weight mixture of torch's."""
    outputs = outputs.double().transpose(0, 1)  # [N, S, C]
    part = D.Categorical(logits=outputs) if kind == "categorical" else D.Independent(D.Normal(outputs, 0.4), 1)
    return D.MixtureSameFamily(D.Categorical(torch.ones(len(outputs), outputs.shape[1])), part)


@pytest.mark.parametrize(
    ("kind", "likelihood", "y"), [("categorical", Categorical(), LABELS), ("gaussian", Gaussian(0.4), TARGETS)]
)
def test_nll_is_that_of_the_mixture_and_of_its_parts(kind, likelihood, y):
    averaged, single = predictive_nll(likelihood, OUTPUTS, y)
    assert averaged == pytest.approx(float(-mixture(OUTPUTS, kind).log_prob(y.double()).mean()))
    alone = [float(-mixture(OUTPUTS[s : s + 1], kind).log_prob(y.double()).mean()) for s in range(S)]
    assert single == pytest.approx(sum(alone) / S)
    assert averaged < single  # Jensen
    assert predictive_nll(likelihood, OUTPUTS[:1], y) == pytest.approx((alone[0], alone[0]))


def test_nll_of_the_uniform_predictive_is_log_c():
    assert predictive_nll(Categorical(), torch.zeros(S, N, C), LABELS) == pytest.approx((math.log(C), math.log(C)))


def test_nll_of_a_certain_error_is_large_but_finite():
    certain = torch.zeros(S, N, C)
    certain[..., 0] = 1e4
    assert predictive_nll(Categorical(), certain, torch.ones(N).long())[0] == pytest.approx(1e4)


def test_predictions_are_probabilities_or_means():
    probabilities = predictions_of(Categorical(), OUTPUTS)
    torch.testing.assert_close(probabilities, OUTPUTS.exp() / OUTPUTS.exp().sum(-1, keepdim=True))
    assert torch.equal(predictions_of(Gaussian(1.0), OUTPUTS), OUTPUTS)


def test_spread_is_the_mean_standard_deviation_over_samples():
    assert spread(OUTPUTS) == pytest.approx(float(OUTPUTS.std(0).mean()))
    assert spread(OUTPUTS[:1]) == 0.0
    assert spread(OUTPUTS[:1].repeat(4, 1, 1)) == 0.0


@pytest.mark.parametrize("batch_bytes", [1, 64 * 4 * S * 3])
def test_outputs_do_not_depend_on_batches_of_inputs(classification, monkeypatch, batch_bytes):
    network = classification.energy().network
    weights = network.weights + 0.1 * torch.randn(S, network.n_params, generator=torch.Generator().manual_seed(1))
    whole = outputs_of(network, weights, classification.x)
    torch.testing.assert_close(whole, network(weights, classification.x))
    monkeypatch.setattr(predictive, "BATCH_BYTES", batch_bytes)
    torch.testing.assert_close(outputs_of(network, weights, classification.x), whole)


def test_inputs_take_on_the_dtype_of_the_weights(classification):
    network = classification.energy().network
    whole = outputs_of(network, network.weights[None], classification.x)
    torch.testing.assert_close(outputs_of(network, network.weights[None], classification.x.double()), whole)


@pytest.mark.parametrize("x", [torch.zeros(0, 2), torch.tensor([[0.0, math.nan]]), torch.tensor([[math.inf, 0.0]])])
def test_inputs_that_are_empty_or_not_finite_are_refused(classification, x):
    network = classification.energy().network
    with pytest.raises(ValueError, match="empty, or holds NaN or infinite"):
        outputs_of(network, network.weights[None], x)


def r_hat_by_loops(chains: torch.Tensor) -> float:
    """Gelman et al.'s formula for one quantity, chains [K, T]."""
    half = chains.shape[1] // 2
    halves = [part for chain in chains.tolist() for part in (chain[:half], chain[-half:])]
    means = [sum(part) / half for part in halves]
    grand = sum(means) / len(means)
    between = half / (len(means) - 1) * sum((mean - grand) ** 2 for mean in means)
    deviations = [
        sum((value - mean) ** 2 for value in part) / (half - 1) for part, mean in zip(halves, means, strict=True)
    ]
    within = sum(deviations) / len(deviations)
    return math.sqrt(((half - 1) / half * within + between / half) / within)


@pytest.mark.parametrize("length", [4, 7, 10])
def test_split_r_hat_is_the_formula(length):
    chains = torch.randn(6, length, 2, 3, generator=torch.Generator().manual_seed(2)).cumsum(1)
    found = split_r_hat(chains)
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert float(found[i, j]) == pytest.approx(r_hat_by_loops(chains[:, :, i, j].double()), rel=1e-6)


def test_split_r_hat_of_independent_draws_is_near_one_and_of_a_trend_is_not():
    chains = torch.randn(20, 200, generator=torch.Generator().manual_seed(3))
    assert float(split_r_hat(chains)) == pytest.approx(1.0, abs=0.01)
    assert float(split_r_hat(chains + torch.linspace(0, 5, 200))) > 1.3
    assert float(split_r_hat(chains + torch.linspace(0, 5, 20)[:, None])) > 1.5


def test_split_r_hat_of_what_does_not_vary_is_one_and_of_chains_that_are_stuck_is_infinite():
    constant = torch.full((3, 8), 0.7)
    stuck = torch.tensor([[0.1], [0.2], [0.3]]).expand(3, 8)
    assert float(split_r_hat(constant)) == 1.0
    assert float(split_r_hat(stuck)) == math.inf


def test_split_r_hat_needs_four_draws():
    with pytest.raises(ValueError, match="at least four draws a chain; got 3"):
        split_r_hat(torch.zeros(5, 3))

"""Predictions: averaging, moments, and what is refused."""

import math

import pytest
import torch
from scipy import stats

from benchmark_utils.metrics.prediction import Prediction


def test_probabilities_are_averaged_and_not_their_logarithms() -> None:
    prediction = Prediction(log_probs=torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]]).log())
    assert prediction.averaged_log_probs().exp().tolist() == [pytest.approx([0.6, 0.4])]
    assert prediction.n_samples == 2
    assert prediction.kind == "classification"


def test_averaging_survives_probabilities_far_below_the_smallest_float() -> None:
    log_probs = torch.tensor([[[0.0, -2000.0]], [[0.0, -2001.0]]], dtype=torch.float64)
    averaged = Prediction(log_probs=log_probs).averaged_log_probs()[0, 1]
    assert float(averaged) == pytest.approx(-2000 + math.log((1 + math.exp(-1)) / 2))


def test_a_probability_of_zero_is_a_log_probability_of_minus_infinity() -> None:
    prediction = Prediction(log_probs=torch.tensor([[[0.0, -math.inf]]]))
    assert prediction.averaged_log_probs().exp().tolist() == [[1.0, 0.0]]


def test_moments_are_those_of_the_mixture() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, variance = (
        torch.tensor([[0.0, 1.0], [2.0, 1.0], [-1.0, 4.0]]),
        torch.tensor([[0.5], [1.0], [2.0]]).expand(3, 2),
    )
    which = torch.randint(3, (400_000,), generator=generator)
    draws = mean[which] + variance[which].sqrt() * torch.randn(400_000, 2, generator=generator)
    mixture_mean, mixture_sd = Prediction(mean=mean, variance=variance).moments()
    # Four standard errors of a mean of 400,000 draws with a standard deviation below 2.
    assert torch.allclose(mixture_mean, draws.double().mean(0), atol=0.0127)
    assert torch.allclose(mixture_sd, draws.double().std(0), rtol=0.01)


def test_function_sd_means_the_same_for_many_samples_and_for_one_gaussian() -> None:
    functions = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64)
    sampled = Prediction(mean=functions, variance=torch.full((3, 1), 0.01))
    closed = Prediction(mean=torch.tensor([[3.0]]), variance=torch.tensor([[8 / 3 + 0.01]]))
    for prediction in (sampled, closed):
        assert float(prediction.function_sd(0.1)) == pytest.approx(math.sqrt(8 / 3), rel=1e-6)
    noise_alone = Prediction(mean=torch.zeros(1, 1), variance=torch.full((1, 1), 0.01))
    assert float(noise_alone.function_sd(0.1)) == pytest.approx(0, abs=1e-4)


def test_entropy_parts_are_those_of_scipy_and_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = (3 * torch.randn(7, 20, 4, generator=generator, dtype=torch.float64)).log_softmax(-1)
    prediction = Prediction(log_probs=log_probs)
    probabilities = log_probs.exp().numpy()
    total = stats.entropy(probabilities.mean(0), axis=-1)
    aleatoric = stats.entropy(probabilities, axis=-1).mean(0)
    assert prediction.entropy().tolist() == pytest.approx(total.tolist())
    assert prediction.expected_entropy().tolist() == pytest.approx(aleatoric.tolist())
    assert prediction.mutual_information().tolist() == pytest.approx((total - aleatoric).tolist())


def test_samples_that_contradict_each_other_are_all_epistemic_and_equal_ones_not_at_all() -> None:
    sure = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).log()  # probabilities of zero: no NaN
    assert Prediction(log_probs=sure).expected_entropy().tolist() == [0.0]
    assert Prediction(log_probs=sure).mutual_information().tolist() == pytest.approx([math.log(2)])
    equal = torch.tensor([0.7, 0.2, 0.1]).log().expand(5, 4, 3)
    found = Prediction(log_probs=equal).mutual_information()
    assert (found >= 0).all()  # though rounding could go below
    assert found.max() < 1e-12


def test_one_sample_has_no_mutual_information() -> None:
    prediction = Prediction(log_probs=torch.full((1, 3, 2), 0.5).log())
    assert prediction.mutual_information().isnan().tolist() == [True] * 3
    assert prediction.entropy().tolist() == pytest.approx([math.log(2)] * 3)


def test_confident_examples_keep_their_order_where_the_probability_rounds_to_one() -> None:
    margins = torch.tensor([40.0, 45.0, 60.0], dtype=torch.float64)
    log_probs = torch.stack([margins, torch.zeros(3, dtype=torch.float64)], -1).log_softmax(-1)[None]
    entropy = Prediction(log_probs=log_probs).entropy()
    assert entropy.tolist() == sorted(entropy.tolist(), reverse=True)
    assert len(set(entropy.tolist())) == 3
    assert float(entropy[2]) == pytest.approx(61 * math.exp(-60), rel=0.01)  # q (1 - log q) for a small q


def test_everything_is_float64_and_without_gradient() -> None:
    prediction = Prediction(mean=torch.zeros(1, 2, requires_grad=True), variance=torch.ones(1, 2))
    assert all(part.dtype == torch.float64 and not part.requires_grad for part in prediction.gaussians)


ONES, HALVES = torch.ones(2, 3), torch.full((2, 3, 2), 0.5).log()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either log_probs, or mean and variance"),
        ({"mean": ONES}, "either log_probs, or mean and variance"),
        ({"log_probs": HALVES, "mean": ONES, "variance": ONES}, "either log_probs, or mean and variance"),
        ({"log_probs": HALVES[0]}, r"must be \[S, N, C\]"),
        ({"log_probs": HALVES[:0]}, "not empty"),
        ({"log_probs": torch.zeros(2, 3, 2)}, "do not sum to one"),
        ({"log_probs": torch.full((2, 3, 2), torch.nan)}, "NaN"),
        ({"mean": ONES, "variance": ONES[:1]}, r"must be \[S, N\]"),
        ({"mean": ONES[:, :0], "variance": ONES[:, :0]}, "not empty"),
        ({"mean": ONES * torch.inf, "variance": ONES}, "mean holds NaN or infinity"),
        ({"mean": ONES, "variance": 0 * ONES}, "variance must be positive"),
        ({"mean": ONES, "variance": torch.nan * ONES}, "variance must be positive"),
    ],
)
def test_what_is_no_prediction_is_refused(arguments: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prediction(**arguments)


def test_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="has no class probabilities"):
        _ = Prediction(mean=ONES, variance=ONES).class_log_probs
    with pytest.raises(ValueError, match="has no mean and variance"):
        _ = Prediction(log_probs=HALVES).gaussians

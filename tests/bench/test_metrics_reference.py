"""Agreement, total variation and energy ratio: worked cases, quadrature, and the axioms of a distance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark_utils.metrics.evaluation import (
    agreement,
    energy_ratio,
    evaluate,
    total_variation,
    total_variation_density,
)
from benchmark_utils.metrics.prediction import Prediction


def classes(probabilities: list) -> Prediction:
    return Prediction(log_probs=torch.tensor(probabilities, dtype=torch.float64).log())


def gaussians(mean: list, sd: list) -> Prediction:
    mean_, sd_ = torch.tensor(mean, dtype=torch.float64), torch.tensor(sd, dtype=torch.float64)
    return Prediction(mean=mean_, variance=sd_.square())


def test_agreement_and_total_variation_compare_averages() -> None:
    # The samples disagree, their averages are (0.5, 0.3, 0.2) and (0.2, 0.8, 0).
    prediction = classes([[[0.8, 0.1, 0.1], [0.4, 0.6, 0.0]], [[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]])
    reference = classes([[[0.4, 0.5, 0.1], [0.2, 0.8, 0.0]]])
    assert agreement(prediction, reference) == 0.5
    assert total_variation(prediction, reference) == pytest.approx(0.5 * (0.1 + 0.2 + 0.1) / 2)
    row = evaluate(prediction, torch.tensor([0, 1]), reference)
    assert row["agreement_hmc"] == 0.5
    assert row["tv_hmc"] == pytest.approx(0.1)


def test_without_a_reference_there_are_no_reference_columns() -> None:
    row = evaluate(classes([[[0.5, 0.5]]]), torch.tensor([0]))
    assert not {"agreement_hmc", "tv_hmc", "energy_ratio"} & set(row)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(2, 5), st.integers(0, 2**31))
def test_total_variation_is_a_distance_between_zero_and_one(
    n_samples: int, n_examples: int, n_classes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, n_samples, n_examples, n_classes, generator=generator)
    a, b, c = (Prediction(log_probs=part.log_softmax(-1)) for part in logits)
    assert total_variation(a, a) == 0
    assert agreement(a, a) == 1
    assert total_variation(a, b) == pytest.approx(total_variation(b, a))
    assert 0 <= total_variation(a, b) <= 1
    assert total_variation(a, c) <= total_variation(a, b) + total_variation(b, c) + 1e-12


@pytest.mark.parametrize(("shift", "sd"), [(0.0, 1.0), (0.3, 1.0), (2.0, 1.0), (40.0, 1.0), (1.0, 0.01)])
def test_total_variation_of_two_shifted_gaussians_is_the_closed_form(shift: float, sd: float) -> None:
    exact = 2 * stats.norm.cdf(shift / (2 * sd)) - 1
    found = total_variation_density(gaussians([[0.0, 5.0]], [[sd, sd]]), gaussians([[shift, 5.0]], [[sd, sd]]))
    assert found == pytest.approx(exact / 2, abs=1e-3)  # the second example is equal in both
    assert found <= exact / 2 + 1e-12


def test_total_variation_of_mixtures_matches_quadrature() -> None:
    rng = np.random.default_rng(0)
    pair = [(rng.normal(size=(n, 1)), 0.1 + rng.uniform(0, 0.5, (n, 1))) for n in (3, 8)]
    grid = np.linspace(-8, 8, 200_001)
    densities = [stats.norm.pdf(grid, mean, sd).mean(0) for mean, sd in pair]
    exact = 0.5 * np.trapezoid(np.abs(densities[0] - densities[1]), grid)
    found = total_variation_density(*(gaussians(mean.tolist(), sd.tolist()) for mean, sd in pair))
    assert found == pytest.approx(exact, abs=1e-3)


def test_the_regression_row_has_a_total_variation_and_no_agreement() -> None:
    prediction, reference = gaussians([[0.0]], [[1.0]]), gaussians([[1.0]], [[1.0]])
    row = evaluate(prediction, torch.tensor([0.0]), reference)
    assert row["tv_hmc"] == pytest.approx(total_variation_density(prediction, reference))
    assert "agreement_hmc" not in row


def test_a_reference_for_something_else_is_refused() -> None:
    two, three = classes([[[0.5, 0.5]]]), classes([[[0.5, 0.25, 0.25]]])
    for other in (three, gaussians([[0.0]], [[1.0]])):
        with pytest.raises(ValueError, match="the reference is"):
            total_variation(two, other)
        with pytest.raises(ValueError, match="the reference is"):
            agreement(two, other)
    with pytest.raises(ValueError, match="the reference is"):
        total_variation_density(gaussians([[0.0]], [[1.0]]), gaussians([[0.0, 0.0]], [[1.0, 1.0]]))


def test_energy_ratio_of_a_gaussian_posterior_is_one() -> None:
    generator = torch.Generator().manual_seed(0)
    n_samples, n_params, curvature = 4000, 50, torch.logspace(-2, 3, 50)
    weights = torch.randn(n_samples, n_params, generator=generator) / curvature.sqrt()
    energies = 7.0 + 0.5 * (curvature * weights.square()).sum(1)
    ratio = energy_ratio(energies, 7.0, n_params)
    assert abs(ratio - 1) < 4 * (2 / (n_samples * n_params)) ** 0.5  # four standard errors
    assert energy_ratio(torch.full((3,), 7.0), 7.0, n_params) == 0
    with pytest.raises(ValueError, match="at least one sample"):
        energy_ratio(torch.empty(0), 7.0, n_params)

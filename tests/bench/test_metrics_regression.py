"""Regression metrics against quadrature and scipy, and against what must hold for any predictive."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from benchmark_utils.metrics.evaluation import evaluate, gap_spread
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.known import load_task


def random_case(n_samples: int, n_examples: int, seed: int) -> tuple[Prediction, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = 2 * torch.randn(n_samples, n_examples, generator=generator, dtype=torch.float64)
    variance = 0.05 + torch.rand(n_samples, n_examples, generator=generator, dtype=torch.float64)
    return Prediction(mean=mean, variance=variance), 2 * torch.randn(n_examples, 1, generator=generator)


def mixtures(prediction: Prediction) -> list[Any]:
    """One frozen scipy normal of S components an example."""
    mean, variance = (part.numpy() for part in prediction.gaussians)
    return [stats.norm(mean[:, n], np.sqrt(variance[:, n])) for n in range(mean.shape[1])]


def crps_by_quadrature(mixture: Any, y: float) -> float:
    """Integral of (F(z) - [y <= z])^2, split at its jump."""
    low, high = (
        float((mixture.mean() - 12 * mixture.std()).min()),
        float((mixture.mean() + 12 * mixture.std()).max()),
    )
    below, _ = integrate.quad(lambda z: mixture.cdf(z).mean() ** 2, min(low, y), y, limit=400)
    above, _ = integrate.quad(lambda z: (1 - mixture.cdf(z).mean()) ** 2, y, max(high, y), limit=400)
    return below + above


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_scores_match_quadrature_root_search_and_scipy(n_samples: int) -> None:
    prediction, y = random_case(n_samples, 12, seed=n_samples)
    row = evaluate(prediction, y)
    targets, parts = y[:, 0].double().numpy(), mixtures(prediction)
    pairs = list(zip(parts, targets, strict=True))
    assert row["nll"] == pytest.approx(-np.mean([np.log(m.pdf(t).mean()) for m, t in pairs]))
    assert row["nll_single"] == pytest.approx(-np.mean([m.logpdf(t).mean() for m, t in pairs]))
    assert row["crps"] == pytest.approx(np.mean([crps_by_quadrature(m, t) for m, t in pairs]), abs=1e-6)
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean([(m.mean().mean() - t) ** 2 for m, t in pairs])))
    errors = prediction.gaussians[0].numpy() - targets
    assert row["rmse_single"] == pytest.approx(np.sqrt((errors**2).mean(1)).mean())
    low, high = (
        [optimize.brentq(lambda z, m=m, q=q: m.cdf(z).mean() - q, -50, 50) for m in parts] for q in (0.05, 0.95)
    )
    assert row["coverage90"] == pytest.approx(np.mean((low <= targets) & (targets <= high)))


def test_crps_single_is_the_mean_of_the_gaussians_closed_form() -> None:
    prediction, y = random_case(4, 9, seed=0)
    mean, sd = prediction.gaussians[0].numpy(), prediction.gaussians[1].sqrt().numpy()
    z = (y[:, 0].double().numpy() - mean) / sd
    closed = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert evaluate(prediction, y)["crps_single"] == pytest.approx(closed.mean())


def test_a_narrow_gaussian_at_the_target_is_perfect() -> None:
    y = torch.tensor([[1.0], [-2.0]])
    row = evaluate(Prediction(mean=y.T.double(), variance=torch.full((1, 2), 1e-12)), y)
    assert row["rmse"] == 0
    assert row["coverage90"] == 1
    assert row["crps"] == pytest.approx(0, abs=1e-6)
    assert row["nll"] == pytest.approx(0.5 * math.log(2 * math.pi) + math.log(1e-6))


def test_nll_is_finite_a_thousand_standard_deviations_away() -> None:
    row = evaluate(Prediction(mean=torch.zeros(3, 1), variance=torch.ones(3, 1)), torch.tensor([1000.0]))
    assert row["nll"] == pytest.approx(0.5 * 1000**2 + 0.5 * math.log(2 * math.pi))


def test_coverage_of_the_truth_is_nine_tenths() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(20_000, generator=generator)
    row = evaluate(Prediction(mean=torch.zeros(1, 20_000), variance=torch.ones(1, 20_000)), y)
    assert abs(row["coverage90"] - 0.9) < 4 * math.sqrt(0.09 / 20_000)  # four standard errors


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 12), st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 2**31))
def test_order_never_matters_averaging_never_hurts_and_units_scale(
    n_samples: int, n_examples: int, scale: float, shift: float, seed: int
) -> None:
    prediction, y = random_case(n_samples, n_examples, seed)
    y = y.double()
    row = evaluate(prediction, y)
    generator = torch.Generator().manual_seed(seed)
    samples, examples = (torch.randperm(n, generator=generator) for n in (n_samples, n_examples))
    mean, variance = prediction.gaussians
    turned = Prediction(mean=mean[samples][:, examples], variance=variance[samples][:, examples])
    assert evaluate(turned, y[examples]) == pytest.approx(row)
    # Jensen: the logarithmic score and the CRPS are convex in the predictive, the RMSE in its mean.
    for column in ("nll", "crps", "rmse"):
        assert row[column] <= row[f"{column}_single"] + 1e-9
    assert row["crps"] >= 0
    moved = evaluate(Prediction(mean=scale * mean + shift, variance=scale**2 * variance), scale * y + shift)
    assert moved["nll"] == pytest.approx(row["nll"] + math.log(scale), rel=1e-6, abs=1e-6)
    assert moved["crps"] == pytest.approx(scale * row["crps"], rel=1e-6, abs=1e-9)
    assert moved["rmse"] == pytest.approx(scale * row["rmse"], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("y", [torch.zeros(2), torch.zeros(3, 2), torch.tensor([0.0, torch.nan, 1.0])])
def test_targets_that_do_not_fit_are_refused(y: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="targets must be finite"):
        evaluate(Prediction(mean=torch.zeros(1, 3), variance=torch.ones(1, 3)), y)


def test_gap_spread_is_the_functions_own_at_zero_and_at_the_training_inputs() -> None:
    task = load_task("gap-1-15-1", 0)
    slopes = torch.tensor([[-1.0], [1.0]])

    def predict(x: torch.Tensor) -> Prediction:
        mean = slopes * (1 - x[:, 0].abs())  # standard deviation |1 - |x||
        return Prediction(mean=mean, variance=torch.full_like(mean, task.noise_std**2))

    spread = gap_spread(predict, task)
    assert spread["sd_gap"] == pytest.approx(1)
    assert spread["sd_data"] == pytest.approx(float((1 - task.x_train.abs()).abs().mean()), rel=1e-5)
    with pytest.raises(ValueError, match="no gap and no known noise"):
        gap_spread(predict, load_task("breast", 0))

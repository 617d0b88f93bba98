"""Fitted noise: near the truth, the same for every method, paid for with the MAP, and scores in the data's units."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark_utils.methods.mixture import mixture_prediction
from benchmark_utils.metrics.evaluation import evaluate_task, gap_spread
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows.figure_arrays import figure_arrays
from benchmark_utils.rows.row import evaluate_method
from benchmark_utils.tasks.noise import fit_noise, with_fitted_noise
from benchmark_utils.tasks.shared_map import shared_map, train_map
from benchmark_utils.tasks.task import Task, Units
from fiberbnn import Network


def task_of(n_rows: int = 200, noise: float = 0.3, seed: int = 0, **fields: object) -> Task:
    """A plane with noise, standardised in name only: the targets are 1000 + 20 y."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows + 50, 2, generator=generator)
    y = (x @ torch.tensor([[0.8], [-0.5]])) + noise * torch.randn(n_rows + 50, 1, generator=generator)
    task = Task(
        "plane", "regression", x[:n_rows], y[:n_rows], x[n_rows:], y[n_rows:], (2, 10, 1), "relu", seed,
        "ab" * 32, "ab" * 32, "generated", "none", "none", y_units=Units(1000.0, 20.0), map_steps=200,
    )  # fmt: skip
    return replace(task, **fields)


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_fitted_noise_is_near_the_truth(noise: float) -> None:
    fit = fit_noise(task_of(noise=noise))
    # Forty rows are held out: two standard errors are 0.22 of it, and the network adds an error of its own.
    assert 0.8 * noise < fit.std < 1.4 * noise
    assert fit.seconds > 0
    assert fit.grad_evals > 300


def test_noise_does_not_shrink_with_a_network_that_interpolates() -> None:
    task = task_of(n_rows=40, widths=(2, 60, 1), map_steps=300, prior_precision=1e-3)
    fit = fit_noise(task)
    fitted = train_map(replace(task, noise_std=0.05))
    with torch.no_grad():
        residual = float((fitted.model(task.x_train) - task.y_train).square().mean().sqrt())
    assert residual < 0.5 * 0.3 < 0.3 * 0.8 < fit.std


def test_the_noise_is_resolved_once_and_paid_for_with_the_map() -> None:
    task = task_of()
    with pytest.raises(ValueError, match=r"needs a noise_std: noise\.with_fitted_noise"):
        task.likelihood()
    fitted = with_fitted_noise(task)
    assert fitted.noise_std == fitted.noise_fit.std == fitted.likelihood().noise_std
    assert with_fitted_noise(fitted) is fitted
    fit, alone, member = shared_map(fitted), train_map(fitted), shared_map(fitted, 1)
    assert torch.equal(fit.weights, alone.weights)
    assert fit.grad_evals == alone.grad_evals + round(fitted.noise_fit.grad_evals)
    assert fit.seconds > fitted.noise_fit.seconds
    # An ensemble's others do not fit the noise again.
    assert member.grad_evals == train_map(fitted, 1001).grad_evals


def test_known_noise_and_classes_are_left_alone() -> None:
    known = task_of(noise_std=0.2)
    assert with_fitted_noise(known) is known
    classes = replace(task_of(), kind="classification")
    assert with_fitted_noise(classes) is classes
    with pytest.raises(ValueError, match="too few to fit the noise"):
        fit_noise(task_of(n_rows=5))


def test_scores_are_in_the_units_of_the_data() -> None:
    task = task_of(noise_std=0.3)
    mean, variance = torch.randn(7, 50), 0.1 + torch.rand(7, 50)
    prediction = Prediction(mean=mean, variance=variance)
    reference = Prediction(mean=mean + 0.1, variance=variance)
    found = evaluate_task(task, prediction, reference)
    plain = evaluate_task(replace(task, y_units=Units()), prediction, reference)
    for name in ("nll", "nll_single"):
        assert found[name] == pytest.approx(plain[name] + math.log(20))
    for name in ("rmse", "rmse_single", "crps", "crps_single"):
        assert found[name] == pytest.approx(20 * plain[name])
    for name in ("coverage90", "coverage90_single", "tv_hmc"):
        assert found[name] == pytest.approx(plain[name])


def test_a_row_and_its_bands_are_in_the_units_of_the_data() -> None:
    x = torch.linspace(-1, 1, 40)[:, None]
    task = task_of(
        x_train=x, y_train=x.sin(), x_test=x[:5], y_test=x[:5].sin(), widths=(1, 4, 1), noise_std=0.3,
        x_plot=torch.linspace(-2, 2, 9)[:, None], gap_middle=0.5, x_units=Units(3.0, 2.0),
    )  # fmt: skip
    fit = train_map(task)
    network, weights = Network(fit.model), fit.weights + 0.1 * torch.randn(20, len(fit.weights))

    def predict(x: torch.Tensor) -> Prediction:
        return mixture_prediction(network, weights, x, task.noise_std)

    row = evaluate_method(task, fit, predict, lambda n: weights[:n], {"grad_evals": 1, "hvp_evals": 0}, {})
    assert row["noise_std"] == pytest.approx(6.0)
    middle = network(weights, torch.tensor([[0.5]]))[:, 0, 0].double()
    assert row["sd_gap"] == pytest.approx(20 * float(middle.std(correction=0)), rel=1e-4)
    assert gap_spread(predict, replace(task, y_units=Units()))["sd_data"] == pytest.approx(row["sd_data"] / 20)
    arrays = figure_arrays(task, predict, predict(task.x_test))
    np.testing.assert_allclose(arrays["x"], np.linspace(-1, 7, 9), atol=1e-5)
    np.testing.assert_allclose(arrays["x_train"], 3 + 2 * x, atol=1e-5)
    np.testing.assert_allclose(arrays["y_train"], 1000 + 20 * x.sin(), rtol=1e-5)
    means = network(weights, task.x_plot)[..., 0]
    np.testing.assert_allclose(arrays["mean"], 1000 + 20 * means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(arrays["sd"], 20 * means.std(0, correction=0), rtol=1e-3)

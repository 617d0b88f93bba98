"""Training to the MAP: against ridge regression, and what a fit says about itself."""

import copy

import pytest
import torch
from torch import nn

from fiberbnn import Categorical, Energy, Gaussian, MetricBNN, Network, fit_map
from tests.fiberbnn.conftest import make_mlp


def ridge(x, y, noise_std, tau):
    """The closed-form MAP of a linear regression with a bias, in the order of nn.Linear's weights."""
    design = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    precision = design.T @ design / noise_std**2 + tau * torch.eye(design.shape[1], dtype=torch.float64)
    return torch.linalg.solve(precision, design.T @ y[:, 0].double() / noise_std**2)


def linear_problem(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator)
    y = x @ torch.randn(4, 1, generator=generator) + 0.5 * torch.randn(30, 1, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(4, 1).to(dtype), x.to(dtype), y.to(dtype)


@pytest.mark.parametrize("tau", [0.1, 10.0])
def test_linear_regression_gives_ridge_regression(tau):
    model, x, y = linear_problem(torch.float64)
    fit = fit_map(model, x, y, Gaussian(0.5), prior_precision=tau)
    torch.testing.assert_close(fit.weights, ridge(x, y, 0.5, tau), rtol=0, atol=1e-4)
    assert fit.converged
    assert fit.weights.dtype == torch.float64


def test_what_a_fit_says_is_true(problem):
    fit = problem.map_fit
    network = Network(fit.model)
    assert torch.equal(network.weights, fit.weights)
    assert not fit.model.training
    precise = Energy(Network(copy.deepcopy(fit.model).double()), problem.likelihood, problem.x, problem.y)
    value, gradient = precise.value_and_grad(fit.weights[None].double())
    # The gradient is that before the weights were rounded to float32, which alone moves it by about curvature * 1e-7.
    assert fit.energy == pytest.approx(float(value), abs=1e-4)
    assert float(gradient.norm()) < 0.02
    assert fit.converged
    assert 0 <= fit.grad_norm < 1e-2
    assert fit.seconds > 0


def test_gradients_are_counted_exactly(monkeypatch):
    model, x, y = linear_problem()
    counted = 0
    plain = Energy.value_and_grad

    def counting(self, weights):
        nonlocal counted
        counted += len(weights)
        return plain(self, weights)

    monkeypatch.setattr(Energy, "value_and_grad", counting)
    fit = fit_map(model, x, y, Gaussian(0.5), warmup_steps=7)
    # One more looks at the result; it is counted too.
    assert fit.grad_evals == counted > 8


def test_the_users_model_is_where_training_starts_and_is_not_changed():
    model, x, y = linear_problem()
    model.train()
    before = copy.deepcopy(model.state_dict())
    start = Energy(Network(model), Gaussian(0.5), x, y)(Network(model).weights[None])
    untrained = fit_map(model, x, y, Gaussian(0.5), warmup_steps=0, max_steps=0)
    assert untrained.energy == pytest.approx(float(start), rel=1e-6)
    assert torch.equal(untrained.weights, Network(model).weights)
    assert not untrained.converged
    trained = fit_map(model, x, y, Gaussian(0.5))
    assert trained.energy < untrained.energy
    assert model.training
    assert model.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_training_goes_on_from_a_trained_model_at_little_cost(problem):
    again = fit_map(problem.map_fit.model, problem.x, problem.y, problem.likelihood, warmup_steps=0)
    assert again.converged
    assert again.grad_evals < 100 < problem.map_fit.grad_evals
    torch.testing.assert_close(again.weights, problem.map_fit.weights, rtol=0, atol=1e-2)


def test_the_same_model_gives_the_same_fit():
    model, x, y = linear_problem()
    fits = [fit_map(model, x, y, Gaussian(0.5), warmup_steps=20) for _ in range(2)]
    assert torch.equal(fits[0].weights, fits[1].weights)


def test_frozen_weights_stay():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 2, generator=generator), torch.randint(2, (20,), generator=generator)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    fit = fit_map(model, x, y, Categorical())
    assert fit.weights.shape == (8,)
    assert torch.equal(fit.model[0].weight, model[0].weight)
    assert not torch.equal(fit.model[2].weight, model[2].weight)


def test_training_that_diverges_says_so():
    model, x, y = linear_problem()
    with pytest.raises(FloatingPointError, match="lower learning_rate, or standardise"):
        fit_map(model, x, y, Gaussian(0.5), learning_rate=1e30)


def test_progress_goes_to_stderr_only_if_asked(capsys):
    model, x, y = linear_problem()
    fit_map(model, x, y, Gaussian(0.5), warmup_steps=5)
    assert capsys.readouterr() == ("", "")
    fit_map(model, x, y, Gaussian(0.5), warmup_steps=5, progress_bar=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "MAP" in err
    assert "grad_norm" in err


def test_a_classification_is_named_in_a_word_and_the_fit_is_a_model_for_the_posterior():
    model = make_mlp(2, 4, 3)
    x, y = torch.randn(20, 2), torch.arange(20) % 3
    named, given = (fit_map(model, x, y, which, warmup_steps=20) for which in ("classification", Categorical()))
    assert torch.equal(named.weights, given.weights)
    with pytest.raises(ValueError, match=r"give Gaussian\(noise_std\)"):
        fit_map(model, x, y.float()[:, None], "regression")
    with pytest.raises(ValueError, match="likelihood must be"):
        fit_map(model, x, y, "logits")
    assert torch.equal(MetricBNN(named, "classification").network.weights, named.weights)
    assert len(MetricBNN([named, given.model], "classification").networks) == 2

"""Training by minibatches: against ridge regression, and what ordinary training does with dropout and batch norm."""

import copy

import pytest
import torch
from torch import nn

from fiberbnn import Categorical, Energy, Gaussian, Network, fit_map


def regression_data(n=31, n_inputs=4):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, n_inputs, generator=generator)
    return x, x @ torch.randn(n_inputs, 1, generator=generator) + 0.5 * torch.randn(n, 1, generator=generator)


def seeded(make):
    """A module whose initial weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make()


def small_mlp(*middle, n_inputs=4, n_outputs=1):
    return seeded(lambda: nn.Sequential(nn.Linear(n_inputs, 6), *middle, nn.Tanh(), nn.Linear(6, n_outputs)))


def class_data(n=40):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(2))
    return x, torch.bucketize(x.sum(1), torch.tensor([-1.0, 1.0]))


def images(n=24):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, 1, 6, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def conv_with_norm():
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
        )
    )  # fmt: skip


@pytest.mark.parametrize("tau", [0.1, 10.0])
@pytest.mark.parametrize("batch_size", [8, 31])
def test_linear_regression_gives_ridge_regression(tau, batch_size):
    x, y = (values.double() for values in regression_data())
    model = seeded(lambda: nn.Linear(4, 1).double())
    fit = fit_map(model, x, y, Gaussian(0.5), prior_precision=tau, batch_size=batch_size, epochs=200, learning_rate=0.1)
    design = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    precision = design.T @ design / 0.25 + tau * torch.eye(5, dtype=torch.float64)
    exact = torch.linalg.solve(precision, design.T @ y[:, 0] / 0.25)
    torch.testing.assert_close(fit.weights, exact, rtol=0, atol=2e-3)
    assert fit.weights.dtype == torch.float64


def test_what_a_fit_says_is_true():
    x, y = class_data()
    fit = fit_map(
        small_mlp(nn.Dropout(0.3), n_outputs=3), x, y, Categorical(), prior_precision=0.5, batch_size=16, epochs=5
    )
    energy = Energy(Network(fit.model), Categorical(), x, y, 0.5)
    value, gradient = energy.value_and_grad(fit.weights[None])
    assert torch.equal(Network(fit.model).weights, fit.weights)
    assert fit.energy == pytest.approx(float(value), rel=1e-5)
    assert fit.grad_norm == pytest.approx(float(gradient.norm()), rel=1e-4)
    assert fit.grad_evals == 6  # one looks at the result
    assert not fit.converged
    assert not fit.model.training
    assert fit.seconds > 0


def test_an_epoch_takes_every_example_once_in_batches_of_like_size():
    seen = []

    class Recorded(nn.Linear):
        def forward(self, x):
            if self.training:
                seen.append(x[:, 0].tolist())
            return super().forward(x)

    x = torch.arange(11.0)[:, None]
    fit_map(seeded(lambda: Recorded(1, 1)), x, 0 * x, Gaussian(1.0), batch_size=4, epochs=3)
    assert [len(batch) for batch in seen] == 3 * [4, 4, 3]
    epochs = [[*seen[i], *seen[i + 1], *seen[i + 2]] for i in (0, 3, 6)]
    assert all(sorted(epoch) == x[:, 0].tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_one_seed_gives_one_fit_and_the_global_random_state_stays():
    x, y = class_data()
    model = small_mlp(nn.Dropout(0.5), n_outputs=3)
    settings = {"batch_size": 10, "epochs": 3}
    before = torch.get_rng_state()
    first = fit_map(model, x, y, Categorical(), **settings, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(fit_map(model, x, y, Categorical(), **settings, seed=1).weights, first.weights)
    assert not torch.equal(fit_map(model, x, y, Categorical(), **settings, seed=2).weights, first.weights)


def test_dropout_is_on_in_training():
    x, y = class_data()
    settings = {"batch_size": 40, "epochs": 200}
    fits = [fit_map(small_mlp(nn.Dropout(p), n_outputs=3), x, y, Categorical(), **settings) for p in (0.0, 0.8)]
    assert fits[1].energy > fits[0].energy + 1.0


def test_batch_norm_gathers_statistics_as_in_ordinary_training():
    x, y = images()
    model = conv_with_norm()
    before = copy.deepcopy(model.state_dict())
    fit = fit_map(model, x, y, Categorical(), batch_size=24, epochs=1, learning_rate=1e-9)
    # One batch of all data at the first weights: a tenth of the way from 0 and 1 to its mean and variance.
    features = model[0](x).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(fit.model[1].running_mean, 0.1 * features.mean(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fit.model[1].running_var, 0.9 + 0.1 * features.var(1), rtol=1e-4, atol=1e-6)
    assert fit.model[1].num_batches_tracked == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_batch_norm_with_frozen_weights_keeps_its_statistics():
    x, y = images()
    model = conv_with_norm()
    model[:2].requires_grad_(False)
    fit = fit_map(model, x, y, Categorical(), batch_size=8, epochs=2)
    assert torch.equal(fit.model[1].running_mean, model[1].running_mean)
    assert torch.equal(fit.model[0].weight, model[0].weight)
    assert not torch.equal(fit.model[4].weight, model[4].weight)
    assert fit.weights.numel() == 48 * 3 + 3


def test_no_epochs_give_the_present_weights():
    x, y = regression_data()
    model = small_mlp()
    fit = fit_map(model, x, y, Gaussian(0.5), batch_size=8, epochs=0)
    assert torch.equal(fit.weights, Network(model).weights)
    assert fit.grad_evals == 1


def test_inputs_may_be_a_mapping():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, left, right):
            return self.a(left) + self.b(right)

    x, y = regression_data()
    model = seeded(Sum)
    fit = fit_map(model, {"left": x[:, :2], "right": x[:, 2:]}, y, Gaussian(0.5), batch_size=10, epochs=4)
    joined = nn.Linear(4, 1)
    joined.weight.data, joined.bias.data = torch.cat([model.a.weight, model.b.weight], 1), model.a.bias + model.b.bias
    start = fit_map(joined, x, y, Gaussian(0.5), batch_size=10, epochs=0)
    assert fit.energy < start.energy


def test_a_model_in_bfloat16_is_trained_in_float32():
    x, y = regression_data()
    fit = fit_map(small_mlp().bfloat16(), x, y, Gaussian(0.5), batch_size=10, epochs=2)
    assert fit.weights.dtype == torch.float32


def test_training_that_diverges_stops_at_the_epoch():
    x, y = regression_data()
    with pytest.raises(FloatingPointError, match=r"diverged in epoch 1 .*lower learning_rate, or standardise"):
        fit_map(small_mlp(), x, y, Gaussian(0.5), batch_size=8, epochs=100_000, learning_rate=1e30)


@pytest.mark.parametrize(
    ("change", "settings", "error"),
    [
        ({}, {"batch_size": 8}, "say how many epochs"),
        ({}, {"batch_size": 8, "epochs": -1}, "say how many epochs"),
        ({}, {"epochs": 3}, "give a batch_size too"),
        ({}, {"batch_size": 0, "epochs": 3}, "from 1 to the 40 training examples"),
        ({}, {"batch_size": 41, "epochs": 3}, "from 1 to the 40 training examples"),
        ({"y": 39}, {"batch_size": 8, "epochs": 3}, "labels"),
        ({"x": 39}, {"batch_size": 8, "epochs": 3}, "NaN"),
        ({}, {"batch_size": 8, "epochs": 3, "prior_precision": 0.0}, "prior_precision must be positive"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_training(change, settings, error):
    x, y = class_data()
    if "y" in change:
        y[change["y"]] = 3
    if "x" in change:
        x[change["x"]] = torch.nan
    with pytest.raises(ValueError, match=error):
        fit_map(small_mlp(n_outputs=3), x, y, Categorical(), **settings)


def test_progress_is_shown_if_asked(capsys):
    x, y = regression_data()
    fit_map(small_mlp(), x, y, Gaussian(0.5), batch_size=8, epochs=2)
    assert capsys.readouterr() == ("", "")
    fit_map(small_mlp(), x, y, Gaussian(0.5), batch_size=8, epochs=2, progress_bar=True)
    assert "MAP" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_cpu_gives():
    x, y = images()
    settings = {"batch_size": 8, "epochs": 3, "learning_rate": 0.01}
    there = fit_map(conv_with_norm().cuda(), x.cuda(), y.cuda(), Categorical(), **settings)
    here = fit_map(conv_with_norm(), x, y, Categorical(), **settings)
    assert there.weights.is_cuda
    assert there.energy == pytest.approx(here.energy, rel=1e-2)  # Adam's steps blow rounding up
    assert there.model[1].running_mean.is_cuda

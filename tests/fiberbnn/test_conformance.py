"""Every kind of model through all of MetricBNN: fit, sample, predict, diagnose, save, load."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import (
    AutoencoderSettings,
    Categorical,
    ClassPredictive,
    Gaussian,
    GaussianPredictive,
    LatentSettings,
    MetricBNN,
    WalkSchedule,
)
from fiberbnn.batch import Inputs, call_arguments, n_rows, outputs_from, take
from tests.fiberbnn.conftest import TOO_SHORT
from tests.fiberbnn.zoo import CASES, Case

pytestmark = TOO_SHORT

S = 7  # samples
AUTOENCODER = AutoencoderSettings(latent_size=4, hidden=8, steps=3, max_steps=3, batch_points=4, batch_inputs=8)
FITTED_NOISE = [case for case in CASES if case.likelihood == "regression" and case.noise_std in (None, "per_output")]
NOT_REFRESHED = [case for case in CASES if case.batch_norm == "frozen"]


class Fitted(NamedTuple):
    case: Case
    model: nn.Module  # the user's
    before: dict[str, Tensor]  # its state before anything happened to it
    posterior: MetricBNN
    x: Inputs
    y: Tensor


def make(case: Case, model: nn.Module, batch_size: int | None) -> MetricBNN:
    return MetricBNN(
        model,
        case.likelihood,
        noise_std=case.noise_std,
        batch_size=batch_size,
        n_particles=4,
        schedule=WalkSchedule(max_steps=12, min_warmup=6, n_snapshots=3),
        latent=LatentSettings(autoencoder=AUTOENCODER),
        **case.options(),
    )


@pytest.fixture(scope="module", params=[None, 8], ids=["full batch", "minibatches"])
def batch_size(request) -> int | None:
    return request.param


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def fitted(request, batch_size) -> Fitted:
    case = request.param
    model, (x, y) = case.make_model().train(), case.make_data()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    return Fitted(case, model, before, make(case, model, batch_size).fit((x, y)), x, y)


def plain_outputs(model: nn.Module, x: Inputs) -> Tensor:
    args, kwargs = call_arguments(model, x)
    with torch.no_grad():
        return outputs_from(model(*args, **kwargs), n_rows(x))


def spoiled(model: nn.Module) -> nn.Module:
    """The same architecture with other weights and statistics."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(1.3).add_(0.1)
    return model


def of_outputs(case: Case, x: Inputs) -> torch.Size:
    """The shape of predictions: that of the outputs, but for a head that also gives the noise."""
    shape = plain_outputs(case.make_model().eval(), x).shape
    return torch.Size([*shape[:-1], shape[-1] // 2]) if case.noise_std == "head" else shape


def test_samples_are_finite_weights_that_vary(fitted):
    posterior = fitted.posterior
    weights = posterior.sample(S, generator=torch.Generator().manual_seed(1))
    assert weights.shape == (S, posterior.network.n_params)
    assert weights.dtype == posterior.network.weights.dtype
    assert weights.isfinite().all()
    assert (weights.std(0) > 0).any()
    assert torch.equal(weights, posterior.sample(S, generator=torch.Generator().manual_seed(1)))


def test_samples_predict_and_the_predictive_is_their_mean(fitted):
    case, _, _, posterior, x, _ = fitted
    samples = posterior.predictive_samples(x, S)
    assert samples.shape == (S, *of_outputs(case, x))
    assert samples.isfinite().all()
    predictive, called = posterior.predict(x, S), posterior(x, S)
    if isinstance(posterior.likelihood, Categorical):
        axis = posterior.likelihood.class_axis
        assert isinstance(predictive, ClassPredictive)
        total = samples.sum(axis if axis < 0 else axis + 1)
        torch.testing.assert_close(total, torch.ones_like(total))
        torch.testing.assert_close(called, samples.mean(0))
        assert torch.equal(called, predictive.probs)
    else:
        mean, variance = called
        assert isinstance(predictive, GaussianPredictive)
        torch.testing.assert_close(mean, samples.mean(0), rtol=1e-4, atol=1e-5)
        noise = posterior.likelihood.noise_variance(posterior.outputs(x, S)).mean(0)
        torch.testing.assert_close(variance, samples.var(0, correction=0) + noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fitted", NOT_REFRESHED, ids=lambda case: case.name, indirect=True)
def test_predictions_are_those_of_the_module_with_the_weights(fitted):
    _, _, _, posterior, x, _ = fitted
    weights = posterior.latent_posterior.sample(S, seed=posterior.seed)
    own = posterior.network
    expected = [plain_outputs(own.module(w), own_inputs(posterior, x)) for w in weights]
    torch.testing.assert_close(posterior.outputs(x, S), torch.stack(expected), rtol=1e-4, atol=1e-4)


def own_inputs(posterior: MetricBNN, x: Inputs) -> Inputs:
    """Inputs in the dtype that the network computes in."""
    like = posterior.network.weights
    if isinstance(x, Tensor):
        return x.to(like) if x.is_floating_point() else x
    return {name: value.to(like) if value.is_floating_point() else value for name, value in x.items()}


def test_other_inputs_get_the_same_draws(fitted):
    whole = fitted.posterior.predictive_samples(fitted.x, S)
    part = fitted.posterior.predictive_samples(take(fitted.x, slice(3, 8)), S)
    torch.testing.assert_close(part, whole[:, 3:8], rtol=1e-4, atol=1e-5)


def test_diagnostics_are_measured(fitted):
    d = fitted.posterior.diagnose(fitted.case.make_data(seed=1), n_samples=S)
    measured = [d.nll_map, d.nll_latent, d.nll_single, d.energy_ratio_walk, d.energy_ratio_latent, d.heat, d.undone]
    assert all(math.isfinite(value) for value in measured)
    assert (d.nll_latent, d.nll_single) == pytest.approx(plain_nll(fitted), rel=1e-3, abs=1e-5)
    assert d.spread_latent > 0
    assert d.grad_evals > 0
    assert isinstance(str(d), str)


def plain_nll(fitted: Fitted) -> tuple[float, float]:
    """The NLL of the averaged predictive, and the mean of those of single samples, from the predictive samples."""
    (x, y), likelihood = fitted.case.make_data(seed=1), fitted.posterior.likelihood
    samples = fitted.posterior.predictive_samples(x, S).double()  # [S, N, ...]
    if isinstance(likelihood, Categorical):
        axis = likelihood.class_axis if likelihood.class_axis < 0 else likelihood.class_axis + 1
        samples, known = samples.movedim(axis, -1), y != -100
        at = torch.where(known, y, 0).expand(len(samples), *y.shape)
        log_p = samples.gather(-1, at[..., None])[..., 0].log() * known
    else:
        variance = likelihood.noise_variance(fitted.posterior.outputs(x, S).double())
        log_p = torch.distributions.Normal(samples, variance.sqrt()).log_prob(y.double())
    log_p = log_p.flatten(2).sum(2) if log_p.ndim > 2 else log_p  # [S, N]
    mixed = log_p.exp().mean(0).log()
    return -float(mixed.mean()), -float(log_p.mean())


def test_saved_and_loaded_into_another_module_it_predicts_the_same(fitted, tmp_path):
    case, _, _, posterior, x, _ = fitted
    samples = posterior.predictive_samples(x, S)
    posterior.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", spoiled(case.make_model()), subset=case.subset)
    torch.testing.assert_close(loaded.predictive_samples(x, S), samples, rtol=1e-5, atol=1e-6)
    assert loaded.likelihood == posterior.likelihood
    assert loaded.network.weights.dtype == posterior.network.weights.dtype
    torch.testing.assert_close(loaded.network.weights, posterior.network.weights)
    for one, other in zip(as_tuple(loaded(x, S)), as_tuple(posterior(x, S)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def as_tuple(value: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_the_users_module_is_as_it_was(fitted):
    posterior, x = fitted.posterior, fitted.x
    posterior.predict(x, S)
    posterior.diagnose((x, fitted.y), n_samples=S)
    after = fitted.model.state_dict()
    assert fitted.model.training
    assert list(after) == list(fitted.before)
    assert all(torch.equal(after[name], value) for name, value in fitted.before.items())
    assert all(p.grad is None for p in fitted.model.parameters())
    fresh = dict(fitted.case.make_model().named_parameters())
    assert all(p.requires_grad == fresh[name].requires_grad for name, p in fitted.model.named_parameters())


def test_one_seed_gives_one_result(fitted, batch_size):
    case, model, _, posterior, x, y = fitted
    again = make(case, model, batch_size).fit((x, y))
    assert torch.equal(again.predictive_samples(x, 3), posterior.predictive_samples(x, 3))


@pytest.mark.parametrize("fitted", FITTED_NOISE, ids=lambda case: case.name, indirect=True)
def test_noise_that_is_fitted_is_that_of_the_residuals(fitted):
    case, _, _, posterior, x, y = fitted
    residuals = plain_outputs(case.make_model().eval(), x) - y
    deviation = residuals.square().mean(0 if case.noise_std else None).sqrt()
    assert isinstance(posterior.likelihood, Gaussian)
    torch.testing.assert_close(torch.tensor(posterior.likelihood.noise_std), deviation, rtol=1e-4, atol=0)

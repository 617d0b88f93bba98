"""Batch norm in a posterior: frozen, or with statistics of every weight sample over the training data."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from fiberbnn import Categorical, MetricBNN, fit_map
from fiberbnn.batch_norm import refreshed_statistics
from fiberbnn.draws import Draws
from tests.fiberbnn.conftest import TOO_SHORT
from tests.fiberbnn.zoo import conv_batch_norm, images

pytestmark = TOO_SHORT

X, Y = images(torch.Generator().manual_seed(0))
TEST = images(torch.Generator().manual_seed(1))
S = 6


def make_model(seed: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return conv_batch_norm()


@pytest.fixture(scope="module")
def models() -> list[nn.Module]:
    return [fit_map(make_model(seed), X, Y, Categorical(), max_steps=30, warmup_steps=50).model for seed in (3, 4)]


@pytest.fixture(scope="module")
def fitted(models, quick) -> MetricBNN:
    return MetricBNN(models[0], "classification", batch_norm="refresh", **quick).fit((X, Y))


@torch.no_grad()
def by_hand(posterior: MetricBNN, weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What each sample's own module predicts once its statistics have been made by torch's update_bn."""
    found = []
    for w in weights:
        module = posterior.network.module(w)
        update_bn([X], module)
        found.append(module.eval()(x).softmax(-1))
    return torch.stack(found)


def test_predictions_use_the_statistics_of_every_sample(fitted):
    weights = fitted.latent_posterior.sample(S, seed=fitted.seed)
    expected = by_hand(fitted, weights, TEST[0])
    samples = fitted.predictive_samples(TEST[0], S)
    torch.testing.assert_close(samples, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted(TEST[0], S), expected.mean(0), rtol=1e-4, atol=1e-5)
    # They do not depend on what else is predicted, as they would if the batch at hand were normalised by itself.
    torch.testing.assert_close(fitted.predictive_samples(TEST[0][:2], S), samples[:, :2], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        own = torch.stack([fitted.network.module(w)(TEST[0]).softmax(-1) for w in weights])
    assert (own - samples).abs().max() > 0.01  # frozen, they predict otherwise


def test_statistics_are_computed_once_and_their_time_is_reported_apart(models, quick, monkeypatch):
    calls = []

    def counted(network, weights, batches):
        calls.append(len(weights))
        return refreshed_statistics(network, weights, batches)

    monkeypatch.setattr("fiberbnn.draws.refreshed_statistics", counted)
    posterior = MetricBNN(models[0], "classification", batch_norm="refresh", **quick).fit((X, Y))
    assert calls == []
    posterior.predictive_samples(TEST[0], 5)
    posterior(TEST[0], 5)
    posterior(TEST[0], 3)
    assert calls == [5]
    d = posterior.diagnose(TEST, n_samples=8)
    assert calls == [5, 8]
    assert 0 < d.refresh_s < 60
    assert "refresh_s" in str(d)
    assert posterior.refresh(n_samples=4) > 0
    assert calls == [5, 8, 4]
    # Another temperature is other samples.
    posterior.at_temperature(0.5).predictive_samples(TEST[0], 2)
    assert calls == [5, 8, 4, 2]


def test_more_samples_keep_the_first(fitted):
    few = fitted.predictive_samples(TEST[0], 4)
    torch.testing.assert_close(fitted.predictive_samples(TEST[0], 9)[:4], few, rtol=1e-4, atol=1e-5)


def test_the_map_is_judged_with_the_statistics_that_it_was_trained_with(models, fitted):
    d = fitted.diagnose(TEST, n_samples=S)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(models[0].eval()(TEST[0]), TEST[1])
    assert d.nll_map == pytest.approx(float(expected), rel=1e-4)
    mean = fitted(TEST[0], S)
    assert d.nll_latent == pytest.approx(float(-mean[torch.arange(len(mean)), TEST[1]].log().mean()), rel=1e-4)


@pytest.mark.parametrize("batch_size", [10, len(X) - 1])
def test_training_data_in_batches_give_the_same(models, quick, batch_size):
    # The one batch-norm layer of this model sees the same in batches of any sizes; no row is left alone at the end.
    loader = DataLoader(TensorDataset(X, Y), batch_size=12)
    options = quick | {"batch_size": batch_size}
    posterior = MetricBNN(models[0], "classification", batch_norm="refresh", **options).fit(loader, in_memory=False)
    samples = posterior.predictive_samples(TEST[0], S)
    weights = posterior.latent_posterior.sample(S, seed=0)
    torch.testing.assert_close(samples, by_hand(posterior, weights, TEST[0]), rtol=1e-4, atol=1e-5)


def test_two_models_have_the_statistics_of_their_own_samples(models, quick):
    posterior = MetricBNN(models, "classification", batch_norm="refresh", **quick).fit((X, Y))
    pool = posterior._draws().pooled
    weights, mode = pool.sample(S, seed=0), pool.modes_of(S)
    assert set(mode.tolist()) == {0, 1}
    expected = by_hand(posterior, weights, TEST[0])  # all that is not walked or refreshed is the same in both
    torch.testing.assert_close(posterior.predictive_samples(TEST[0], S), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior(TEST[0], S), expected.mean(0), rtol=1e-4, atol=1e-5)


# Saved and loaded.


def test_saved_statistics_suffice_after_loading(fitted, tmp_path):
    samples = fitted.predictive_samples(TEST[0], 9)
    n_saved = len(fitted.state_dict()["statistics.1.running_mean"])
    fitted.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", make_model(seed=9))
    torch.testing.assert_close(loaded.predictive_samples(TEST[0], 9), samples, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loaded(TEST[0], 9), samples.mean(0), rtol=1e-4, atol=1e-5)
    assert loaded.network.batch_norm == "refresh"
    message = r"batch-norm statistics need the training data: call refresh\(train_data\) first"
    with pytest.raises(RuntimeError, match=message):
        loaded.predictive_samples(TEST[0], n_saved + 1)
    with pytest.raises(RuntimeError, match=message):
        loaded.refresh(n_samples=3)
    # Nothing is lost by the refusals; with the data there are as many samples as one likes.
    torch.testing.assert_close(loaded.predictive_samples(TEST[0], 9), samples, rtol=1e-5, atol=1e-6)
    assert loaded.refresh((X, Y), n_samples=n_saved + 1) > 0
    found = loaded.predictive_samples(TEST[0], n_saved + 1)
    torch.testing.assert_close(found[:9], samples, rtol=1e-4, atol=1e-5)


def test_a_posterior_that_was_saved_before_it_ever_predicted_predicts_after_loading(models, quick, tmp_path):
    posterior = MetricBNN(models[0], "classification", batch_norm="refresh", **quick).fit((X, Y))
    posterior.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", make_model(seed=9))
    torch.testing.assert_close(loaded(TEST[0]), posterior(TEST[0]), rtol=1e-4, atol=1e-5)


def test_a_loaded_posterior_tunes_once_it_has_the_training_data(fitted, tmp_path):
    fitted.predictive_samples(TEST[0], 9)
    fitted.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", make_model(seed=9))
    with pytest.raises(RuntimeError, match=r"call refresh\(train_data\) first"):
        loaded.tune(TEST, temperatures=(0.5,), n_samples=5)
    loaded.refresh((X, Y), n_samples=5)
    tuning = loaded.tune(TEST, temperatures=(0.5, 0.1), n_samples=5)
    assert all(math.isfinite(trial.nll) for trial in tuning.trials)
    mean = loaded(TEST[0], 5)
    expected = -mean[torch.arange(len(mean)), TEST[1]].log().mean()
    assert tuning.best.nll == pytest.approx(float(expected), rel=1e-4)


# Frozen, the default.


def test_frozen_is_the_default_and_uses_the_running_statistics(models, quick):
    posterior = MetricBNN(models[0], "classification", **quick).fit((X, Y))
    assert posterior.network.batch_norm == "frozen"
    weights = posterior.latent_posterior.sample(S, seed=0)
    with torch.no_grad():
        expected = torch.stack([posterior.network.module(w).eval()(TEST[0]).softmax(-1) for w in weights])
    torch.testing.assert_close(posterior.predictive_samples(TEST[0], S), expected, rtol=1e-4, atol=1e-5)
    assert math.isnan(posterior.diagnose(TEST, n_samples=S).refresh_s)
    with pytest.raises(RuntimeError, match="batch norm is frozen: there is nothing to refresh"):
        posterior.refresh()
    assert not any(name.startswith("statistics") for name in posterior.state_dict())


def test_a_new_fit_forgets_the_statistics_of_the_old(models, quick):
    posterior = MetricBNN(models[0], "classification", batch_norm="refresh", **quick).fit((X, Y))
    posterior.predictive_samples(TEST[0], S)
    posterior.fit((2 * X, Y))
    weights = posterior.latent_posterior.sample(S, seed=0)
    module = copy.deepcopy(posterior.network.module(weights[0]))
    update_bn([2 * X], module)
    with torch.no_grad():
        expected = module.eval()(TEST[0]).softmax(-1)
    torch.testing.assert_close(posterior.predictive_samples(TEST[0], S)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_refresh_that_fails_leaves_the_statistics(fitted, monkeypatch):
    samples = fitted.predictive_samples(TEST[0], S)

    def fail(self, batches, n_samples):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Draws, "statistics", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        fitted.refresh(n_samples=50)
    torch.testing.assert_close(fitted.predictive_samples(TEST[0], S), samples)

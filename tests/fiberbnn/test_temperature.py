"""What may be changed after a fit, and what follows: diagnostics, refreshed statistics; and what may not."""

import math

import pytest
import torch
from torch import nn

from fiberbnn import MetricBNN, fit_map
from fiberbnn.streams import seed_of_mode
from tests.fiberbnn.conftest import TOO_SHORT, make_mlp

pytestmark = TOO_SHORT


@pytest.fixture(scope="module")
def pooled(classification, quick) -> MetricBNN:
    x, y = classification.x, classification.y
    other = fit_map(make_mlp(2, 8, 3, seed=1), x, y, classification.likelihood).model
    return MetricBNN([classification.map_fit.model, other], "classification", mode_weights=(1, 3), **quick).fit((x, y))


def plain_ratio(posterior: MetricBNN, temperature: float) -> float:
    """The energy rise of draws over P/2 nats, mode by mode."""
    total = 0.0
    for m, (mode, share) in enumerate(zip(posterior.modes, posterior.mode_weights, strict=True)):
        draws = mode.latent.at_temperature(temperature).sample(100, seed=seed_of_mode(posterior.seed, m))
        rise = float(mode.energy(draws).double().mean()) - mode.trajectory.map_energy
        total += share * 2.0 * rise / posterior.network.n_params
    return total


def test_diagnostics_are_of_draws_at_the_present_temperature(classification, pooled):
    before, data = pooled.diagnostics, (classification.x_test, classification.y_test)
    assert before.temperature == 1.0
    assert before.energy_ratio_latent == pytest.approx(plain_ratio(pooled, 1.0), rel=1e-4)
    for temperature in (0.01, 4.0):
        other = pooled.at_temperature(temperature)
        d = other.diagnostics
        assert d.temperature == temperature
        assert d.energy_ratio_latent == pytest.approx(plain_ratio(pooled, temperature), rel=1e-4)
        assert abs(d.energy_ratio_latent - before.energy_ratio_latent) > 0.05
        assert other.diagnose(data, 20).energy_ratio_latent == d.energy_ratio_latent
        assert (d.energy_ratio_walk, d.grad_evals, d.energy_evals) == (
            before.energy_ratio_walk,
            before.grad_evals,
            before.energy_evals,
        )
    assert pooled.diagnostics is before


def test_a_fit_at_a_temperature_is_judged_at_it(classification, quick, make):
    data = classification.x, classification.y
    cold, one = (make(classification, quick, temperature=t).fit(data) for t in (0.01, 1.0))
    assert cold.diagnostics.temperature == 0.01
    assert cold.diagnostics.energy_ratio_latent < one.diagnostics.energy_ratio_latent - 0.05
    found = one.at_temperature(1e-6).diagnose(data, 20)
    assert any("collapsed: at temperature 1e-06" in text for text in found.warnings)


def test_after_tuning_diagnostics_are_those_of_the_chosen_temperature(classification, pooled):
    other = pooled.at_temperature(25.0)
    tuning = other.tune((classification.x_test, classification.y_test), temperatures=(0.3,), n_samples=20)
    assert other.diagnostics.temperature == tuning.best.temperature == 0.3
    assert other.diagnostics.energy_ratio_latent == pytest.approx(plain_ratio(pooled, 0.3), rel=1e-4)


def test_a_loaded_posterior_knows_the_energies_of_the_temperature_it_was_saved_at(pooled, tmp_path):
    other = pooled.at_temperature(0.5)
    other.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", make_mlp(2, 8, 3, seed=7))
    assert loaded.diagnostics.temperature == 0.5
    assert loaded.diagnostics.energy_ratio_latent == pytest.approx(plain_ratio(pooled, 0.5), rel=1e-4)
    loaded.temperature = 2.0
    assert loaded.diagnostics.temperature == 2.0
    assert math.isnan(loaded.diagnostics.energy_ratio_latent)


def test_a_temperature_that_is_set_reaches_draws_and_diagnostics(classification, pooled):
    other = pooled.at_temperature(1.0)
    other.temperature = 0.2
    expected = pooled.at_temperature(0.2)
    assert torch.equal(other(classification.x, 9), expected(classification.x, 9))
    assert other.diagnostics == expected.diagnostics
    assert pooled.temperature == 1.0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(pooled, bad):
    other = pooled.at_temperature(0.7)
    with pytest.raises(ValueError, match="temperature must be positive and finite; got"):
        other.temperature = bad
    assert other.temperature == 0.7
    with pytest.raises(ValueError, match="temperature must be positive and finite; got"):
        pooled.at_temperature(bad)


def test_the_prior_of_a_fit_cannot_be_set(pooled):
    with pytest.raises(AttributeError, match=r"prior_precision belongs to the fit.*fit again.*tune\("):
        pooled.prior_precision = 2.0
    assert pooled.prior_precision == 1.0


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.05), ("seed", 8)])
def test_refreshed_statistics_follow_what_is_set(classification, quick, name, value):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    x, y = classification.x, classification.y
    posterior = MetricBNN(model, "classification", batch_norm="refresh", **quick).fit((x, y))
    fresh = posterior.at_temperature(2.0)  # carries none along
    fresh.temperature = 1.0
    setattr(fresh, name, value)
    before = posterior(x, 9)  # with statistics of its draws
    setattr(posterior, name, value)
    assert torch.equal(posterior(x, 9), fresh(x, 9))
    assert not torch.equal(posterior(x, 9), before)

"""Tuning by held-out NLL: what was planted is found, what is not finite is not chosen, failures change nothing."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import Energy, Gaussian, MetricBNN, Network, WalkDivergedError, WalkSchedule, fit_map
from fiberbnn import posterior as posterior_module
from fiberbnn.map import trained_on
from fiberbnn.predictive import predictive_nll
from fiberbnn.tuning import Trial, Tuning
from tests.fiberbnn.conftest import TOO_SHORT

pytestmark = TOO_SHORT

NOISE = 0.5


def make_data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3 + NOISE * torch.randn(n, 1, generator=generator)
    return x, y


TRAIN, VAL = make_data(60, 1), make_data(1500, 2)


def fitted(quick, *, noise_std: float = NOISE, prior_precision: float = 1.0, **options) -> MetricBNN:
    """A fit of a linear model, from its MAP."""
    model = fit_map(nn.Sequential(nn.Linear(3, 1)), *TRAIN, Gaussian(noise_std), prior_precision=prior_precision).model
    options = quick | {"schedule": WalkSchedule(max_steps=120, min_warmup=40, n_snapshots=8)} | options
    return MetricBNN(model, Gaussian(noise_std), prior_precision=prior_precision, **options).fit(TRAIN)


@pytest.fixture(scope="module")
def noisy(quick) -> MetricBNN:
    """Its noise is twice what the data have."""
    return fitted(quick, noise_std=2 * NOISE)


@pytest.fixture
def wrong(noisy) -> MetricBNN:
    return copy.copy(noisy)  # `tune` sets attributes, and changes nothing in place


def nll(posterior: MetricBNN, n_samples: int = 100) -> float:
    """The held-out NLL of what the posterior predicts."""
    return predictive_nll(posterior.likelihood, posterior.outputs(VAL[0], n_samples), VAL[1])[0]


def state(posterior: MetricBNN) -> dict[str, object]:
    return dict(posterior.__dict__)


def test_noise_that_is_twice_too_large_is_halved(wrong):
    before = nll(wrong)
    tuning = wrong.tune(VAL, temperatures=(), noise_factors=(0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 1.25))
    assert tuning.best.noise_factor == pytest.approx(0.5, abs=0.06)
    assert wrong.likelihood == Gaussian(tuning.best.noise_factor * 2 * NOISE)
    assert tuning.before == tuning.trials[0] == Trial(1.0, 1.0, 1.0, before)
    assert tuning.best.nll < before - 0.1
    # The NLL of a Gaussian with the true noise is its entropy; the posterior adds little.
    assert tuning.best.nll == pytest.approx(0.5 * math.log(2 * math.pi * math.e * NOISE**2), abs=0.06)


def test_what_is_scored_is_what_the_posterior_then_predicts(wrong):
    tuning = wrong.tune(VAL, n_samples=30)
    assert nll(wrong, 30) == pytest.approx(tuning.best.nll, rel=1e-6)
    assert tuning.best.nll == min(trial.nll for trial in tuning.trials)
    assert wrong.temperature == tuning.best.temperature
    assert len({(t.temperature, t.noise_factor) for t in tuning.trials}) == len(tuning.trials) == 9 + 7
    # Every trial can be had by hand.
    for trial in tuning.trials[:10:3]:
        other = wrong.at_temperature(trial.temperature)
        other._likelihood = Gaussian(trial.noise_factor * 2 * NOISE)
        assert nll(other, 30) == pytest.approx(trial.nll, rel=1e-6)


def test_a_temperature_that_is_far_too_high_is_lowered(quick):
    posterior = fitted(quick, temperature=400.0)
    tuning = posterior.tune(VAL, temperatures=(0.5, 1.0, 100.0), noise_factors=())
    assert tuning.best.temperature <= 1.0
    assert tuning.best.nll < tuning.before.nll - 0.1
    assert tuning.before.temperature == 400.0
    assert posterior.temperature == tuning.best.temperature
    spread = [
        posterior.at_temperature(t).sample(200, generator=torch.Generator().manual_seed(0)).std(0) for t in (1, 4)
    ]
    torch.testing.assert_close(spread[1], 2 * spread[0], rtol=0.05, atol=0)  # decoding bends a little


def test_a_present_setting_that_is_best_stays(wrong):
    first = wrong.tune(VAL, noise_factors=(0.5, 0.7))
    likelihood, temperature = wrong.likelihood, wrong.temperature
    again = wrong.tune(VAL, temperatures=(1e4,), noise_factors=(3.0,))
    assert again.best == again.before
    assert again.best.nll == pytest.approx(first.best.nll)
    assert (wrong.likelihood, wrong.temperature) == (likelihood, temperature)


def test_a_prior_that_is_far_too_strong_is_weakened_by_another_fit(quick):
    posterior = fitted(quick, prior_precision=1000.0)
    before = nll(posterior)
    tuning = posterior.tune(VAL, prior_precisions=(1.0, 1000.0, 3000.0), temperatures=(), noise_factors=())
    assert tuning.best.prior_precision == posterior.prior_precision == 1.0
    assert [trial.prior_precision for trial in tuning.trials] == [1000.0, 1.0, 3000.0]
    assert tuning.best.nll < before - 0.3
    assert nll(posterior) == pytest.approx(tuning.best.nll, rel=1e-6)
    # The walk started from the MAP with the new prior: ridge regression.
    design = torch.cat([TRAIN[0], torch.ones(60, 1)], dim=1)
    precision = design.T @ design / NOISE**2 + torch.eye(4)
    ridge = torch.linalg.solve(precision, design.T @ TRAIN[1][:, 0] / NOISE**2)
    torch.testing.assert_close(posterior.network.weights, ridge, rtol=1e-3, atol=1e-3)
    assert posterior.modes[0].energy.prior_precision == 1.0
    assert posterior.trajectory.map_energy == pytest.approx(float(posterior.modes[0].energy(ridge[None])), abs=0.01)


@pytest.mark.parametrize("chosen", ["last_layer", lambda name, parameter: name.startswith("2")])
def test_another_prior_of_a_subset_starts_from_the_minimum_over_the_subset(quick, chosen):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
    posterior = MetricBNN(model, Gaussian(NOISE), subset=chosen, prior_precision=1000.0, **quick).fit(TRAIN)
    tuning = posterior.tune(VAL, prior_precisions=(2.0,), temperatures=(), noise_factors=())
    assert tuning.best.prior_precision == posterior.prior_precision == 2.0
    # Ridge regression on the features that stay as they are.
    with torch.no_grad():
        design = torch.cat([model[:2](TRAIN[0]), torch.ones(60, 1)], dim=1).double()
    precision = design.T @ design / NOISE**2 + 2.0 * torch.eye(7)
    ridge = torch.linalg.solve(precision, design.T @ TRAIN[1][:, 0].double() / NOISE**2)
    torch.testing.assert_close(posterior.network.weights, ridge.float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(posterior.network.model[0].weight, model[0].weight)
    assert posterior.modes[0].energy.prior_precision == 2.0


def test_another_prior_with_refreshed_batch_norm_starts_from_a_minimum_with_its_own_statistics(quick):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)).eval()
    posterior = MetricBNN(model, Gaussian(NOISE), batch_norm="refresh", **quick).fit(TRAIN)
    trained = trained_on(posterior.modes[0].energy, 3.0)
    network = Network(trained, batch_norm="refresh")
    _, gradient = Energy(network, Gaussian(NOISE), *TRAIN, 3.0).value_and_grad(network.weights[None])
    assert gradient.norm() < 0.1
    # The running statistics are those of the hidden units over all data.
    with torch.no_grad():
        hidden = trained[0](TRAIN[0])
    torch.testing.assert_close(trained[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(trained[1].running_var, hidden.var(0))
    assert not torch.allclose(model[1].running_var, hidden.var(0), rtol=0.1)


def test_priors_are_tuned_on_minibatches_and_subsets_too(quick):
    for options in ({"batch_size": 20}, {"subset": "last_layer"}):
        posterior = fitted(quick, **options)
        tuning = posterior.tune(VAL, prior_precisions=(0.5,), temperatures=(), noise_factors=())
        assert [trial.prior_precision for trial in tuning.trials] == [1.0, 0.5]
        assert all(math.isfinite(trial.nll) for trial in tuning.trials)
        assert posterior.network.subset == options.get("subset")


def test_classification_has_no_noise_to_tune(classification, quick, make):
    posterior = make(classification, quick).fit((classification.x, classification.y))
    tuning = posterior.tune((classification.x_test, classification.y_test), temperatures=(0.5,))
    assert {trial.noise_factor for trial in tuning.trials} == {1.0}
    assert len(tuning.trials) == 2


def test_one_noise_for_each_output_is_scaled_as_a_whole(quick):
    x, y = TRAIN[0], torch.cat([TRAIN[1], -TRAIN[1]], dim=1)
    model = fit_map(nn.Sequential(nn.Linear(3, 2)), x, y, Gaussian(NOISE)).model
    posterior = MetricBNN(model, Gaussian((1.0, 2.0)), **quick).fit((x, y))
    val = VAL[0], torch.cat([VAL[1], -VAL[1]], dim=1)
    posterior.tune(val, temperatures=(), noise_factors=(0.5,))
    assert posterior.likelihood == Gaussian((0.5, 1.0))


def test_a_fit_after_tuning_fits_the_noise_anew_if_it_was_to_be_fitted(quick):
    model = fit_map(nn.Sequential(nn.Linear(3, 1)), *TRAIN, Gaussian(NOISE)).model
    posterior = MetricBNN(model, "regression", **quick).fit(TRAIN)
    noise_std = posterior.likelihood.noise_std
    posterior.tune((VAL[0], 3 * VAL[1]), prior_precisions=(0.5,), noise_factors=(2.0,))
    assert posterior.likelihood.noise_std == pytest.approx(2 * noise_std)
    posterior.fit(TRAIN)
    assert posterior.likelihood.noise_std == pytest.approx(noise_std, rel=0.01)


# What is not finite.


@pytest.fixture
def spoil(monkeypatch):
    """Make the outputs of some temperatures NaN."""

    def spoil_some(bad) -> None:
        plain = MetricBNN.outputs

        def outputs(self, x, n_samples=100):
            found = plain(self, x, n_samples)
            return found * math.nan if bad(self.temperature) else found

        monkeypatch.setattr(MetricBNN, "outputs", outputs)

    return spoil_some


def test_a_candidate_whose_nll_is_not_finite_is_never_best(wrong, spoil):
    spoil(lambda temperature: temperature == 0.5)
    tuning = wrong.tune(VAL, temperatures=(0.5, 0.7), noise_factors=())
    assert [trial.nll == math.inf for trial in tuning.trials] == [False, True, False]
    assert tuning.trials[1].reason == "the NLL is nan"
    assert "the NLL is nan" in str(tuning)
    assert wrong.temperature != 0.5


def test_a_present_setting_that_is_not_finite_is_left(wrong, spoil):
    spoil(lambda temperature: temperature == 1.0)
    tuning = wrong.tune(VAL, temperatures=(0.5,), noise_factors=(0.5,))
    assert tuning.before.nll == math.inf
    assert wrong.temperature == tuning.best.temperature == 0.5


def test_nothing_finite_changes_nothing(wrong, spoil):
    spoil(lambda temperature: True)
    before = state(wrong)
    with pytest.raises(FloatingPointError, match="held-out NLL is not finite for any candidate"):
        wrong.tune(VAL)
    assert state(wrong) == before


def test_a_fit_that_fails_is_a_trial_with_its_reason(wrong, monkeypatch):
    whole = posterior_module.fit_mode

    def fit_mode(energy, settings, **options):
        if energy.prior_precision == 7.0:
            raise WalkDivergedError("it diverged")
        return whole(energy, settings, **options)

    monkeypatch.setattr(posterior_module, "fit_mode", fit_mode)
    tuning = wrong.tune(VAL, prior_precisions=(7.0,), temperatures=(), noise_factors=())
    assert [trial.reason for trial in tuning.trials] == ["", "the fit failed: it diverged"]
    assert tuning.trials[1].nll == math.inf
    assert wrong.prior_precision == 1.0


# Text, progress and refusals.


def test_as_text_it_is_a_table_with_the_best_marked():
    trials = (Trial(1.0, 1.0, 1.0, 0.9), Trial(1.0, 0.5, 1.0, 0.7), Trial(2.0, 1.0, 1.0, math.inf, "out of luck"))
    lines = str(Tuning(trials, trials[1])).splitlines()
    assert len(lines) == 4
    assert "temperature" in lines[0]
    assert "NLL" in lines[0]
    assert [line.endswith("<- best") for line in lines] == [False, False, True, False]
    assert "0.7000" in lines[2]
    assert lines[3].endswith("inf  out of luck")


def test_progress_goes_to_stderr_only_if_asked(wrong, capsys):
    wrong.tune(VAL, temperatures=(0.5,), noise_factors=())
    assert capsys.readouterr() == ("", "")
    wrong.tune(VAL, temperatures=(0.5,), noise_factors=(), progress_bar=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "tune" in err


def test_a_loaded_posterior_has_no_training_data_for_another_prior(wrong, tmp_path):
    wrong.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", nn.Sequential(nn.Linear(3, 1)))
    before = state(loaded)
    with pytest.raises(RuntimeError, match=r"prior precisions need the training data: call fit\(train_data\)"):
        loaded.tune(VAL, prior_precisions=(0.1,))
    assert state(loaded) == before
    # Temperature and noise need none, and find what they would have found before.
    found, expected = loaded.tune(VAL), wrong.tune(VAL)
    assert [t.nll for t in found.trials] == pytest.approx([t.nll for t in expected.trials], rel=1e-5)
    assert loaded.likelihood == wrong.likelihood


def test_before_a_fit_there_is_nothing_to_tune(quick):
    posterior = MetricBNN(nn.Sequential(nn.Linear(3, 1)), Gaussian(1.0), **quick)
    with pytest.raises(RuntimeError, match=r"has not been fitted: call fit\(train_data\) first"):
        posterior.tune(VAL)


@pytest.mark.parametrize("name", ["prior_precisions", "temperatures", "noise_factors"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_candidates_that_are_none_are_refused(wrong, name, bad):
    before = state(wrong)
    with pytest.raises(ValueError, match=f"{name} must be positive and finite; got"):
        wrong.tune(VAL, **{name: (1.0, bad)})
    assert state(wrong) == before


@pytest.mark.parametrize("data", [(VAL[0], VAL[1].long()), (VAL[0], VAL[1][:, 0]), (VAL[0][:, :2], VAL[1])])
def test_data_that_do_not_fit_are_refused_and_change_nothing(wrong, data):
    before = state(wrong)
    with pytest.raises(ValueError, match=r"targets must be floats of shape|x must be \[N, 3\]"):
        wrong.tune(data)
    assert state(wrong) == before


def test_held_out_data_that_are_not_finite_are_refused(wrong):
    y = VAL[1].clone()
    y[3] = math.nan
    with pytest.raises(ValueError, match="targets hold 1 NaN or infinite values"):
        wrong.tune((VAL[0], y))

"""MetricBNN from fit to prediction, on a small classification and a small regression."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fiberbnn import (
    Categorical,
    Diagnostics,
    Gaussian,
    LatentSettings,
    MetricBNN,
    Network,
    WalkSchedule,
    WalkSettings,
    fit_map,
)
from fiberbnn import mode as mode_module
from tests.fiberbnn.conftest import TOO_SHORT

# Fits of this file are too short to be right, and say so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:the walk's energy", "ignore:.* of the walk's steps were undone", "ignore:decoded samples are hotter"
)


@pytest.fixture(scope="module")
def fitted(problem, quick, make) -> MetricBNN:
    return make(problem, quick).fit((problem.x, problem.y))


def test_fit_returns_itself_and_samples_have_the_weights_shape(problem, fitted):
    n_params = Network(problem.map_fit.model).n_params
    assert isinstance(fitted, MetricBNN)
    assert fitted.sample(7).shape == (7, n_params)
    assert fitted.sample().shape == (100, n_params)
    assert fitted.trajectory.weights.shape == (8 * 5, n_params)
    assert fitted.latent_posterior.seconds > 0
    assert torch.equal(fitted.latent_posterior.basis.scale, fitted.trajectory.scale)
    assert len(fitted.modes) == 1
    assert fitted.modes[0].trajectory is fitted.trajectory
    for name in ("latent_posterior", "trajectory", "likelihood", "network"):
        with pytest.raises(AttributeError):
            setattr(fitted, name, None)


def test_the_averaged_predictive_is_the_mean_of_the_samples(problem, fitted):
    n_out = 3 if problem.kind == "classification" else 1
    samples = fitted.predictive_samples(problem.x, 9)
    assert samples.shape == (9, len(problem.x), n_out)
    found = fitted(problem.x, 9)
    if problem.kind == "classification":
        torch.testing.assert_close(found, samples.mean(0))
        torch.testing.assert_close(found.sum(-1), torch.ones(len(problem.x)))
        assert (found > 0).all()
    else:
        mean, variance = found
        torch.testing.assert_close(mean, samples.mean(0))
        # Law of total variance: of the means, and of the noise.
        torch.testing.assert_close(variance, samples.var(0, correction=0) + 0.3**2)
        assert (variance >= 0.3**2).all()


def test_samples_of_weights_give_the_predictive_samples(problem, fitted):
    weights = fitted.latent_posterior.sample(5, seed=fitted.seed)
    outputs = torch.stack([fitted.network.module(w)(problem.x) for w in weights]).detach()
    expected = outputs.softmax(-1) if problem.kind == "classification" else outputs
    torch.testing.assert_close(fitted.predictive_samples(problem.x, 5), expected)


def test_the_same_draws_serve_all_inputs(problem, fitted):
    whole = fitted.predictive_samples(problem.x, 6)
    torch.testing.assert_close(fitted.predictive_samples(problem.x[10:20], 6), whole[:, 10:20])
    assert torch.equal(fitted.predictive_samples(problem.x, 6), whole)
    # And fewer of them are the first of them.
    torch.testing.assert_close(fitted.predictive_samples(problem.x, 4), whole[:4], rtol=1e-4, atol=1e-4)


def test_a_generator_fixes_the_draws(fitted):
    first, again, other = (fitted.sample(3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(fitted.sample(3, generator=generator), first)
    assert not torch.equal(fitted.sample(3, generator=generator), first)


def test_without_a_generator_torchs_own_one_is_used(fitted):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, second = fitted.sample(3), fitted.sample(3)
        torch.manual_seed(5)
        assert torch.equal(fitted.sample(3), first)
        assert not torch.equal(first, second)


def test_one_seed_gives_one_posterior(problem, quick, fitted, make):
    again, other = (make(problem, quick, seed=seed).fit((problem.x, problem.y)) for seed in (0, 1))
    assert torch.equal(again.predictive_samples(problem.x, 5), fitted.predictive_samples(problem.x, 5))
    assert not torch.equal(other.predictive_samples(problem.x, 5), fitted.predictive_samples(problem.x, 5))


def test_fitting_leaves_torchs_generator_alone(problem, quick, make):
    state = torch.get_rng_state()
    make(problem, quick).fit((problem.x, problem.y))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loader_gives_the_same_posterior_as_tensors(problem, quick, fitted, make):
    loader = DataLoader(TensorDataset(problem.x, problem.y), batch_size=17)
    loaded = make(problem, quick).fit(loader)
    torch.testing.assert_close(loaded.predictive_samples(problem.x, 5), fitted.predictive_samples(problem.x, 5))


def test_the_users_module_is_never_changed(problem, quick):
    model = copy.deepcopy(problem.map_fit.model).train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = copy.deepcopy(model.state_dict())
    posterior = MetricBNN(model, problem.likelihood, **quick).fit((problem.x, problem.y))
    posterior(problem.x)
    posterior.diagnose((problem.x, problem.y))
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert (model[0].weight.grad == 1).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_likelihoods_can_be_given_as_objects(problem, quick, fitted):
    posterior = MetricBNN(problem.map_fit.model, problem.likelihood, **quick).fit((problem.x, problem.y))
    assert posterior.likelihood == fitted.likelihood == problem.likelihood
    assert torch.equal(posterior.predictive_samples(problem.x, 3), fitted.predictive_samples(problem.x, 3))


# With three times the noise the prior weighs more, and the weights are at no minimum.
@pytest.mark.filterwarnings("ignore:the model is not at a minimum")
def test_noise_is_fitted_to_the_residuals_where_none_is_given(regression, quick):
    posterior = MetricBNN(regression.map_fit.model, "regression", **quick)
    with pytest.raises(RuntimeError, match=r"noise has not been fitted yet: call fit\(train_data\) first"):
        _ = posterior.likelihood
    posterior.fit((regression.x, regression.y))
    with torch.no_grad():
        residuals = regression.map_fit.model(regression.x) - regression.y
    assert posterior.likelihood.noise_std == pytest.approx(float(residuals.square().mean().sqrt()), rel=1e-5)
    # Another fit is another noise: residuals that are three times as large here.
    posterior.fit((regression.x, regression.y - 2 * residuals))
    assert posterior.likelihood.noise_std == pytest.approx(3 * float(residuals.square().mean().sqrt()), rel=1e-4)


def test_noise_that_is_given_stays(regression, quick):
    posterior = MetricBNN(regression.map_fit.model, "regression", noise_std=0.3, **quick)
    posterior.fit((regression.x, regression.y))
    assert posterior.likelihood == Gaussian(0.3)


def test_a_float64_model_gives_a_float64_posterior(problem, quick):
    model = copy.deepcopy(problem.map_fit.model).double()
    posterior = MetricBNN(model, problem.likelihood, **quick).fit((problem.x, problem.y))
    assert posterior.sample(2).dtype == torch.float64
    assert posterior.predictive_samples(problem.x, 2).dtype == torch.float64


@pytest.mark.parametrize(
    "walk", [WalkSettings(metropolis=True), WalkSettings(drift="literal", drift_length=0.1, refine_noise=1.0)]
)
@pytest.mark.parametrize("density", ["kde", "gaussian"])
def test_all_modes_fit(classification, quick, walk, density, make):
    settings = LatentSettings(density=density, autoencoder=quick["latent"].autoencoder)
    posterior = make(classification, quick | {"latent": settings}, walk=walk)
    posterior.fit((classification.x, classification.y))
    assert posterior(classification.x).isfinite().all()


def test_a_network_that_is_no_perceptron_fits_too(classification, quick):
    model = nn.Sequential(nn.Linear(2, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    x, y = classification.x, classification.y
    trained = fit_map(model, x, y, Categorical(), max_steps=100)
    posterior = MetricBNN(trained.model, "classification", **quick).fit((x, y))
    assert posterior.diagnose((x, y)).nll_latent < math.log(3)


def test_the_state_dict_holds_the_posterior(fitted):
    state = fitted.state_dict()
    own = [state[f"mode0.model.{name}"].flatten() for name, _ in fitted.network.model.named_parameters()]
    assert torch.equal(torch.cat(own), fitted.network.weights)
    assert {name.split(".")[0] for name in state} == {"mode0"}
    assert {name.split(".")[1] for name in state} == {"model", "basis", "autoencoder", "density"}
    assert torch.equal(state["mode0.density.points"], fitted.latent_posterior.density.points)


@pytest.mark.parametrize("call", ["sample", "predictive_samples", "__call__", "diagnose", "state_dict", "save"])
def test_nothing_can_be_asked_before_the_fit(problem, quick, call, tmp_path, make):
    arguments = {
        "predictive_samples": (problem.x,),
        "__call__": (problem.x,),
        "diagnose": ((problem.x, problem.y),),
        "save": (tmp_path / "p.safetensors",),
    }
    with pytest.raises(RuntimeError, match=r"has not been fitted: call fit\(train_data\) first"):
        getattr(make(problem, quick), call)(*arguments.get(call, ()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("n_particles", "schedule"),
    [(1, WalkSchedule(n_snapshots=1)), (1, WalkSchedule(max_steps=3, min_warmup=1, n_snapshots=10))],
)
def test_a_walk_that_would_leave_one_sample_is_refused_before_it_starts(problem, monkeypatch, n_particles, schedule):
    def walk_from(*args, **options):
        raise AssertionError("the walk has begun")

    monkeypatch.setattr(mode_module, "walk_from", walk_from)
    posterior = MetricBNN(problem.map_fit.model, problem.likelihood, n_particles=n_particles, schedule=schedule)
    with pytest.raises(ValueError, match=r"one sample of the walk.* needs two.*raise n_particles, or .*n_snapshots"):
        posterior.fit((problem.x, problem.y))
    two = MetricBNN(problem.map_fit.model, problem.likelihood, n_particles=2, schedule=schedule)
    with pytest.raises(AssertionError, match="the walk has begun"):
        two.fit((problem.x, problem.y))


def test_what_the_fit_computed_is_counted(problem, fitted):
    cost, d = fitted.modes[0].energy.cost, fitted.diagnostics
    assert (d.grad_evals, d.hvp_evals) == (round(cost.grad_evals), round(cost.hvp_evals))
    # Diagnostics take the energies of 100 draws afterwards, which the fit did not.
    assert 0 < d.energy_evals <= round(cost.energy_evals) - 100
    assert not d.minibatches


# Where gradients are off.


@TOO_SHORT
@pytest.mark.parametrize("batch_size", [None, 20])
def test_fit_and_tune_work_where_gradients_are_off(problem, quick, make, batch_size):
    data, held_out = (problem.x, problem.y), (problem.x_test, problem.y_test)

    def run() -> MetricBNN:
        posterior = make(problem, quick, batch_size=batch_size).fit(data)
        posterior.tune(held_out, prior_precisions=(2.0,), temperatures=(0.5,), n_samples=10)
        return posterior

    expected = run()
    with torch.no_grad():
        found = run()
        assert not torch.is_grad_enabled()
    assert torch.equal(found.predictive_samples(problem.x, 3), expected.predictive_samples(problem.x, 3))


def test_inference_mode_is_refused_by_what_takes_gradients_and_serves_predictions(problem, quick, fitted, make):
    posterior, data = make(problem, quick), (problem.x, problem.y)
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match=r"fit takes gradients, which torch.inference_mode\(\) rules out"):
            posterior.fit(data)
        with pytest.raises(RuntimeError, match=r"tune takes gradients, which torch.inference_mode\(\) rules out"):
            fitted.tune(data)
        samples, nll = fitted.predictive_samples(problem.x, 4), fitted.diagnose(data, 10).nll_latent
    assert torch.equal(samples, fitted.predictive_samples(problem.x, 4))
    assert nll == fitted.diagnose(data, 10).nll_latent


@pytest.mark.filterwarnings("ignore:the model is not at a minimum", "ignore:.*particles could not move")
def test_a_walk_on_all_data_from_no_minimum_is_not_blamed_on_minibatches(classification, quick):
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    posterior = MetricBNN(model, "classification", **quick)
    with pytest.warns(UserWarning, match="velocities are too hot .*started away from a minimum.*fiberbnn.fit_map"):
        posterior.fit((classification.x, classification.y))
    assert not any("minibatches" in text for text in posterior.diagnostics.warnings)


def test_a_failed_fit_leaves_the_posterior_as_it_was(regression, quick, monkeypatch):
    posterior = MetricBNN(regression.map_fit.model, "regression", **quick)

    def fail(*args, **kwargs):
        raise RuntimeError("out of luck")

    whole = mode_module.walk_from
    monkeypatch.setattr(mode_module, "walk_from", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        posterior.fit((regression.x, regression.y))
    with pytest.raises(RuntimeError, match="noise has not been fitted yet"):
        _ = posterior.likelihood
    assert posterior.modes == ()
    assert posterior.trajectory is None
    monkeypatch.setattr(mode_module, "walk_from", whole)
    posterior.fit((regression.x, regression.y))
    before = posterior.predictive_samples(regression.x, 3)
    monkeypatch.setattr(mode_module, "walk_from", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        posterior.fit((regression.x, regression.y))
    assert torch.equal(posterior.predictive_samples(regression.x, 3), before)


def test_diagnostics_are_a_table_of_their_own(fitted, problem):
    first = fitted.diagnose((problem.x, problem.y), n_samples=20)
    assert isinstance(first, Diagnostics)
    assert fitted.diagnose((problem.x, problem.y), n_samples=20) == first
    loader = DataLoader(TensorDataset(problem.x, problem.y), batch_size=7)
    assert fitted.diagnose(loader, n_samples=20).nll_map == pytest.approx(first.nll_map)

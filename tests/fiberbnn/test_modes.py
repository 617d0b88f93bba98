"""Several trained models: an ensemble whose members are posteriors, drawn from as one."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fiberbnn import Categorical, MetricBNN, PooledPosterior, fit_map
from fiberbnn.averaging import Averaging
from fiberbnn.pooled import shares_of_modes
from fiberbnn.streams import seed_of_mode
from tests.fiberbnn.conftest import TOO_SHORT, make_mlp

pytestmark = TOO_SHORT

SEED = 5
WEIGHTS = {2: (1.0, 3.0), 3: None}


@pytest.fixture(scope="module")
def models(classification):
    x, y = classification.x, classification.y
    others = [fit_map(make_mlp(2, 8, 3, seed=seed), x, y, Categorical()).model for seed in (1, 2)]
    return [classification.map_fit.model, *others]


@pytest.fixture(scope="module")
def singles(classification, models, quick):
    """A posterior of each model alone, with the seed that it has in a pool."""
    fits = (MetricBNN(model, "classification", seed=seed_of_mode(SEED, m), **quick) for m, model in enumerate(models))
    return [one.fit((classification.x, classification.y)) for one in fits]


@pytest.fixture(scope="module", params=[2, 3])
def pooled(request, classification, models, quick):
    n = request.param
    posterior = MetricBNN(models[:n], "classification", seed=SEED, mode_weights=WEIGHTS[n], **quick)
    return posterior.fit((classification.x, classification.y))


def test_each_mode_is_the_posterior_of_its_model_alone(models, singles, pooled):
    assert len(pooled.modes) == len(pooled.networks)
    for mode, single, model in zip(pooled.modes, singles, models, strict=False):
        assert torch.equal(mode.trajectory.weights, single.trajectory.weights)
        assert torch.equal(mode.latent.sample(5, seed=1), single.modes[0].latent.sample(5, seed=1))
        assert torch.equal(mode.network.weights, nn.utils.parameters_to_vector(model.parameters()))
    assert pooled.trajectory is pooled.modes[0].trajectory
    assert pooled.network is pooled.modes[0].network


def test_draws_are_those_of_the_single_posteriors_in_golden_ratio_order(singles, pooled):
    n, weights = 40, pooled.mode_weights
    latents = tuple(mode.latent for mode in pooled.modes)
    pool = PooledPosterior(latents, weights)
    edges = [sum(weights[: m + 1]) for m in range(len(weights) - 1)]
    places = [math.fmod(0.5 + s * (math.sqrt(5) - 1) / 2, 1.0) for s in range(n)]
    expected_modes = [sum(place >= edge for edge in edges) for place in places]
    assert pool.modes_of(n).tolist() == expected_modes
    drawn, taken = pool.sample(n, seed=3), [0] * len(weights)
    for s, m in enumerate(expected_modes):
        own = singles[m].modes[0].latent.sample(1, seed=seed_of_mode(3, m), sample0=taken[m])[0]
        torch.testing.assert_close(drawn[s], own, rtol=1e-4, atol=1e-4)
        taken[m] += 1
    assert pool.shares(n) == taken


def test_the_seeds_of_modes_differ_and_the_first_is_that_of_the_draws():
    of_neighbours = [seed_of_mode(seed, m) for seed in range(20) for m in range(20)]
    assert len(set(of_neighbours)) == 400
    for seed in (0, 7, 2**63 - 1):
        seeds = [seed_of_mode(seed, m) for m in range(3)]
        assert seeds[0] == seed
        assert len(set(seeds)) == 3
        assert all(0 <= each < 2**63 for each in seeds)


@pytest.mark.parametrize("weights", [(0.25, 0.75), (0.5, 0.5), (0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3), (0.01, 0.99)])
def test_every_run_of_draws_holds_the_modes_in_their_proportions(weights):
    pool = PooledPosterior((None,) * len(weights), weights)
    for sample0 in (0, 17, 1000):
        for n in (5, 50, 500):
            counts = torch.bincount(pool.modes_of(n, sample0), minlength=len(weights)).tolist()
            assert max(abs(c - n * w) for c, w in zip(counts, weights, strict=True)) < 2.5


def test_a_sample_does_not_depend_on_how_many_are_drawn(pooled):
    pool = PooledPosterior(tuple(mode.latent for mode in pooled.modes), pooled.mode_weights)
    whole = pool.sample(30, seed=2)
    torch.testing.assert_close(pool.sample(11, seed=2), whole[:11], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pool.sample(9, seed=2, sample0=14), whole[14:23], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pool.sample(1, seed=2, sample0=29), whole[29:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="n_samples must be at least 1; got 0"):
        pool.sample(0, seed=2)


def test_the_predictive_is_the_average_over_the_samples(classification, pooled):
    for n in (1, 9, 40):
        samples = pooled.predictive_samples(classification.x, n)
        found = pooled.predict(classification.x, n)
        torch.testing.assert_close(found.probs, samples.mean(0))
        torch.testing.assert_close(pooled(classification.x, n), samples.mean(0))
        entropies = torch.special.entr(samples.double()).sum(-1).mean(0)
        mutual = torch.special.entr(samples.double().mean(0)).sum(-1) - entropies
        torch.testing.assert_close(found.mutual_information.double(), mutual, rtol=1e-3, atol=1e-5)


def test_small_mutual_information_is_not_lost_between_modes(classification, pooled):
    # All modes alike, and hardly any spread: the samples all but agree.
    x, posterior = classification.x, pooled.at_temperature(1e-6)
    posterior.modes = (pooled.modes[0],) * len(pooled.modes)
    found = posterior.predict(x, 40).mutual_information.double()
    expected = Averaging(Categorical()).add(posterior.outputs(x, 40).double()).result().mutual_information
    clear = expected > 1e-9
    assert clear.sum() > 30
    assert expected[clear].median() < 1e-4
    torch.testing.assert_close(found[clear], expected[clear], rtol=0.02, atol=0.0)  # logits are of float32


def test_temperature_and_generator_reach_all_modes(pooled):
    first = pooled.sample(12, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, pooled.sample(12, generator=torch.Generator().manual_seed(3)))
    cold = pooled.at_temperature(1e-8).sample(12, generator=torch.Generator().manual_seed(3))
    of_mode = PooledPosterior((None,) * len(pooled.modes), pooled.mode_weights).modes_of(12)
    centres = torch.stack([cold[of_mode == m][0] for m in range(len(pooled.modes))])
    assert (cold - centres[of_mode]).abs().max() < 1e-3  # each mode's own centre
    assert torch.pdist(centres).min() > 0.5
    assert torch.pdist(first).min() > 0.01


def test_saved_and_loaded_it_has_all_modes(classification, pooled, tmp_path):
    pooled.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", make_mlp(2, 8, 3, seed=9))
    assert len(loaded.modes) == len(pooled.modes)
    assert loaded.mode_weights == pytest.approx(pooled.mode_weights)
    for one, other in zip(loaded.modes, pooled.modes, strict=True):
        assert torch.equal(one.network.weights, other.network.weights)
    samples = pooled.predictive_samples(classification.x, 20)
    torch.testing.assert_close(loaded.predictive_samples(classification.x, 20), samples)
    assert {name.split(".")[0] for name in loaded.state_dict()} == {f"mode{m}" for m in range(len(pooled.modes))}
    d, before = (p.diagnose((classification.x, classification.y), n_samples=20) for p in (loaded, pooled))
    assert (d.nll_map, d.nll_latent) == pytest.approx((before.nll_map, before.nll_latent), rel=1e-5)
    assert math.isnan(d.nll_walk)


def test_diagnostics_put_the_modes_together(classification, singles, pooled):
    x, y = classification.x_test, classification.y_test
    n, shares = len(pooled.modes), pooled.mode_weights
    d, each = pooled.diagnose((x, y), n_samples=40), [p.diagnose((x, y), n_samples=40) for p in singles[: len(shares)]]

    def weighted(name: str) -> float:
        return sum(share * getattr(one, name) for share, one in zip(shares, each, strict=True))

    for name in ("energy_ratio_walk", "undone", "heat"):
        assert getattr(d, name) == pytest.approx(weighted(name), rel=1e-6)
    # Energies of draws: those of each mode alone have a seed of their own.
    assert d.energy_ratio_latent == pytest.approx(weighted("energy_ratio_latent"), rel=0.2)
    assert d.grad_evals == pytest.approx(sum(one.grad_evals for one in each), abs=n)
    assert d.hvp_evals == sum(one.hvp_evals for one in each)
    assert d.lost == sum(one.lost for one in each)
    assert d.settled == all(one.settled for one in each)
    assert d.r_hat_max == max(one.r_hat_max for one in each)
    assert d.walk_s == pytest.approx(sum(mode.trajectory.seconds for mode in pooled.modes))
    maps = torch.stack([mode.network(mode.network.weights[None], x)[0] for mode in pooled.modes]).softmax(-1)
    pooled_maps = torch.einsum("m,mnc->nc", torch.tensor(shares), maps)
    assert d.nll_map == pytest.approx(float(-pooled_maps[torch.arange(len(y)), y].log().mean()), rel=1e-6)
    walks = [mode.network(mode.trajectory.weights, x).softmax(-1).mean(0) for mode in pooled.modes]
    mean = sum(share * walk for share, walk in zip(shares, walks, strict=True))
    assert d.nll_walk == pytest.approx(float(-mean[torch.arange(len(y)), y].log().mean()), rel=1e-4)
    samples = pooled.predictive_samples(x, 40)
    assert d.nll_latent == pytest.approx(float(-samples.mean(0)[torch.arange(len(y)), y].log().mean()), rel=1e-4)
    assert d.tv_latent == pytest.approx(float(0.5 * (mean - samples.mean(0)).abs().sum(-1).mean()), rel=1e-3)
    spread = sum(
        share * (mode.network(mode.trajectory.weights, x).softmax(-1) - mean).square().mean(0)
        for share, mode in zip(shares, pooled.modes, strict=True)
    ).sqrt()
    assert d.spread_walk == pytest.approx(float(spread.mean()), rel=1e-4)


def test_a_pool_of_one_is_the_posterior_itself(classification, models, singles, quick):
    alone = MetricBNN(models[:1], "classification", seed=SEED, **quick).fit((classification.x, classification.y))
    expected = singles[0].predictive_samples(classification.x, 5)
    assert torch.equal(alone.predictive_samples(classification.x, 5), expected)


def test_the_last_layers_of_several_models_stand_on_their_own_backbones(classification, models, quick):
    x, y = classification.x, classification.y
    posterior = MetricBNN(models[:2], "classification", subset="last_layer", **quick).fit((x, y))
    samples, n = posterior.predictive_samples(x, 10), posterior.network.n_params
    assert n == 8 * 3 + 3
    pool = PooledPosterior(tuple(mode.latent for mode in posterior.modes), posterior.mode_weights)
    for weights, m, found in zip(pool.sample(10, seed=0), pool.modes_of(10), samples, strict=True):
        whole = make_mlp(2, 8, 3)
        whole.load_state_dict(models[m].state_dict())
        nn.utils.vector_to_parameters(weights, whole[2].parameters())
        torch.testing.assert_close(found, whole(x).softmax(-1).detach())
    torch.testing.assert_close(posterior(x, 10), samples.mean(0))


def test_noise_is_fitted_to_the_residuals_of_all_models(regression, quick):
    other = fit_map(make_mlp(1, 8, 1, seed=3), regression.x, regression.y, regression.likelihood).model
    models = [regression.map_fit.model, other]
    posterior = MetricBNN(models, "regression", **quick).fit((regression.x, regression.y))
    with torch.no_grad():
        residuals = torch.cat([model(regression.x) - regression.y for model in models])
    assert posterior.likelihood.noise_std == pytest.approx(float(residuals.square().mean().sqrt()), rel=1e-5)
    mean, variance = posterior(regression.x, 20)
    samples = posterior.predictive_samples(regression.x, 20)
    torch.testing.assert_close(mean, samples.mean(0), rtol=1e-4, atol=1e-5)
    expected = samples.var(0, correction=0) + posterior.likelihood.noise_std**2
    torch.testing.assert_close(variance, expected, rtol=1e-4, atol=1e-5)


def test_memory_grows_with_the_modes(models, quick):
    one, two = (MetricBNN(models[:n], "classification", **quick).memory_estimate() for n in (1, 2))
    assert one < two < 2 * one


# Arguments.


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf), ()]
)
def test_weights_that_do_not_fit_the_models_are_refused(models, weights):
    with pytest.raises(ValueError, match="mode_weights must be 2 positive numbers, one for each model"):
        MetricBNN(models[:2], "classification", mode_weights=weights)


def test_weights_are_shares():
    assert shares_of_modes((1, 3), 2) == (0.25, 0.75)
    assert shares_of_modes(None, 4) == (0.25,) * 4


@pytest.mark.parametrize(
    "other", [make_mlp(2, 9, 3), nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)), make_mlp(2, 8, 8, 3)]
)
def test_a_model_of_another_architecture_is_refused(models, other):
    with pytest.raises(ValueError, match="model 2 is of another architecture than the first"):
        MetricBNN([models[0], other], "classification")


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="there is no model: give one"):
        MetricBNN([], "classification")


def test_a_fit_of_which_one_mode_fails_leaves_the_posterior_as_it_was(classification, pooled, models, monkeypatch):
    from fiberbnn import posterior as posterior_module

    whole, before = posterior_module.fit_mode, pooled.predictive_samples(classification.x, 3)

    def fail_second(energy, settings, **options):
        if torch.equal(energy.network.weights, pooled.modes[1].network.weights):
            raise RuntimeError("out of luck")
        return whole(energy, replace(settings, seed=99), **options)

    monkeypatch.setattr(posterior_module, "fit_mode", fail_second)
    with pytest.raises(RuntimeError, match="out of luck"):
        pooled.fit((classification.x, classification.y))
    assert torch.equal(pooled.predictive_samples(classification.x, 3), before)

"""Draws of a posterior: the same however they are divided, seeded by whom it pleases, on any float type."""

import copy

import pytest
import torch
from torch import nn

from fiberbnn import Categorical, MetricBNN, latent
from tests.fiberbnn.conftest import TOO_SHORT

pytestmark = TOO_SHORT


@pytest.fixture(scope="module")
def fitted(problem, quick, make) -> MetricBNN:
    return make(problem, quick, seed=4).fit((problem.x, problem.y))


# However divided.


@pytest.mark.parametrize("weights_at_once", [1, 3, 1000])
@pytest.mark.parametrize("sample0", [0, 5])
def test_pieces_put_together_are_the_samples(fitted, monkeypatch, weights_at_once, sample0):
    posterior, n_params = fitted.latent_posterior, fitted.network.n_params
    monkeypatch.setattr(latent, "CHUNK_BYTES", weights_at_once * 4 * n_params)
    pieces = list(posterior.pieces(11, seed=2, sample0=sample0))
    assert len(pieces) == -(-11 // weights_at_once)
    assert max(map(len, pieces)) <= weights_at_once
    whole = posterior.sample(11, seed=2, sample0=sample0)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-4, atol=1e-4)


def test_predictions_do_not_depend_on_how_many_weights_are_decoded_at_once(problem, fitted, monkeypatch):
    whole = fitted.predict(problem.x, 11)
    monkeypatch.setattr(latent, "CHUNK_BYTES", 8 * fitted.network.n_params)
    pieces = fitted.predict(problem.x, 11)
    names = ("probs", "mutual_information") if problem.kind == "classification" else ("mean", "variance", "epistemic")
    for name in names:
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 2**62 + 3, 2**63 - 1])
def test_the_average_is_over_the_samples_of_any_seed(problem, fitted, seed):
    other = copy.copy(fitted)
    other.seed = seed
    samples = other.predictive_samples(problem.x, 6)
    found = other(problem.x, 6)
    mean = found if problem.kind == "classification" else found[0]
    torch.testing.assert_close(mean, samples.mean(0), rtol=1e-4, atol=1e-5)


# By whom seeded.


def test_a_generator_gives_the_draws_and_moves_on(fitted):
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first, second = fitted.sample(5, generator=generator), fitted.sample(5, generator=generator)
    assert torch.equal(fitted.sample(5, generator=same), first)
    assert torch.equal(fitted.sample(5, generator=same), second)
    assert not torch.equal(first, second)
    # Fewer draws of the same generator are the first of them.
    few = fitted.sample(2, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(few, first[:2], rtol=1e-4, atol=1e-4)


def test_a_generator_leaves_torchs_own_alone_and_predictions_leave_both(problem, fitted):
    before = torch.get_rng_state()
    fitted.sample(3, generator=torch.Generator().manual_seed(3))
    fitted.predict(problem.x, 3)
    fitted.diagnose((problem.x, problem.y), n_samples=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_temperature_stretches_the_draws_about_one_centre(fitted):
    def latents(temperature: float) -> torch.Tensor:
        other = fitted.at_temperature(temperature)
        return other.latent_posterior.density.sample(9, seed=1)

    mean = fitted.latent_posterior.density.mean
    torch.testing.assert_close(latents(4.0) - mean, 2 * (latents(1.0) - mean), rtol=1e-4, atol=1e-5)
    assert fitted.temperature == 1.0
    cold = fitted.at_temperature(1e-12).sample(5)
    assert (cold - cold[0]).abs().max() < 1e-3


# Float types.


def test_a_model_in_bfloat16_is_a_posterior_in_float32_from_end_to_end(classification, quick, tmp_path):
    model = copy.deepcopy(classification.map_fit.model).bfloat16()
    x, y = classification.x, classification.y
    half = MetricBNN(model, "classification", **quick).fit((x.bfloat16(), y))
    assert half.trajectory.weights.dtype == half.sample(2).dtype == torch.float32
    # The same as with the rounded weights and inputs in float32 from the start.
    rounded = copy.deepcopy(model).float()
    full = MetricBNN(rounded, "classification", **quick).fit((x.bfloat16().float(), y))
    torch.testing.assert_close(half.predictive_samples(x, 5), full.predictive_samples(x, 5))
    assert half.predict(x.bfloat16(), 5).probs.dtype == torch.float32
    d = half.diagnose((classification.x_test.bfloat16(), classification.y_test), n_samples=20)
    assert d.nll_latent == pytest.approx(d.nll_walk, abs=0.5)
    assert half.tune((x.bfloat16(), y), temperatures=(0.5,)).best.nll < 2.0
    half.save(tmp_path / "p.safetensors")
    for other in (copy.deepcopy(model), rounded):
        loaded = MetricBNN.load(tmp_path / "p.safetensors", nn.Sequential(*other))
        assert torch.equal(loaded.predictive_samples(x, 5), half.predictive_samples(x, 5))
    assert next(model.parameters()).dtype == torch.bfloat16


def test_half_precision_is_raised_too(classification, quick):
    model = copy.deepcopy(classification.map_fit.model).half()
    posterior = MetricBNN(model, Categorical(), **quick).fit((classification.x.half(), classification.y))
    assert posterior(classification.x.half(), 5).dtype == torch.float32

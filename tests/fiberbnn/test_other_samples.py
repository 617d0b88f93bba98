"""Latent posteriors over weights that no walk of ours made: an ensemble's, or those that SGD passed through."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from fiberbnn import AutoencoderSettings, Categorical, Energy, LatentPosterior, LatentSettings, MinibatchEnergy, Network
from fiberbnn.data import ExamplesInMemory
from fiberbnn.likelihood import Likelihood
from fiberbnn.predictive import averaged, predictive_nll
from tests.fiberbnn.conftest import make_mlp
from tests.fiberbnn.zoo import conv_group_norm, images

SETTINGS = LatentSettings(autoencoder=AutoencoderSettings(steps=60, max_steps=60))


def sgd_iterates(model: nn.Module, x, y, likelihood: Likelihood, n: int = 40) -> torch.Tensor:
    """Weights that SGD at a constant rate passes through, as SWAG gathers them, [n, P]."""
    model, generator, kept = copy.deepcopy(model), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    for t in range(5 * n):
        index = torch.randint(len(y), (16,), generator=generator)
        loss = likelihood.nll(model(x[index]), y[index]) / len(index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if t % 5 == 4:
            kept.append(parameters_to_vector(model.parameters()).detach().clone())
    return torch.stack(kept)


def test_weights_that_sgd_passed_through(problem):
    iterates = sgd_iterates(problem.map_fit.model, problem.x, problem.y, problem.likelihood)
    energy = problem.energy()
    posterior = LatentPosterior.fit(iterates, energy, settings=SETTINGS)
    samples = posterior.sample(200, seed=1)
    assert samples.isfinite().all()
    # Decoded samples predict as well as the iterates do, and vary as they do.
    x, y, network = problem.x_test, problem.y_test, energy.network
    nll, expected = (predictive_nll(problem.likelihood, network(w, x), y)[0] for w in (samples, iterates))
    assert nll == pytest.approx(expected, abs=0.05)
    spreads = [problem.likelihood.predictions(network(w, x)).std(0).mean() for w in (samples, iterates)]
    assert float(spreads[0] / spreads[1]) == pytest.approx(1.0, abs=0.35)
    found = averaged(network, problem.likelihood, posterior.pieces(50, seed=1), x)
    mean = found.probs if problem.kind == "classification" else found.mean
    expected_mean = problem.likelihood.predictions(network(posterior.sample(50, seed=1), x)).mean(0)
    torch.testing.assert_close(mean, expected_mean, rtol=1e-4, atol=1e-4)


def test_members_of_an_ensemble(classification):
    # Far apart: what lies between them is no good, and calibration keeps the draws near the members.
    x, y = classification.x, classification.y
    members = torch.stack(
        [parameters_to_vector(make_mlp(2, 8, 3, seed=seed).parameters()).detach() for seed in range(6)]
    )
    energy = Energy(Network(make_mlp(2, 8, 3)), Categorical(), x, y)
    settings = LatentSettings(autoencoder=AutoencoderSettings(latent_size=5, steps=0))
    posterior = LatentPosterior.fit(members, energy, settings=settings)
    torch.testing.assert_close(posterior.decode(posterior.encode(members)), members, rtol=1e-3, atol=1e-3)
    samples = posterior.sample(100, seed=0)
    nearest = torch.cdist(samples, members).min(dim=1).values
    assert nearest.median() < 0.35 * torch.pdist(members).median()
    assert torch.cdist(samples, members).argmin(dim=1).unique().numel() == 6


def test_a_convolutional_nets_samples_and_minibatches():
    x, y = images(torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = conv_group_norm()
    iterates = sgd_iterates(model, x, y, Categorical(), n=15)
    energy = MinibatchEnergy(Network(model), Categorical(), ExamplesInMemory(x, y), batch_size=8)
    settings = LatentSettings(autoencoder=AutoencoderSettings(steps=5, max_steps=5, batch_points=4, batch_inputs=8))
    posterior = LatentPosterior.fit(iterates, energy, settings=settings)
    outputs = energy.network(posterior.sample(20, seed=0), x)
    nll, expected = (predictive_nll(Categorical(), o, y)[0] for o in (outputs, energy.network(iterates, x)))
    assert nll == pytest.approx(expected, abs=0.15)


def test_a_subset_and_its_features(classification):
    network = Network(classification.map_fit.model, subset="last_layer")
    energy = Energy(network, Categorical(), classification.x, classification.y)
    noise = torch.randn(20, network.n_params, generator=torch.Generator().manual_seed(0))
    posterior = LatentPosterior.fit(network.weights + 0.1 * noise, energy, settings=SETTINGS)
    assert posterior.sample(3, seed=0).shape == (3, 8 * 3 + 3)


def test_a_scale_weighs_the_directions(classification):
    # Of two directions of the same length, the one in which the scale is short counts as the larger.
    energy, weights = classification.energy(), classification.map_fit.weights.repeat(40, 1)
    generator = torch.Generator().manual_seed(0)
    weights[:, :2] += torch.randn(40, 2, generator=generator)
    scale = torch.ones(weights.shape[1])
    scale[1] = 0.1
    settings = LatentSettings(rank=1, calibrate=False, autoencoder=AutoencoderSettings(steps=0))
    directions = [
        LatentPosterior.fit(weights, energy, scale=s, settings=settings).basis.directions[:, 0].abs()
        for s in (scale, scale.flip(0).roll(2))
    ]
    assert directions[0][1] > directions[0][0]
    with pytest.raises(ValueError, match="scale must be positive and finite"):
        LatentPosterior.fit(weights, energy, scale=-scale, settings=settings)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w[:1], "at least two samples"),
        (lambda w: w[:1].repeat(9, 1), "all samples are the same weights"),
        (lambda w: w * float("nan"), "weight samples hold NaN or infinite values"),
        (lambda w: w[:, 1:], r"weights must be \[S, 51\]"),
        (lambda w: w[0], r"weights must be \[S, 51\]"),
    ],
)
def test_samples_that_cannot_be_fitted_are_refused(classification, spoil, message):
    weights = classification.map_fit.weights + torch.linspace(0, 1, 5)[:, None]
    with pytest.raises(ValueError, match=message):
        LatentPosterior.fit(spoil(weights), classification.energy())

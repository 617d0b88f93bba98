"""One seed, one result, however particles, samples and inputs are divided."""

import itertools

import pytest
import torch
from torch import nn

from fiberbnn import AutoencoderSettings, Categorical, Energy, LatentPosterior, LatentSettings, Network, WalkSettings
from fiberbnn import latent as latents
from fiberbnn.data import ExamplesInMemory
from fiberbnn.minibatch import MinibatchEnergy
from fiberbnn.predictive import averaged, outputs_of
from fiberbnn.walk import build

K, N = 7, 24


def network(kind: str, dtype: torch.dtype = torch.float64, **options) -> Network:
    """A perceptron, or convolutions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "perceptron":
            return Network(nn.Sequential(nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype), **options)
        inner = [nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.SiLU(), nn.Flatten()]
        return Network(nn.Sequential(*inner, nn.Linear(8, 3)).to(dtype), **options)


def data(dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 16, generator=generator).to(dtype), torch.arange(N) % 3


def energy_of(net: Network, batch_size: int | None = None):
    x, y = data(net.weights.dtype)
    if batch_size is None:
        return Energy(net, Categorical(), x, y)
    energy = MinibatchEnergy(net, Categorical(), ExamplesInMemory(x, y), batch_size=batch_size)
    return energy.anchored(net.weights)


@pytest.mark.parametrize("kind", ["perceptron", "convolutions"])
@pytest.mark.parametrize(
    ("settings", "batch_size"),
    [
        (WalkSettings(), None),
        (WalkSettings(), 6),
        (WalkSettings(energy_error_limit=0.02), None),  # steps that are undone
        (WalkSettings(metropolis=True), None),
        (WalkSettings(drift="literal", drift_length=0.1, perturbation=0.1, refine_noise=1.0, refine_steps=2), None),
    ],
)
@pytest.mark.parametrize("edges", [(0, 3, 7), (0, 1, 2, 7), tuple(range(8))])
def test_particles_in_chunks_walk_as_all_at_once(kind, settings, batch_size, edges):
    def walk(first: int, last: int):
        net = network(kind)
        options = {"scale": torch.full((net.n_params,), 0.3, dtype=torch.float64), "step_size": 0.4, "seed": 9}
        walk = build(
            energy_of(net, batch_size), n_particles=last - first, particle0=first, settings=settings, **options
        )
        state, moved = walk.init(net.weights), []
        for _ in range(30):
            state, info = walk.step(state)
            moved.append(info.moved)
        return *state[:4], state.added_friction, torch.stack(moved, 1)

    whole = walk(0, K)
    parts = [walk(first, last) for first, last in itertools.pairwise(edges)]
    for name, *pieces in zip(("particles", "velocity", "energy", "grad", "friction", "moved"), *parts, strict=True):
        one = whole[("particles", "velocity", "energy", "grad", "friction", "moved").index(name)]
        torch.testing.assert_close(torch.cat(pieces), one, rtol=1e-9, atol=1e-10)
    if (
        batch_size is None
        and settings.drift == "persistent"
        and (settings.metropolis or settings.energy_error_limit < 1)
    ):
        assert not whole[-1].all()
    if batch_size is not None:
        assert whole[-2].abs().min() > 0  # the thermostat was at work


@pytest.fixture(scope="module")
def posterior() -> LatentPosterior:
    net = network("convolutions")
    noise = torch.randn(20, net.n_params, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    settings = LatentSettings(autoencoder=AutoencoderSettings(steps=10, max_steps=10))
    return LatentPosterior.fit(net.weights + 0.1 * noise, energy_of(net), settings=settings)


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [7, 11, 12]])
def test_samples_in_pieces_are_those_drawn_at_once(posterior, sizes):
    whole, parts, at = posterior.sample(30, seed=4), [], 0
    for size in sizes:
        parts.append(posterior.sample(size, seed=4, sample0=at))
        at += size
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples_at_once", [1, 4, 100])
def test_pieces_make_up_the_samples(posterior, monkeypatch, samples_at_once):
    monkeypatch.setattr(latents, "CHUNK_BYTES", samples_at_once * posterior.basis.offset.numel() * 8)
    pieces = list(posterior.pieces(10, seed=4, sample0=3))
    assert len(pieces) == -(-10 // samples_at_once)
    assert max(map(len, pieces)) <= samples_at_once
    torch.testing.assert_close(torch.cat(pieces), posterior.sample(13, seed=4)[3:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["perceptron", "convolutions"])
@pytest.mark.parametrize("size", [1, 5, N])
def test_predictions_do_not_depend_on_the_batch_they_are_made_in(kind, size):
    net, (x, _) = network(kind), data()
    weights = net.weights + 0.1 * torch.randn(6, net.n_params, generator=torch.Generator().manual_seed(3)).double()
    outputs = torch.cat([outputs_of(net, weights, part) for part in x.split(size)], dim=1)
    torch.testing.assert_close(outputs, outputs_of(net, weights, x), rtol=1e-12, atol=1e-12)
    probs = torch.cat([averaged(net, Categorical(), iter(weights.split(2)), part).probs for part in x.split(size)])
    torch.testing.assert_close(probs, outputs_of(net, weights, x).softmax(-1).mean(0).to(probs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_particles_that_run_together_give_what_the_loop_gives(dtype, at_once):
    within = {"rtol": 1e-11, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    loop = network("convolutions", dtype, vectorize=False)
    together = network("convolutions", dtype, vectorize=True, particles_at_once=at_once)
    noise = torch.randn(K, loop.n_params, generator=torch.Generator().manual_seed(3)).to(dtype)
    weights = loop.weights + 0.1 * noise
    for batch_size in (None, 6):
        found, expected = (energy_of(net, batch_size).at(3) for net in (together, loop))
        for a, b in zip(found.value_and_grad(weights), expected.value_and_grad(weights), strict=True):
            torch.testing.assert_close(a, b, **within)
        torch.testing.assert_close(found(weights), expected(weights), **within)


def test_energies_are_the_same_however_many_weights_are_held(monkeypatch):
    net = network("convolutions")
    weights = net.weights + torch.linspace(0, 0.3, K)[:, None].double()
    whole = energy_of(net)(weights)
    monkeypatch.setattr("fiberbnn.energy.WEIGHT_BYTES_AT_ONCE", 1)
    assert torch.equal(energy_of(net)(weights), whole)

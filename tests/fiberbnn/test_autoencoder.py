"""The autoencoder: where it starts, what each loss does, and that a seed fixes it."""

import pytest
import torch

from fiberbnn import AutoencoderSettings, Basis, Energy, Gaussian, walk_from
from fiberbnn.autoencoder import Autoencoder, BentLinear, fit_autoencoder


@pytest.fixture(scope="module")
def walked(regression):
    """A walk, its basis and coefficients."""
    trajectory = walk_from(regression.energy(), regression.map_fit.weights, n_particles=20)
    basis = Basis.fit(trajectory.weights, trajectory.scale)
    return trajectory, basis, basis.encode(trajectory.weights)


def of_steps(steps: int, **settings) -> AutoencoderSettings:
    """Settings for so many steps, whatever the losses; the rate falls in the second half."""
    defaults = {"latent_size": 6, "jitter": 0.0, "max_steps": steps, "decay_steps": steps // 2}
    return AutoencoderSettings(steps=steps, **(defaults | settings))


def fit(regression, walked, steps=60, seed=1, **settings):
    _, basis, coefficients = walked
    chosen = of_steps(steps, **settings)
    return fit_autoencoder(basis, coefficients, regression.energy(), settings=chosen, seed=seed)


def reconstruction_kl(regression, walked, model) -> float:
    """Mean divergence of the predictive of decoded walk points from that of the points, nats an input."""
    _, basis, coefficients = walked
    network = regression.energy().network
    decoded = basis.decode(model.decode(model.encode(coefficients)))
    outputs, other = network(basis.decode(coefficients), regression.x), network(decoded, regression.x)
    return float(regression.likelihood.kl(outputs, other).mean())


@pytest.mark.parametrize(("n_in", "n_out"), [(5, 3), (3, 5), (4, 4)])
def test_a_bent_linear_map_starts_as_a_truncated_identity(n_in, n_out):
    x = torch.randn(7, n_in)
    y = BentLinear(n_in, n_out, 8)(x)
    width = min(n_in, n_out)
    assert torch.equal(y[:, :width], x[:, :width])
    assert (y[:, width:] == 0).all()


def test_without_training_it_is_the_truncated_decomposition(regression, walked):
    _, basis, coefficients = walked
    model, losses = fit(regression, walked, steps=0)
    assert losses == []
    latents = model.encode(coefficients)
    torch.testing.assert_close(latents, coefficients[:, :6] / basis.deviations[0])
    torch.testing.assert_close(latents[:, 0].std(), torch.tensor(1.0), rtol=0.01, atol=0)
    decoded = model.decode(latents)
    torch.testing.assert_close(decoded[:, :6], coefficients[:, :6])
    assert (decoded[:, 6:] == 0).all()


def test_without_truncation_it_starts_with_no_loss(regression, walked):
    _, losses = fit(regression, walked, latent_size=1000, steps=1)
    assert losses[0]["reconstruction"] < 1e-8
    assert losses[0]["function"] < 1e-3
    assert losses[0]["metric"] < 1e-8


def test_latents_are_no_more_than_there_are_coefficients():
    model = Autoencoder(torch.tensor([2.0, 1.0, 0.5]), 10, 4)
    assert model.latent_size == 3
    assert model.encode(torch.ones(2, 3)).shape == (2, 3)


def test_the_function_space_loss_brings_the_predictive_closer(regression, walked):
    linear, _ = fit(regression, walked, steps=0)
    without, _ = fit(regression, walked, function=0.0)
    with_it, _ = fit(regression, walked)
    kl = [reconstruction_kl(regression, walked, model) for model in (linear, without, with_it)]
    assert kl[2] < 0.3 * min(kl[:2])


def test_the_reconstruction_loss_bends_the_decoder_to_a_curve(regression):
    # Weights along a parabola: one latent is enough, if the decoder bends.
    energy, along = regression.energy(), torch.linspace(-2, 2, 50)
    weights = regression.map_fit.weights.repeat(50, 1)
    weights[:, 0] += along
    weights[:, 1] += along.square()
    basis = Basis.fit(weights, torch.ones(25))
    coefficients = basis.encode(weights)
    distance, losses = {}, {}
    for steps in (0, 500):
        settings = of_steps(steps, latent_size=1, learning_rate=1e-2, function=0.0, metric=0.0, batch_points=50)
        model, losses[steps] = fit_autoencoder(basis, coefficients, energy, settings=settings)
        distance[steps] = float((model.decode(model.encode(coefficients)) - coefficients).square().mean())
    assert distance[500] < 0.5 * distance[0]  # no line is closer than the first
    # The loss is 1/2 |c - c^|^2 / r, a mean over a batch.
    assert losses[500][0]["reconstruction"] == pytest.approx(0.5 * distance[0], rel=0.3)


def test_the_metric_loss_keeps_distances(regression, walked):
    def error(model):
        coefficients = walked[2]
        chords = torch.pdist(coefficients / model.unit)
        return float(((torch.pdist(model.encode(coefficients)) - chords) / chords.mean()).square().mean())

    linear, _ = fit(regression, walked, steps=0)
    trained, losses = fit(regression, walked, reconstruction=0.0, function=0.0)
    assert error(trained) < 0.5 * error(linear)
    assert losses[0]["metric"] == pytest.approx(error(linear), rel=0.5)


def test_a_loss_of_weight_zero_is_not_computed(regression, walked):
    _, losses = fit(regression, walked, steps=1, function=0.0, metric=0.0)
    assert set(losses[0]) == {"reconstruction"}
    with pytest.raises(ValueError, match="must be positive"):
        of_steps(1, reconstruction=0.0, function=0.0, metric=0.0)


def test_without_the_function_space_loss_training_ends_by_the_reconstruction(regression, walked):
    chosen = {"steps": 60, "max_steps": 300, "decay_steps": 20, "function": 0.0}
    _, losses = fit(regression, walked, settled_share=0.1, **chosen)  # it has hardly ever fallen to a tenth
    assert len(losses) == 220


def test_the_function_space_loss_is_a_sum_over_the_data(regression, walked):
    # One input, once and ten times: the same batches, ten times the nats.
    _, basis, coefficients = walked
    network, x, y = regression.energy().network, regression.x[:1], regression.y[:1]
    once, ten = (
        fit_autoencoder(basis, coefficients, energy, settings=of_steps(1), seed=1)[1][0]["function"]
        for energy in (Energy(network, Gaussian(0.3), x.repeat(n, 1), y.repeat(n, 1)) for n in (1, 10))
    )
    assert ten == pytest.approx(10 * once, rel=1e-4)


def test_jitter_teaches_the_decoder_what_lies_between(regression, walked):
    _, losses = fit(regression, walked, latent_size=1000, steps=1, jitter=0.2)
    assert losses[0]["reconstruction"] > 1e-4


def test_losses_fall(regression, walked):
    _, losses = fit(regression, walked)
    assert len(losses) == 60
    first, last = (sum(entry["function"] for entry in part) for part in (losses[:10], losses[-10:]))
    assert last < 0.5 * first


@pytest.mark.parametrize("settled_share", [0.5, 0.95])
def test_training_ends_when_the_function_loss_has_stopped_falling(regression, walked, settled_share):
    _, losses = fit(regression, walked, steps=150, max_steps=500, decay_steps=40, settled_share=settled_share)
    function = torch.tensor([entry["function"] for entry in losses])
    # Looked at every 20 steps, once there are two windows of 100: the first time that the later one is not much lower.
    times = range(200, 500, 20)
    before, recent = ([float(function[t - lag : t - lag + 100].mean()) for t in times] for lag in (200, 100))
    settled = (t for t, b, r in zip(times, before, recent, strict=True) if r > settled_share * b)
    assert len(losses) == min(500, next(settled, 500) + 40)


def test_without_that_rule_training_takes_the_fewest_steps(regression, walked):
    _, losses = fit(regression, walked, steps=30, max_steps=500, decay_steps=10, settled_share=0.0)
    assert len(losses) == 30


def test_the_rate_falls_to_nothing_at_the_end(regression, walked):
    # The last step of two fits that differ in it alone: it hardly moves anything.
    long, short = (fit(regression, walked, steps=40, max_steps=n, decay_steps=39)[0] for n in (40, 41))
    distances = [(a - b).abs().max() for a, b in zip(long.parameters(), short.parameters(), strict=True)]
    assert max(distances) < 2e-3
    first, _ = fit(regression, walked, steps=1, decay_steps=0)
    start, _ = fit(regression, walked, steps=0)
    # Adam's first step is as long as the rate.
    change = (first.encoder.linear - start.encoder.linear).abs().max()
    assert float(change) == pytest.approx(2e-3, rel=0.01)


def test_one_seed_gives_one_autoencoder_and_leaves_torchs_generator_alone(regression, walked):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        state = torch.get_rng_state()
        first, _ = fit(regression, walked, steps=5)
        assert torch.equal(torch.get_rng_state(), state)
    again, _ = fit(regression, walked, steps=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    other, _ = fit(regression, walked, steps=5, seed=2)
    assert not torch.equal(first.encoder.linear, other.encoder.linear)


def test_a_trained_autoencoder_carries_no_graph(regression, walked):
    model, _ = fit(regression, walked, steps=2)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_batch_that_holds_one_point_only_does_no_harm(regression, walked):
    # Two walk points, drawn twice with replacement: half of the batches have no distance.
    trajectory, _, _ = walked
    few = trajectory.weights[:2]
    basis = Basis.fit(few, trajectory.scale)
    model, losses = fit(regression, (trajectory, basis, basis.encode(few)), batch_points=2, steps=10)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(value == value for entry in losses for value in entry.values())


def test_training_that_diverges_says_so(regression, walked):
    with pytest.raises(FloatingPointError, match="autoencoder diverged: lower its learning_rate"):
        fit(regression, walked, learning_rate=1e30, steps=5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent_size": 0},
        {"hidden": 0},
        {"steps": -1},
        {"batch_points": 1},
        {"batch_inputs": 0},
        {"learning_rate": 0.0},
        {"function": -1.0},
        {"jitter": -0.1},
        {"max_steps": 199},
        {"decay_steps": -1},
        {"settled_share": 1.1},
        {"distances": "angles"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    words = {"function": "weights of the losses"}
    with pytest.raises(ValueError, match=words.get(next(iter(wrong)), next(iter(wrong)))):
        AutoencoderSettings(**wrong)

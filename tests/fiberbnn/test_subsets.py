"""Posteriors over some of the weights: the others stay, and the last layer's features are computed once."""

import copy

import pytest
import torch
from torch import nn

from fiberbnn import Categorical, MetricBNN, fit_map
from tests.fiberbnn.conftest import TOO_SHORT
from tests.fiberbnn.zoo import conv_batch_norm, frozen_first, images, points

pytestmark = TOO_SHORT

X, Y = images(torch.Generator().manual_seed(0))


def seeded(build) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return fit_map(seeded(conv_batch_norm).double(), X, Y, Categorical(), max_steps=30, warmup_steps=50).model


def fitted(model, quick, subset, **options) -> MetricBNN:
    return MetricBNN(model, "classification", subset=subset, **(quick | options)).fit((X, Y))


def last(name: str, parameter: nn.Parameter) -> bool:
    return name.startswith("5.")


def test_the_last_layer_by_name_and_by_predicate_have_the_same_draws(model, quick):
    by_name, by_predicate = (fitted(model, quick, subset) for subset in ("last_layer", last))
    assert by_name.network.shapes == by_predicate.network.shapes
    assert by_name.network.n_params == 36 * 3 + 3
    torch.testing.assert_close(by_name.trajectory.weights, by_predicate.trajectory.weights, rtol=1e-6, atol=1e-6)
    draws = [p.sample(6, generator=torch.Generator().manual_seed(1)) for p in (by_name, by_predicate)]
    torch.testing.assert_close(draws[0], draws[1], rtol=1e-4, atol=1e-4)
    samples = [p.predictive_samples(X, 6) for p in (by_name, by_predicate)]
    torch.testing.assert_close(samples[0], samples[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("subset", ["last_layer", last, lambda name, p: name in ("0.weight", "5.bias")])
def test_only_the_chosen_weights_move(model, quick, subset):
    posterior = fitted(model, quick, subset)
    before = model.state_dict()
    chosen = [name for name, p in model.named_parameters() if (last if subset == "last_layer" else subset)(name, p)]
    for weights, found in zip(
        posterior.latent_posterior.sample(3, seed=0), posterior.predictive_samples(X, 3), strict=True
    ):
        module = posterior.network.module(weights)
        after = module.state_dict()
        assert [name for name in before if not torch.equal(before[name], after[name])] == chosen
        torch.testing.assert_close(found, module(X.double()).softmax(-1).detach(), rtol=1e-5, atol=1e-6)
        expected = torch.cat([after[name].flatten() for name in chosen])
        assert torch.equal(weights, expected)


def test_what_is_frozen_does_not_move(quick):
    x, y = points(torch.Generator().manual_seed(0))
    model = seeded(frozen_first)
    posterior = MetricBNN(model, "classification", **quick).fit((x, y))
    assert list(posterior.network.shapes) == ["2.weight", "2.bias", "4.weight", "4.bias"]
    moved = posterior.network.module(posterior.sample(1)[0])
    assert torch.equal(moved[0].weight, model[0].weight)
    assert not torch.equal(moved[2].weight, model[2].weight)


def rows_through_the_backbone(model: nn.Module) -> tuple[nn.Module, list[int]]:
    """A copy of the model whose first layer notes how many rows it sees; the library's own copies note them too."""
    watched, rows = copy.deepcopy(model), []
    watched[0].register_forward_hook(lambda module, args, out: rows.append(len(out)))
    return watched, rows


def test_features_of_the_training_data_are_computed_once(model, quick):
    watched, rows = rows_through_the_backbone(model)
    posterior = MetricBNN(watched, "classification", subset="last_layer", **quick)
    posterior.fit((X, Y))
    # The check of the data, the walk and the latent fit run on what is kept.
    assert sum(rows) == len(X)
    rows.clear()
    posterior.predictive_samples(X, 50)
    posterior.predict(X, 50)
    assert 2 * len(X) <= sum(rows) <= 2 * len(X) + 4  # two rows tell the shapes


def test_on_minibatches_features_are_computed_batch_by_batch_for_all_particles(model, quick):
    watched, rows = rows_through_the_backbone(model)
    posterior = MetricBNN(watched, "classification", subset="last_layer", batch_size=8, **quick)
    posterior.fit((X, Y))
    n_steps = len(posterior.trajectory.history)
    # A batch a step, however many particles; before and after them a few passes over the data.
    assert 8 * n_steps <= sum(rows) <= 8 * n_steps + 12 * len(X) + 15 * 64  # and the inputs of the latent fit


def test_saved_and_loaded_the_rest_is_at_the_map(model, quick, tmp_path):
    posterior = fitted(model, quick, "last_layer")
    posterior.save(tmp_path / "p.safetensors")
    other = seeded(lambda: conv_batch_norm().double())
    loaded = MetricBNN.load(tmp_path / "p.safetensors", other, subset="last_layer")
    assert torch.equal(loaded.predictive_samples(X, 5), posterior.predictive_samples(X, 5))
    assert torch.equal(loaded.network.model[0].weight, model[0].weight)


@pytest.mark.parametrize("subset", [None, lambda name, p: name == "5.bias"])
def test_a_file_of_another_subset_is_refused(model, quick, tmp_path, subset):
    fitted(model, quick, "last_layer").save(tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match="another architecture"):
        MetricBNN.load(tmp_path / "p.safetensors", model, subset=subset)

"""Batch norm when the weights change: frozen, of the batch at hand, and recomputed over the training data."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from fiberbnn import Network
from fiberbnn.batch_norm import refreshed_statistics, statistics_of
from tests.fiberbnn.zoo import conv_batch_norm, images, mlp

X = images(torch.Generator().manual_seed(0))[0]


def make_model() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return conv_batch_norm()


def draws(network: Network, n: int = 3) -> torch.Tensor:
    noise = torch.randn(n, network.n_params, generator=torch.Generator().manual_seed(4))
    return network.weights + 0.3 * noise.to(network.weights)


def batches() -> list[torch.Tensor]:
    return list(X.split(10))


@pytest.fixture
def network() -> Network:
    return Network(make_model(), batch_norm="refresh")


def test_statistics_of_the_own_weights_are_those_of_update_bn(network):
    statistics = refreshed_statistics(network, network.weights[None], batches)
    reference = make_model().eval()
    reference[1].running_mean.fill_(7.0)  # nothing of the old is left
    update_bn(batches(), reference)
    assert list(statistics) == ["1.running_mean", "1.running_var"]
    assert torch.equal(statistics["1.running_mean"][0], reference[1].running_mean)
    assert torch.equal(statistics["1.running_var"][0], reference[1].running_var)


@torch.no_grad()
def test_predictions_with_statistics_are_those_of_a_copy_that_went_through_update_bn(network):
    weights = draws(network)
    statistics = refreshed_statistics(network, weights, batches)
    outputs = network(weights, X[:5], statistics)
    for w, out in zip(weights, outputs, strict=True):
        model = network.module(w)
        update_bn(batches(), model)
        torch.testing.assert_close(out, model.eval()(X[:5]))
    assert (outputs - Network(make_model())(weights, X[:5])).abs().max() > 1e-3


def test_every_weight_sample_starts_from_scratch(network):
    weights = draws(network)
    together = refreshed_statistics(network, weights, batches)
    alone = refreshed_statistics(network, weights[2:], batches)
    for name, statistic in together.items():
        assert torch.equal(statistic[2], alone[name][0])
        assert not torch.allclose(statistic[0], statistic[1], rtol=1e-2)


@torch.no_grad()
def test_energies_use_the_statistics_of_the_batch(network):
    w = draws(network)[0]
    model = network.module(w).train()
    torch.testing.assert_close(network.apply(w, X), model(X))
    torch.testing.assert_close(network(w[None], X)[0], model(X))
    torch.testing.assert_close(network(w[None], X[:6])[0], model(X[:6]))


def test_gradients_go_through_the_statistics_of_the_batch(network):
    w = draws(network)[0]
    model = network.module(w).train()
    expected = torch.autograd.grad(model(X).square().sum(), list(model.parameters()))
    gradients = network.value_and_grad(w[None], X, lambda out: out.square().sum())[1]
    expected = torch.cat([g.reshape(-1) for g in expected])
    torch.testing.assert_close(gradients[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["frozen", "refresh"])
def test_no_buffer_ever_changes(policy):
    model = make_model()
    network = Network(model, batch_norm=policy)
    before = copy.deepcopy(network.model.state_dict())
    weights = draws(network)
    network(weights, X)
    network.value_and_grad(weights, X, torch.sum)
    network(weights, X, refreshed_statistics(network, weights, batches))
    for state in (network.model.state_dict(), model.state_dict()):
        assert all(torch.equal(value, before[name]) for name, value in state.items())


@torch.no_grad()
def test_frozen_statistics_are_those_of_training():
    network = Network(make_model())
    w = draws(network)[0]
    torch.testing.assert_close(network.apply(w, X[:2]), network.apply(w, X)[:2])
    torch.testing.assert_close(network.apply(w, X), network.module(w)(X))


@torch.no_grad()
def test_dropout_stays_off_and_mappings_will_do():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 1))

        def forward(self, left, right):
            return self.body(left + right)

    network = Network(Net().double(), batch_norm="refresh")
    x = {"left": torch.randn(20, 2), "right": torch.randn(20, 2)}
    statistics = refreshed_statistics(network, network.weights[None], lambda: [x])
    hidden = network.model.body[0]((x["left"] + x["right"]).double())
    torch.testing.assert_close(statistics["body.2.running_mean"][0], hidden.mean(0))
    torch.testing.assert_close(statistics["body.2.running_var"][0], hidden.var(0))


@torch.no_grad()
def test_models_of_16_bits_have_their_statistics_in_float32():
    network = Network(make_model().bfloat16(), batch_norm="refresh")
    statistics = refreshed_statistics(network, draws(network), lambda: [X.bfloat16()])
    assert {s.dtype for s in statistics.values()} == {torch.float32}
    assert network(draws(network), network.prepare(X.bfloat16()), statistics).isfinite().all()


def test_layers_without_running_statistics_are_no_reason_to_refresh():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))
    assert statistics_of(model) == {}
    with pytest.raises(ValueError, match="no batch norm with running statistics; leave it out"):
        Network(model, batch_norm="refresh")


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(ValueError, match='batch_norm="refresh", but the model has no batch norm'):
        Network(mlp(), batch_norm="refresh")
    network = Network(mlp())
    with pytest.raises(ValueError, match="no batch norm with running statistics to refresh"):
        refreshed_statistics(network, network.weights[None], batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_norm": "update"}, 'must be "frozen" or "refresh"; got \'update\''),
        ({"batch_norm": "refresh", "subset": "last_layer"}, 'does not go with subset="last_layer"'),
    ],
)
def test_policies_that_cannot_be_followed_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Network(make_model(), **options)


def test_data_that_can_be_read_only_once_are_refused(network):
    once = iter(batches())
    with pytest.raises(ValueError, match="no batches to compute statistics of: `batches` must start anew"):
        refreshed_statistics(network, draws(network), lambda: once)


def test_statistics_of_other_samples_are_refused(network):
    weights = draws(network)
    statistics = refreshed_statistics(network, weights, batches)
    with pytest.raises(ValueError, match="the statistics must be"):
        network(weights[:2], X, statistics)
    with pytest.raises(ValueError, match="the statistics must be"):
        network(weights, X, {"1.running_mean": statistics["1.running_mean"]})

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
    statistics = refreshed_statistics(network, network.weights[None], lambda: [X])
    reference = make_model().eval()
    reference[1].running_mean.fill_(7.0)  # nothing of the old is left
    update_bn([X], reference)
    assert list(statistics) == ["1.running_mean", "1.running_var"]
    assert torch.equal(statistics["1.running_mean"][0], reference[1].running_mean)
    assert torch.equal(statistics["1.running_var"][0], reference[1].running_var)


@pytest.mark.parametrize("sizes", [[10, 10, 10, 10], [19, 19, 2], [2, 38]])
def test_statistics_of_the_first_layer_are_those_of_all_data_however_they_are_divided(network, sizes):
    weights, x = draws(network), X.repeat(2, 1, 1, 1)[:40] + torch.linspace(0, 3, 40)[:, None, None, None]
    at_once = refreshed_statistics(network, weights, lambda: [x])
    divided = refreshed_statistics(network, weights, lambda: x.split(sizes))
    for name, statistic in divided.items():
        torch.testing.assert_close(statistic, at_once[name], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_statistics_are_mean_and_variance_of_all_that_comes_to_a_layer():
    norm = nn.BatchNorm1d(4)  # twice in the network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers = [nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 4), norm, nn.Linear(4, 5), nn.BatchNorm1d(5)]
        x = torch.randn(30, 3) * torch.linspace(0.1, 2.0, 30)[:, None]
    network = Network(nn.Sequential(*layers).double(), batch_norm="refresh")
    parts = x.double().split([14, 13, 3])
    statistics = refreshed_statistics(network, network.weights[None], lambda: parts)
    model, seen = network.module(network.weights).train(), {"1": [], "6": []}
    model[1].register_forward_pre_hook(lambda layer, args: seen["1"].append(args[0]))
    model[6].register_forward_pre_hook(lambda layer, args: seen["6"].append(args[0]))
    for part in parts:
        model(part)
    assert len(seen["1"]) == 2 * len(seen["6"]) == 6
    for prefix, values in seen.items():
        torch.testing.assert_close(statistics[f"{prefix}.running_mean"][0], torch.cat(values).mean(0))
        torch.testing.assert_close(statistics[f"{prefix}.running_var"][0], torch.cat(values).var(0))


def test_a_layer_that_nothing_goes_through_has_the_statistics_of_a_fresh_one():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.BatchNorm1d(2), nn.BatchNorm1d(3)
            self.idle.running_mean.fill_(5.0)

        def forward(self, x):
            return self.used(x)

    network = Network(Unused(), batch_norm="refresh")
    statistics = refreshed_statistics(network, network.weights[None], lambda: [torch.randn(6, 2)])
    assert statistics["idle.running_mean"].tolist() == [[0.0] * 3]
    assert statistics["idle.running_var"].tolist() == [[1.0] * 3]


@pytest.mark.parametrize("make", [make_model, lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(X[0].numel()))])
def test_a_batch_of_a_single_row_is_refused(make):
    network = Network(make(), batch_norm="refresh")
    with pytest.raises(ValueError, match="one of the batches has a single row: use a batch_size of at least 3"):
        refreshed_statistics(network, network.weights[None], lambda: [X[:5], X[5:6]])


@torch.no_grad()
def test_predictions_with_statistics_are_those_of_a_copy_that_went_through_update_bn(network):
    weights = draws(network)
    statistics = refreshed_statistics(network, weights, batches)
    outputs = network(weights, X[:5], statistics)
    for w, out in zip(weights, outputs, strict=True):
        model = network.module(w)
        update_bn([X], model)
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

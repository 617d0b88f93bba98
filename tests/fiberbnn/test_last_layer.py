"""The last layer as a network of its own, and other subsets of the weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters
from torch.nn.utils.parametrizations import weight_norm

from fiberbnn import Network
from fiberbnn.last_layer import BATCH_ROWS
from tests.fiberbnn.zoo import Pooled, Recurrent, conv_batch_norm, frozen_first, images, masked_tokens

X = images(torch.Generator().manual_seed(0))[0]


def seeded(build, *args) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build(*args)


def draws(network: Network, n: int = 3) -> torch.Tensor:
    noise = torch.randn(n, network.n_params, generator=torch.Generator().manual_seed(4))
    return network.weights + 0.3 * noise.to(network.weights)


class Net(nn.Module):
    """A trunk, a layer, and what `end` does with them."""

    def __init__(self, end, layer=None) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
        self.fc = layer or nn.Linear(5, 2)
        self.end = end

    def forward(self, x):
        return self.end(self, self.trunk(x))


PLAIN = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_outputs_are_those_of_the_whole_model_with_its_last_layer_replaced():
    model = seeded(conv_batch_norm)
    network = Network(model, subset="last_layer")
    assert list(network.shapes) == ["5.weight", "5.bias"]
    assert network.mlp_layout.widths == (36, 3)
    weights = draws(network)
    outputs = network(weights, network.prepare(X))
    for w, out in zip(weights, outputs, strict=True):
        whole = copy.deepcopy(model).eval()
        vector_to_parameters(w, whole[5].parameters())
        torch.testing.assert_close(out, whole(X))
        torch.testing.assert_close(network.module(w)(X), whole(X))


@pytest.mark.parametrize(
    ("build", "x", "head"),
    [
        (Pooled, masked_tokens(torch.Generator().manual_seed(0))[0], "out.2"),
        (lambda: Recurrent(nn.LSTM, 3), torch.randn(5, 6, 2), "out"),
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1)), X, "2"),
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.LayerNorm(4)), X, "2"),
        (lambda: nn.Linear(8, 2), X, ""),
        (lambda: Net(lambda net, h: net.fc(h), weight_norm(nn.Linear(5, 2))), PLAIN, "fc"),
    ],
)
@torch.no_grad()
def test_layers_of_any_kind_can_be_the_last(build, x, head):
    model = seeded(build).eval()
    network = Network(model, subset="last_layer")
    assert all(name.startswith(head) for name in network.shapes)
    features = network.prepare(x)
    expected = model(**x) if isinstance(x, dict) else model(x)
    torch.testing.assert_close(network(network.weights[None], features)[0], expected)
    torch.testing.assert_close(network.apply(network.weights, features), expected)


def test_gradients_are_those_of_the_last_layer_in_the_whole():
    model = seeded(conv_batch_norm)
    network = Network(model, subset="last_layer")
    weights = draws(network, 2)
    values, gradients = network.value_and_grad(weights, network.prepare(X), lambda out: out.square().sum())
    whole = copy.deepcopy(model).eval()
    vector_to_parameters(weights[1].clone(), whole[5].parameters())
    value = whole(X).square().sum()
    expected = torch.autograd.grad(value, [whole[5].weight, whole[5].bias])
    torch.testing.assert_close(values[1], value.detach())
    torch.testing.assert_close(gradients[1], torch.cat([g.reshape(-1) for g in expected]))


def test_features_come_in_batches_without_gradients_and_once():
    model, calls = seeded(conv_batch_norm), []
    model[0].register_forward_hook(lambda module, args, out: calls.append(len(out)))
    network = Network(model, subset="last_layer")
    x = X.repeat(BATCH_ROWS // len(X) + 1, 1, 1, 1)
    features = network.prepare(x)
    assert calls == [BATCH_ROWS, len(x) - BATCH_ROWS]
    assert features.shape == (len(x), 36)
    assert not features.requires_grad
    network(draws(network), features)
    network.value_and_grad(draws(network), features, torch.sum)
    assert len(calls) == 2


def test_the_users_hooks_on_the_last_layer_run_once():
    model = seeded(Net, lambda net, h: net.fc(h))
    model.fc.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    model.fc.register_forward_hook(lambda module, args, out: out + 1)
    network = Network(model, subset="last_layer")
    torch.testing.assert_close(network(network.weights[None], network.prepare(PLAIN))[0], model(PLAIN).detach())


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda net, h: net.fc(h).log_softmax(-1), r"last layer \(fc, Linear\) is not the model's output: something"),
        (lambda net, h: net.fc(h).flatten(1)[:, :1], "something follows it; choose its weights by a predicate instead"),
        (lambda net, h: h, "ran 0 times in a pass"),
        (lambda net, h: net.fc(net.fc(h).repeat(1, 3)[:, :5]), "ran 2 times in a pass instead of once"),
        (lambda net, h: net.fc(input=h), "does not take one tensor with a row an example"),
    ],
)
def test_a_last_layer_that_is_not_the_end_is_refused(end, message):
    network = Network(Net(end), subset="last_layer")
    with pytest.raises(ValueError, match=message):
        network.prepare(PLAIN)


def test_no_hook_is_left_behind_by_a_refusal():
    network = Network(Net(lambda net, h: 2 * net.fc(h)), subset="last_layer")
    with pytest.raises(ValueError, match="something follows it"):
        network.prepare(PLAIN)
    assert not network.model.fc._forward_hooks
    assert not network.model.fc._forward_pre_hooks


def test_a_last_layer_that_shares_weights_is_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match=r"\(2, Linear\) shares weights with 0\.weight"):
        Network(model, subset="last_layer")


def test_a_frozen_last_layer_is_refused():
    model = Net(lambda net, h: net.fc(h))
    model.fc.requires_grad_(False)
    with pytest.raises(ValueError, match=r"last layer \(fc, Linear\) has no trainable weights"):
        Network(model, subset="last_layer")


def test_no_inputs_have_no_features():
    with pytest.raises(ValueError, match="no inputs to compute features of"):
        Network(Net(lambda net, h: net.fc(h)), subset="last_layer").prepare(PLAIN[:0])


# Predicates.


def test_a_predicate_chooses_and_the_rest_stays():
    model = seeded(conv_batch_norm)
    network = Network(model, subset=lambda name, p: name.startswith("0."))
    assert list(network.shapes) == ["0.weight", "0.bias"]
    changed = network.module(draws(network)[0])
    before, after = model.state_dict(), changed.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"0.weight", "0.bias"}
    assert all(p.requires_grad for p in changed.parameters())
    assert all(p.requires_grad for p in model.parameters())
    values, gradients = network.value_and_grad(draws(network), X, torch.sum)
    assert gradients.shape == (3, network.n_params)
    assert values.unique().numel() == 3


def test_frozen_parameters_are_never_chosen():
    network = Network(frozen_first(), subset=lambda name, p: name in ("0.weight", "2.bias"))
    assert list(network.shapes) == ["2.bias"]
    assert not network.module(network.weights)[0].weight.requires_grad


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (lambda name, p: name.startswith("fc"), "no parameter matches the subset; there are 2.weight, 2.bias"),
        (lambda name, p: name.startswith("0."), r"none of the chosen parameters is trainable \(0\.weight, 0\.bias\)"),
        ("last", "subset must be None, \"last_layer\" or a predicate.*got 'last'"),
    ],
)
def test_a_subset_of_nothing_is_refused(subset, message):
    with pytest.raises(ValueError, match=message):
        Network(frozen_first(), subset=subset)

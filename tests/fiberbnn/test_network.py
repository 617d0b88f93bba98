"""A module as a function of flat weights, against the module itself with those weights loaded."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fiberbnn import Network
from fiberbnn_kernels import MLPLayout

N, S = 6, 4


class Tied(nn.Module):
    """One matrix, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Recurrent(nn.Module):
    """An LSTM read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.lstm(x[:, :, None])[0][:, -1])


class Attention(nn.Module):
    """One layer of self-attention over the features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        h = self.embed(x[:, :, None])
        return self.out(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Residual(nn.Sequential):
    """A Sequential that is not what its children say."""

    def forward(self, x):
        return x + super().forward(x)


def frozen_first() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    return model


def shared_layer() -> nn.Sequential:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer)


def tied_layers() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def hooked() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    model[1].register_forward_hook(lambda module, args, out: 2 * out)
    return model


def spectral() -> nn.Sequential:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 2))


def conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(8, 2)
    )


def batch_norm() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    model[1].running_mean.copy_(torch.tensor([0.3, -0.2, 0.1, 1.0]))
    return model


PERCEPTRONS = {
    "linear": (lambda: nn.Sequential(nn.Linear(3, 2)), MLPLayout((3, 2))),
    "tanh": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)),
        MLPLayout((3, 5, 4, 2), "tanh"),
    ),
    "relu": (lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)), MLPLayout((3, 5, 1), "relu")),
    "silu": (lambda: nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 2)), MLPLayout((3, 5, 2), "silu")),
    "gelu": (lambda: nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)), MLPLayout((3, 5, 2), "gelu")),
}
OTHERS = {
    "no bias": lambda: nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), nn.Linear(5, 2)),
    "mixed activations": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
    "approximate gelu": lambda: nn.Sequential(nn.Linear(3, 5), nn.GELU("tanh"), nn.Linear(5, 2)),
    "unknown activation": lambda: nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(), nn.Linear(5, 2)),
    "activation last": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh()),
    "dropout": lambda: nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 2)),
    "layer norm": lambda: nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)),
    "batch norm": batch_norm,
    "conv": conv,
    "lstm": Recurrent,
    "attention": Attention,
    "tied": Tied,
    "tied layers": tied_layers,
    "shared layer": shared_layer,
    "first layer frozen": frozen_first,
    "forward hook": hooked,
    "weight norm": spectral,
    "own forward": lambda: Residual(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)),
}
MODELS = {**{name: make for name, (make, _) in PERCEPTRONS.items()}, **OTHERS}


@pytest.fixture(params=MODELS)
def model(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return MODELS[request.param]()


def inputs(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(6), dtype=dtype)


def draws(network: Network) -> torch.Tensor:
    """Weight vectors around the module's own, [S, P]."""
    noise = torch.randn(S, network.n_params, generator=torch.Generator().manual_seed(7))
    return network.weights + 0.3 * noise.to(network.weights)


def loaded(model: nn.Module, weights: torch.Tensor) -> nn.Module:
    """A copy of the module with the trainable weights replaced, torch's way."""
    model = copy.deepcopy(model).eval()
    vector_to_parameters(weights, [p for p in model.parameters() if p.requires_grad])
    return model


def test_weights_are_in_torchs_order(model):
    trainable = [p for p in model.parameters() if p.requires_grad]
    network = Network(model)
    assert torch.equal(network.weights, parameters_to_vector(trainable))
    assert network.n_params == sum(p.numel() for p in trainable)


@torch.no_grad()
def test_outputs_are_those_of_the_module_with_the_weights_loaded(model):
    network = Network(model)
    weights, x = draws(network), inputs()
    expected = torch.stack([loaded(model, w)(x) for w in weights])
    torch.testing.assert_close(network(weights, x), expected)
    torch.testing.assert_close(network.apply_each(weights, x), expected)
    torch.testing.assert_close(network.apply(weights[0], x), expected[0])


@torch.no_grad()
def test_module_carries_the_weights(model):
    network = Network(model)
    weights = draws(network)[0]
    carrier = network.module(weights)
    torch.testing.assert_close(carrier(inputs()), loaded(model, weights)(inputs()))
    assert not carrier.training
    assert torch.equal(network.weights, Network(model).weights)


def test_apply_each_is_differentiable(model):
    network = Network(model)
    weights, x = draws(network).requires_grad_(), inputs()
    (gradient,) = torch.autograd.grad(network.apply_each(weights, x).square().sum(), weights)
    single = weights.detach()[1].requires_grad_()
    (expected,) = torch.autograd.grad(network.apply(single, x).square().sum(), single)
    torch.testing.assert_close(gradient[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PERCEPTRONS)
def test_a_plain_perceptron_is_recognised(name):
    make, layout = PERCEPTRONS[name]
    assert Network(make()).mlp_layout == layout


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_not_taken_for_a_perceptron(name):
    assert Network(OTHERS[name]()).mlp_layout is None


def test_the_users_module_is_never_changed():
    model = batch_norm().train()
    before = copy.deepcopy(model.state_dict())
    network = Network(model)
    network(draws(network), inputs())
    network.apply_each(draws(network), inputs())
    network.module(draws(network)[0])
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_later_changes_of_the_users_module_do_not_matter():
    model = nn.Sequential(nn.Linear(3, 2))
    network = Network(model)
    before = network.apply(network.weights, inputs())
    nn.init.zeros_(model[0].weight)
    assert torch.equal(network.apply(network.weights, inputs()), before)


def test_a_module_in_training_mode_runs_in_evaluation_mode():
    network = Network(OTHERS["dropout"]().train())
    weights = draws(network)
    assert torch.equal(network(weights, inputs()), network(weights, inputs()))


def test_double_weights_give_double_outputs():
    network = Network(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double())
    assert network(draws(network), inputs(torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
def test_models_of_16_bits_are_computed_in_float32(dtype):
    model = batch_norm().to(dtype)
    network = Network(model)
    assert network.weights.dtype == torch.float32
    raised = copy.deepcopy(model).float().eval()
    x = inputs().to(dtype)
    expected = raised(x.float())
    torch.testing.assert_close(network(network.weights[None], network.prepare(x))[0], expected)
    torch.testing.assert_close(network.module(network.weights)(x.float()), expected)
    assert all(p.dtype == dtype for p in model.parameters())


def test_a_mixed_model_of_16_and_32_bits_is_one_vector():
    model = nn.Sequential(nn.Linear(3, 4).bfloat16(), nn.LayerNorm(4), nn.Linear(4, 2).bfloat16())
    assert Network(model).weights.dtype == torch.float32


def test_prepare_moves_floats_to_the_dtype_of_the_weights():
    network = Network(nn.Linear(3, 2).double())
    prepared = network.prepare({"x": torch.ones(2, 3), "ids": torch.tensor([1, 2])})
    assert [tensor.dtype for tensor in prepared.values()] == [torch.float64, torch.int64]


def test_a_perceptron_over_an_extra_axis_runs_without_the_operations_for_rows():
    network = Network(PERCEPTRONS["tanh"][0]())
    x = torch.randn(N, 4, 3, generator=torch.Generator().manual_seed(6))
    assert network.layout_for(x) is None
    assert network.layout_for(x[:, 0]) is network.mlp_layout
    torch.testing.assert_close(network(draws(network), x)[:, :, 2], network(draws(network), x[:, 2]))

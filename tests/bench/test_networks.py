"""The convolutional networks: sizes, smoothness for torch.func, seeds, and the shortcut's known answer."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from benchmark_utils.tasks.networks import ARCHITECTURES, ResidualBlock, make_network

SIZES = {
    "small-tanh-cnn": (1, 28, 1938),
    "lenet": (1, 28, 61_706),
    "resnet20-gn-silu": (3, 32, 269_722),
    "resnet20-bn": (3, 32, 269_722),
}


def inputs(name: str, n: int = 4) -> torch.Tensor:
    channels, side, _ = SIZES[name]
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_has_its_published_number_of_weights_and_one_output_a_class(name: str) -> None:
    channels, _, n_params = SIZES[name]
    model = make_network(name, 10, channels, seed=0)
    assert sum(p.numel() for p in model.parameters()) == n_params
    assert model(inputs(name)).shape == (4, 10)
    assert make_network(name, 7, channels, seed=0)(inputs(name)).shape == (4, 7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_works_in_place(name: str) -> None:
    model = make_network(name, 10, SIZES[name][0], seed=0)
    assert not [module for module in model.modules() if getattr(module, "inplace", False)]
    x = inputs(name)
    before = x.clone()
    model(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_torch_func_runs_many_weight_vectors_at_once(name: str) -> None:
    model = make_network(name, 10, SIZES[name][0], seed=0).eval()
    buffers = dict(model.named_buffers())
    stacked = {key: torch.stack([value, 0.5 * value]) for key, value in model.named_parameters()}
    x = inputs(name)
    both = vmap(lambda weights: functional_call(model, (weights, buffers), (x,)))(stacked)
    assert torch.allclose(both[0], model(x), atol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_come_from_the_seed_and_leave_the_global_random_state_alone(name: str) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    vectors = [
        nn.utils.parameters_to_vector(make_network(name, 10, SIZES[name][0], seed=seed).parameters())
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def test_a_block_whose_second_norm_is_zero_passes_its_shortcut_through() -> None:
    block = ResidualBlock(2, 4, nn.BatchNorm2d, nn.ReLU)
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    found = block(x)
    assert found.shape == (3, 4, 3, 3)
    assert torch.equal(found[:, :2], x[:, :, ::2, ::2].relu())
    assert not found[:, 2:].any()


@pytest.mark.parametrize(("name", "depends"), [("resnet20-gn-silu", False), ("resnet20-bn", True)])
def test_group_norm_treats_each_image_by_itself_and_batch_norm_does_not(name: str, depends: bool) -> None:
    model, x = make_network(name, 10, 3, seed=0).train(), inputs(name)
    with torch.no_grad():
        assert torch.allclose(model(x)[:2], model(x[:2]), atol=1e-4) is not depends


def test_lenet_has_dropout_and_only_in_training() -> None:
    model, x = make_network("lenet", 10, 1, seed=0), inputs("lenet")
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == 2
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="no architecture 'vgg'; there are small-tanh-cnn"):
        make_network("vgg", 10, 3, seed=0)

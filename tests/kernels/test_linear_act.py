"""The per-sample linear layer: the reference, its operator, and what it refuses."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fiberbnn_kernels.linear_act import linear_act, reference

FUNCTIONS = {"none": lambda z: z, "tanh": torch.tanh, "relu": F.relu, "silu": F.silu, "gelu": F.gelu}
# (S, N, I, O): the usual sizes, ragged ones, the smallest.
SIZES = [(5, 48, 14, 50), (3, 371, 17, 13), (1, 9, 1, 1), (4, 1, 7, 3), (1, 1, 1, 1)]


def make_layer(size: tuple[int, ...], dtype: torch.dtype, *, shared: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    n_samples, n_rows, n_in, n_out = size
    generator = torch.Generator().manual_seed(5)
    shapes = ((n_rows, n_in) if shared else (n_samples, n_rows, n_in), (n_samples, n_out, n_in), (n_samples, n_out))
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_matches_nn_linear(size: tuple[int, ...], shared: bool, activation: str) -> None:
    x, weight, bias = make_layer(size, torch.float64, shared=shared)
    out = linear_act(x, weight, bias, activation)
    assert out.shape == (size[0], size[1], size[3])
    assert out.is_contiguous()
    for s in range(size[0]):
        expected = FUNCTIONS[activation](nn.functional.linear(x if shared else x[s], weight[s], bias[s]))
        torch.testing.assert_close(out[s], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_result_does_not_depend_on_the_block(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_layer((7, 33, 5, 6), torch.float64)
    whole = linear_act(*layer, activation)
    for budget in (1, 4000, 8000):
        monkeypatch.setattr(reference, "CPU_BLOCK_BYTES", budget)
        torch.testing.assert_close(linear_act(*layer, activation), whole, rtol=1e-13, atol=1e-13)


def test_layers_of_flat_weights_need_no_copy_of_theirs() -> None:
    x, weight, bias = make_layer((4, 9, 5, 3), torch.float64)
    flat = torch.cat((torch.zeros(4, 2, dtype=torch.float64), weight.flatten(1), bias), dim=1)
    views = flat[:, 2:17].unflatten(1, (3, 5)), flat[:, 17:]
    assert torch.equal(linear_act(x, *views, "tanh"), linear_act(x, weight, bias, "tanh"))


@pytest.mark.parametrize("in_dims", [(0, 0, 0), (1, None, None), (None, 2, 0), (None, None, 1), (0, None, 0)])
@pytest.mark.parametrize("shared", [False, True])
def test_vmap(in_dims: tuple[int | None, ...], shared: bool) -> None:
    size = (3, 6, 4, 5)
    layers = [tuple(t + 0.1 * k for t in make_layer(size, torch.float64, shared=shared)) for k in range(2)]
    stacked = [
        torch.stack([layer[i] for layer in layers], dim=dim) if dim is not None else layers[0][i]
        for i, dim in enumerate(in_dims)
    ]
    mapped = torch.vmap(lambda x, w, b: linear_act(x, w, b, "silu"), in_dims=in_dims)(*stacked)
    for k in range(2):
        each = [t.select(d, k) if d is not None else t for t, d in zip(stacked, in_dims, strict=True)]
        torch.testing.assert_close(mapped[k], linear_act(*each, "silu"), rtol=1e-13, atol=1e-13)


def test_compiles_without_a_break() -> None:
    x, weight, bias = make_layer((3, 6, 4, 5), torch.float64)

    def twice(x: Tensor) -> Tensor:
        return linear_act(x, weight, bias, "relu") * 2

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), twice(x))


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_nan_in_one_sample_stays_there(activation: str) -> None:
    x, weight, bias = make_layer((3, 6, 4, 5), torch.float32)
    weight[1] = torch.nan
    out = linear_act(x, weight, bias, activation)
    assert out[1].isnan().all()
    assert not out[[0, 2]].isnan().any()


def test_refuses_what_does_not_fit() -> None:
    x, weight, bias = make_layer((3, 6, 4, 5), torch.float32)
    for arguments, word in (
        ((x[:2], weight, bias), "inputs must be"),
        ((x[..., :3], weight, bias), "inputs must be"),
        ((x, weight, bias[:, :2]), "weight must be"),
        ((x, weight.double(), bias), "share a float dtype"),
        ((x[:, :0], weight, bias), "may be empty"),
        ((x, weight.requires_grad_(), bias), "no autograd formula"),
    ):
        with pytest.raises(ValueError, match=word):
            linear_act(*arguments)
    weight.requires_grad_(False)
    with pytest.raises(ValueError, match="activation"):
        linear_act(x, weight, bias, "softplus")
    with pytest.raises(ValueError, match="impl"):
        linear_act(x, weight, bias, impl="fast")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where the kernel cannot run")
def test_fused_that_cannot_run_says_why() -> None:
    with pytest.raises(RuntimeError, match="cannot run: "):
        linear_act(*make_layer((3, 6, 4, 5), torch.float32), impl="fused")

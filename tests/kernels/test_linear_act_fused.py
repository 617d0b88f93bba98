"""The Triton kernel of the per-sample linear layer against float64: on a GPU, or in the interpreter if chosen."""

import os
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels.linear_act import api, linear_act, reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPS = torch.finfo(torch.float32).eps
SIZES = [(2, 70, 14, 50), (3, 33, 17, 13), (1, 9, 1, 1), (4, 1, 7, 3), (1, 1, 1, 1), (2, 65, 33, 67), (2, 64, 16, 64)]


def make_layer(size: tuple[int, ...], *, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    n_samples, n_rows, n_in, n_out = size
    generator = torch.Generator().manual_seed(5)
    shapes = ((n_rows, n_in) if shared else (n_samples, n_rows, n_in), (n_samples, n_out, n_in), (n_samples, n_out))
    x, weight, bias = (torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize("activation", ["none", "tanh", "relu", "silu", "gelu"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_error_is_that_of_float32(
    size: tuple[int, ...], shared: bool, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make_layer(size, shared=shared)
    exact = reference.linear_act(*(t.double() for t in layer), activation)
    plain = reference.linear_act(*layer, activation)
    monkeypatch.setattr(torch, "empty", poisoned)
    fused = linear_act(*layer, activation, impl="fused")
    assert fused.dtype == torch.float32
    # Twice the error of plain torch, and the rounding of the sums and of the activation.
    budget = 2 * (plain - exact).abs().max() + EPS * (2 + size[2] ** 0.5) * exact.abs().max().clamp_min(1)
    assert (fused - exact).abs().max() <= budget


# The interpreter computes both branches with NumPy, which says where the one not taken overflows.
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_tanh_is_accurate_relative_to_itself() -> None:
    exponents = torch.arange(-120, 6).repeat_interleave(64)
    sizes = torch.ldexp(1 + torch.rand(len(exponents), generator=torch.Generator().manual_seed(0)), exponents)
    x = torch.cat((sizes, -sizes, torch.tensor([0.0, 0.624999, 0.625, 88.0, 200.0, 3e38, -3e38])))[:, None]
    one = torch.ones(1, 1, 1, device=DEVICE)
    out = linear_act(x.to(DEVICE), one, one[0] * 0, "tanh", impl="fused")[0].double().cpu()
    exact = torch.tanh(x.double())
    assert ((out - exact).abs() <= 5e-7 * exact.abs()).all()


def test_layers_of_flat_weights_and_strided_inputs() -> None:
    x, weight, bias = make_layer((4, 9, 5, 3), shared=False)
    flat = torch.cat((torch.full((4, 2), torch.nan, device=DEVICE), weight.flatten(1), bias), dim=1)
    views = flat[:, 2:17].unflatten(1, (3, 5)), flat[:, 17:]
    expected = linear_act(x, weight, bias, "tanh", impl="fused")
    assert torch.equal(linear_act(x.mT.contiguous().mT, *views, "tanh", impl="fused"), expected)


@pytest.mark.parametrize("activation", ["none", "tanh", "relu", "silu", "gelu"])
def test_nan_in_one_sample_stays_there(activation: str) -> None:
    x, weight, bias = make_layer((3, 6, 4, 5), shared=True)
    weight[1] = torch.nan
    out = linear_act(x, weight, bias, activation, impl="fused")
    assert out[1].isnan().all()
    assert not out[[0, 2]].isnan().any()


def test_fused_operator_is_registered_soundly() -> None:
    arguments = (*make_layer((3, 6, 4, 5), shared=False), "gelu", True)
    assert set(torch.library.opcheck(api._linear_act_op, arguments).values()) == {"SUCCESS"}


def test_other_dtypes_are_refused_in_words() -> None:
    layer = tuple(t.double() for t in make_layer((3, 6, 4, 5), shared=False))
    with pytest.raises(RuntimeError, match="float32"):
        linear_act(*layer, impl="fused")
    assert linear_act(*layer).dtype == torch.float64


_empty = torch.empty


def poisoned(*size: int, **options: object) -> Tensor:
    """Memory whose unwritten entries show."""
    return _empty(*size, **options).fill_(torch.nan)


def test_default_dtype_changes_nothing() -> None:
    layer = make_layer((3, 6, 4, 5), shared=False)
    expected = linear_act(*layer, "tanh", impl="fused")
    torch.set_default_dtype(torch.float16)
    try:
        found = linear_act(*layer, "tanh", impl="fused")
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)

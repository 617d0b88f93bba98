"""Weights from coefficients: the product, its chunks, gradients and operator."""

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels.decode import api, decode, decode_chunks

SIZES = [(5, 101, 7), (1, 13, 3), (4, 1, 2), (3, 9, 1), (1, 1, 1)]  # (S, P, r)


def make_basis(size: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    n_samples, n_params, rank = size
    generator = torch.Generator().manual_seed(11)
    shapes = ((n_params,), (n_params, rank), (n_samples, rank))
    offset, directions, coefficients = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    )
    return offset, directions, coefficients


@pytest.mark.parametrize("size", SIZES)
def test_is_the_sum_of_directions(size: tuple[int, ...]) -> None:
    offset, directions, coefficients = make_basis(size)
    weights = decode(offset, directions, coefficients)
    for s in range(size[0]):
        expected = offset + sum(coefficients[s, j] * directions[:, j] for j in range(size[2]))
        torch.testing.assert_close(weights[s], expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk_bytes", [None, 1, 8 * 101 * 2, 1 << 30])
def test_chunks_are_the_whole_in_order(size: tuple[int, ...], chunk_bytes: int | None) -> None:
    basis = make_basis(size)
    chunks = list(decode_chunks(*basis, chunk_bytes=chunk_bytes))
    assert [i for samples, _ in chunks for i in range(samples.start, samples.stop)] == list(range(size[0]))
    whole = decode(*basis)
    for samples, weights in chunks:
        torch.testing.assert_close(weights, whole[samples], rtol=1e-13, atol=1e-13)
        if chunk_bytes is not None:
            assert len(weights) == 1 or weights.numel() * 8 <= chunk_bytes


def test_chunks_are_of_even_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [len(weights) for _, weights in decode_chunks(*make_basis((11, 10, 2)), chunk_bytes=80 * 10)]
    assert sizes == [6, 5]
    offset, directions, coefficients = make_basis((3, 10, 2))
    # By default no chunk is so small that reading the directions is most of the work.
    monkeypatch.setattr(api, "CPU_CHUNK_BYTES", 1)
    assert [len(weights) for _, weights in decode_chunks(*make_basis((12, 10, 8)))] == [4, 4, 4]
    assert list(decode_chunks(offset, directions, coefficients[:0])) == []


def test_gradients() -> None:
    inputs = tuple(t.requires_grad_() for t in make_basis((4, 6, 3)))
    assert torch.autograd.gradcheck(decode, inputs)
    assert torch.autograd.gradgradcheck(decode, inputs)
    offset, directions, coefficients = (t.detach() for t in inputs)
    slope = torch.func.grad(lambda c: decode(offset, directions, c).square().sum())(coefficients)
    torch.testing.assert_close(slope, 2 * decode(offset, directions, coefficients) @ directions)
    _, change = torch.func.jvp(
        lambda c: decode(offset, directions, c), (coefficients,), (torch.ones_like(coefficients),)
    )
    torch.testing.assert_close(change, directions.sum(1).expand(4, 6))


@pytest.mark.parametrize("in_dims", [(None, None, 0), (None, None, 2), (0, None, None), (None, 1, 0), (1, 2, 1)])
def test_vmap(in_dims: tuple[int | None, ...]) -> None:
    pair = [tuple(t + k for t in make_basis((4, 6, 3))) for k in range(2)]
    stacked = [
        torch.stack([each[i] for each in pair], dim=dim) if dim is not None else pair[0][i]
        for i, dim in enumerate(in_dims)
    ]
    mapped = torch.vmap(decode, in_dims=in_dims)(*stacked)
    for k in range(2):
        each = [t.select(d, k) if d is not None else t for t, d in zip(stacked, in_dims, strict=True)]
        torch.testing.assert_close(mapped[k], decode(*each), rtol=1e-13, atol=1e-13)


def test_compiles_without_a_break() -> None:
    offset, directions, coefficients = make_basis((4, 6, 3))

    def total(coefficients: Tensor) -> Tensor:
        return torch.stack([w.sum() for _, w in decode_chunks(offset, directions, coefficients, chunk_bytes=96)])

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(coefficients), total(coefficients))


def test_refuses_what_does_not_fit() -> None:
    offset, directions, coefficients = make_basis((4, 6, 3))
    for arguments, word in (
        ((offset[:5], directions, coefficients), "shapes must be"),
        ((offset, directions, coefficients[:, :2]), "shapes must be"),
        ((offset, directions, coefficients[0]), "must be"),
        ((offset, directions.float(), coefficients), "share a float dtype"),
    ):
        with pytest.raises(ValueError, match=word):
            decode(*arguments)
        # At the call, not when the first chunk is asked for.
        with pytest.raises(ValueError, match=word):
            decode_chunks(*arguments)
    with pytest.raises(ValueError, match="chunk_bytes"):
        decode_chunks(offset, directions, coefficients, chunk_bytes=0)
    with pytest.raises(ValueError, match="impl"):
        decode(offset, directions, coefficients, impl="fast")
    with pytest.raises(RuntimeError, match="no fused kernel"):
        decode(offset, directions, coefficients, impl="fused")

"""The low-rank basis, against torch's own singular value decomposition."""

import pytest
import torch

from fiberbnn import Basis, basis

M, P = 12, 40


def samples(rank: int = M, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Weights [M, P] off the origin that span `rank` directions of falling size."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(M, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, P, generator=generator, dtype=torch.float64)
    return (3.0 + (left * 0.7 ** torch.arange(rank)) @ right).to(dtype)


SCALE = torch.linspace(0.1, 2.0, P, dtype=torch.float64)


def whitened(weights: torch.Tensor) -> torch.Tensor:
    return (weights - weights.mean(0)) / SCALE


def test_it_is_the_singular_value_decomposition_in_preconditioned_coordinates():
    weights = samples()
    found = Basis.fit(weights, SCALE, rank=5)
    _, values, vh = torch.linalg.svd(whitened(weights), full_matrices=False)
    torch.testing.assert_close(found.deviations, values[:5] / (M - 1) ** 0.5)
    ours = (found.directions / SCALE[:, None]).T
    torch.testing.assert_close((ours * vh[:5]).sum(1).abs(), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(ours @ ours.T, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(found.offset, weights.mean(0))
    assert found.rank == 5


def test_coefficients_have_the_deviations_and_no_correlation():
    weights = samples()
    found = Basis.fit(weights, SCALE, rank=6)
    coefficients = found.encode(weights)
    torch.testing.assert_close(coefficients.mean(0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(coefficients.T.cov(), found.deviations.square().diag())


def test_decoding_undoes_encoding_in_the_span():
    weights = samples()
    found = Basis.fit(weights, SCALE)
    assert found.rank == M - 1
    torch.testing.assert_close(found.decode(found.encode(weights)), weights)
    coefficients = torch.randn(3, found.rank, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(found.encode(found.decode(coefficients)), coefficients)


def test_a_truncated_basis_loses_the_least_that_a_linear_one_can():
    weights = samples()
    found = Basis.fit(weights, SCALE, rank=4)
    lost = ((found.decode(found.encode(weights)) - weights) / SCALE).square().sum()
    values = torch.linalg.svdvals(whitened(weights))
    torch.testing.assert_close(lost, values[4:].square().sum())


def test_no_more_directions_than_the_samples_span():
    found = Basis.fit(samples(rank=3), SCALE)
    assert found.rank == 3
    torch.testing.assert_close(found.decode(found.encode(samples(rank=3))), samples(rank=3))


def test_more_samples_than_weights():
    weights = samples().T.contiguous()
    found = Basis.fit(weights, torch.ones(M, dtype=torch.float64))
    assert found.rank == M
    torch.testing.assert_close(found.decode(found.encode(weights)), weights)


@pytest.mark.parametrize("chunk_bytes", [1, 8 * M * 7])
def test_weights_in_pieces_give_the_same_basis(monkeypatch, chunk_bytes):
    whole = Basis.fit(samples(), SCALE, rank=5)
    monkeypatch.setattr(basis, "CHUNK_BYTES", chunk_bytes)
    pieces = Basis.fit(samples(), SCALE, rank=5)
    torch.testing.assert_close(pieces.directions @ pieces.directions.T, whole.directions @ whole.directions.T)
    torch.testing.assert_close(pieces.deviations, whole.deviations)


def test_float32_samples_give_a_float32_basis():
    found = Basis.fit(samples(dtype=torch.float32), SCALE.float())
    assert found.directions.dtype == found.offset.dtype == found.deviations.dtype == torch.float32
    weights = samples(dtype=torch.float32)
    torch.testing.assert_close(found.decode(found.encode(weights)), weights, rtol=1e-4, atol=1e-4)


def test_the_scale_is_the_callers_to_change():
    scale = SCALE.clone()
    found = Basis.fit(samples(), scale, rank=5)
    scale.zero_()
    assert torch.equal(found.scale, SCALE)


@pytest.mark.parametrize(("n", "rank"), [(1, 5), (12, 0)])
def test_too_few_samples_or_directions_are_refused(n, rank):
    with pytest.raises(ValueError, match="at least two samples and rank 1"):
        Basis.fit(samples()[:n], SCALE, rank=rank)


@pytest.mark.parametrize("scale", [SCALE[1:], torch.ones(1), torch.zeros(P), torch.full((P,), float("nan"))])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale must be positive and finite, \[40\]"):
        Basis.fit(samples(), scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_that_are_all_the_same_are_refused(dtype):
    # Their mean is off by a rounding, so that they seem to differ from it.
    same = torch.linspace(0.1, 0.9, P, dtype=dtype).repeat(30, 1)
    with pytest.raises(ValueError, match="all samples are the same weights"):
        Basis.fit(same, SCALE.to(dtype))

"""Densities over latents: their moments, their limits, and draws that do not depend on how many there are."""

import pytest
import torch

from fiberbnn.density import LatentDensity

M, L, S = 60, 3, 40_000


def points() -> torch.Tensor:
    """Two heaps, off the origin, stretched and correlated: far from Gaussian."""
    generator = torch.Generator().manual_seed(4)
    heaps = torch.randn(M, L, generator=generator, dtype=torch.float64)
    heaps[: M // 2, 0] += 6.0
    return heaps @ torch.tensor([[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.1]], dtype=torch.float64) + 5.0


def assert_moments(samples: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> None:
    """Within four standard errors, which come from the samples themselves."""
    centred = samples - mean
    root = len(samples) ** 0.5
    assert (centred.mean(0).abs() < 4 * samples.std(0) / root).all()
    products = centred[:, :, None] * centred[:, None, :]
    assert ((products.mean(0) - covariance).abs() < 4 * products.std(0) / root).all()


@pytest.mark.parametrize("stretch", [1.0, 0.5])
@pytest.mark.parametrize(("kind", "bandwidth"), [("kde", 0.0), ("kde", 0.3), ("kde", 1.0), ("gaussian", 0.3)])
def test_draws_have_the_points_mean_and_covariance_for_every_bandwidth(kind, bandwidth, stretch):
    density = LatentDensity.fit(points(), kind, bandwidth=bandwidth)
    density = LatentDensity(density.points, density.mean, density.factor, density.bandwidth, stretch)
    # A point is drawn uniformly, so that part of the covariance is divided by M; the kernel has that by M - 1.
    b2 = density.bandwidth**2
    covariance = stretch**2 * points().T.cov() * ((1 - b2) * (M - 1) / M + b2)
    assert_moments(density.sample(S, seed=9), points().mean(0), covariance)


def test_no_bandwidth_gives_the_points_themselves():
    drawn = LatentDensity.fit(points(), bandwidth=0.0).sample(500, seed=1)
    nearest = torch.cdist(drawn, points()).min(dim=1)
    assert nearest.values.max() < 1e-5
    counts = nearest.indices.bincount(minlength=M)
    assert (counts > 0).all()
    assert counts.max() < 25  # 8.3 expected


def test_the_kernel_density_keeps_the_heaps_and_the_gaussian_does_not():
    gap = points()[:, 0].sort().values.diff()
    middle, width = points()[:, 0].sort().values[gap.argmax()] + gap.max() / 2, gap.max()
    share = {}
    for kind in ("kde", "gaussian"):
        drawn = LatentDensity.fit(points(), kind, bandwidth=0.1).sample(5000, seed=2)[:, 0]
        share[kind] = float(((drawn - middle).abs() < width / 4).double().mean())
    assert share["kde"] < 0.02 < share["gaussian"]


def test_the_gaussian_has_bandwidth_one():
    gaussian, widest = LatentDensity.fit(points(), "gaussian"), LatentDensity.fit(points(), bandwidth=1.0)
    assert gaussian.bandwidth == 1.0
    assert torch.equal(gaussian.sample(5, seed=3), widest.sample(5, seed=3))


def test_a_sample_is_the_same_however_many_are_drawn_at_once():
    density = LatentDensity.fit(points())
    whole = density.sample(10, seed=5)
    torch.testing.assert_close(density.sample(4, seed=5, sample0=6), whole[6:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(density.sample(3, seed=5), whole[:3], rtol=1e-12, atol=1e-12)
    assert not torch.equal(density.sample(10, seed=6), whole)


def test_fewer_points_than_dimensions_are_enough():
    few = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    drawn = LatentDensity.fit(few, "gaussian").sample(50, seed=0)
    assert drawn.isfinite().all()
    assert drawn.dtype == torch.float32
    # Draws stay in the span of the points.
    directions = torch.linalg.svd(few - few.mean(0))[2][3:]
    assert ((drawn - few.mean(0)) @ directions.T).abs().max() < 1e-2


@pytest.mark.parametrize("bandwidth", [-0.1, 1.1, float("nan")])
def test_a_bandwidth_outside_zero_to_one_is_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth is a share"):
        LatentDensity.fit(points(), bandwidth=bandwidth)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="density must be"):
        LatentDensity.fit(points(), "mixture")


def test_one_point_is_refused():
    with pytest.raises(ValueError, match="at least two points; got 1"):
        LatentDensity.fit(points()[:1])


def test_points_that_are_all_the_same_are_refused():
    with pytest.raises(ValueError, match="all points are the same"):
        LatentDensity.fit(torch.ones(5, 3))

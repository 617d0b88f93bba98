"""Densities over latents: where new samples are drawn."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal, philox_uniform

from .streams import Stream


@dataclass(frozen=True, eq=False)
class LatentDensity:
    """A kernel density or a Gaussian over encoded walk points, stretched about their mean.

    A draw is z = mean + stretch (sqrt(1 - b^2) (z_i - mean) + b F xi), with z_i a random point, xi standard normal and
    F F^T the covariance of the points: it has their mean and stretch^2 times their covariance for every bandwidth b
    (shrinkage as in West 1993, doi:10.1111/j.2517-6161.1993.tb01911.x). b = 1 is the Gaussian.

    Attributes:
        points: encoded walk, [M, L].
        mean: of the points, [L].
        factor: F, [L, L], lower triangular.
        bandwidth: b, from 0 to 1.
        stretch: factor on all deviations; 1 before calibration.
    """

    points: Tensor
    mean: Tensor
    factor: Tensor
    bandwidth: float
    stretch: float = 1.0

    @classmethod
    def fit(
        cls, points: Tensor, kind: Literal["kde", "gaussian"] = "kde", *, bandwidth: float = 0.2
    ) -> "LatentDensity":
        """Return the density of points [M, L].

        Raises:
            ValueError: if the kind is unknown, the bandwidth is not in [0, 1], or there are not two different points.
        """
        if kind not in ("kde", "gaussian"):
            raise ValueError(f'density must be "kde" or "gaussian"; got {kind!r}')
        if not 0.0 <= bandwidth <= 1.0:
            raise ValueError(f"bandwidth is a share of the points' own spread, from 0 to 1; got {bandwidth}")
        if len(points) < 2:
            raise ValueError(f"a density needs at least two points; got {len(points)}")
        if (points == points[0]).all():
            raise ValueError("all points are the same: the encoder has collapsed; lower its learning_rate")
        mean = points.mean(dim=0)
        centred = (points - mean).double()
        covariance = centred.T @ centred / (len(points) - 1)
        # Fewer points than dimensions leave the covariance singular; the jitter is far below any spread that matters.
        jitter = (
            1e-8 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64, device=points.device)
        )
        factor = torch.linalg.cholesky(covariance + jitter).to(points.dtype)
        return cls(points, mean, factor, 1.0 if kind == "gaussian" else bandwidth)

    def sample(self, n_samples: int, *, seed: int, sample0: int = 0) -> Tensor:
        """Return latents [S, L].

        Args:
            n_samples: S.
            seed: of the draws; sample number s is the same however many are drawn at once.
            sample0: number of the first sample.
        """
        device, n_points = self.points.device, len(self.points)
        uniform = philox_uniform(
            n_samples, seed=seed, step=0, stream=Stream.DENSITY_CENTRE, particle0=sample0, device=device
        )
        centres = self.points[(uniform * n_points).long().clamp_(max=n_points - 1)]
        noise = philox_normal(
            n_samples, self.points.shape[1], seed=seed, step=0, stream=Stream.DENSITY_KERNEL, particle0=sample0,
            dtype=self.points.dtype, device=device,
        )  # fmt: skip
        keep = (1.0 - self.bandwidth**2) ** 0.5
        spread = keep * (centres - self.mean) + self.bandwidth * (noise @ self.factor.T)
        return self.mean + self.stretch * spread

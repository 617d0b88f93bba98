"""The latent posterior: basis, autoencoder and density, fitted to weight samples and sampled in one pass."""

import math
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from fiberbnn_kernels import decode_chunks
from fiberbnn_kernels.decode.api import CPU_CHUNK_BYTES, GPU_CHUNK_BYTES

from .any_energy import AnyEnergy
from .autoencoder import Autoencoder, fit_autoencoder
from .autoencoder_settings import AutoencoderSettings
from .basis import CHUNK_BYTES, Basis
from .density import LatentDensity


@dataclass(frozen=True)
class LatentSettings:
    """How the latent posterior is fitted.

    Attributes:
        rank: most directions of the basis.
        density: "kde" or "gaussian" over the latents.
        bandwidth: of the kernel density, as a share of the latents' own spread; calibration may lower it.
        calibrate: lower the bandwidth ("kde") or the spread ("gaussian") until decoded samples are no hotter than the
            samples they were fitted to.
        autoencoder: its size and training.

    Raises:
        ValueError: if a setting is out of range.
    """

    rank: int = 256
    density: Literal["kde", "gaussian"] = "kde"
    bandwidth: float = 0.1
    calibrate: bool = True
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0.0 <= self.bandwidth <= 1.0:
            raise ValueError(f"rank must be at least 1, bandwidth in [0, 1]; got {self.rank} and {self.bandwidth}")
        if self.density not in ("kde", "gaussian"):
            raise ValueError(f'density must be "kde" or "gaussian"; got {self.density!r}')


@dataclass(frozen=True, eq=False)
class LatentPosterior:
    """A posterior over weights that is sampled by drawing latents and decoding them.

    Attributes:
        basis: weights to coefficients.
        autoencoder: coefficients to latents.
        density: over latents.
        losses: of the autoencoder, one dictionary a step.
        seconds: wall-clock time of the fit.
    """

    basis: Basis
    autoencoder: Autoencoder
    density: LatentDensity
    losses: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def fit(
        cls,
        weights: Tensor,
        energy: AnyEnergy,
        *,
        scale: Tensor | None = None,
        particle: Tensor | None = None,
        settings: LatentSettings | None = None,
        seed: int = 0,
        progress_bar: bool = False,
    ) -> "LatentPosterior":
        """Return the latent posterior of weight samples, a walk's or anybody else's.

        Args:
            weights: samples, [M, P].
            energy: for its training inputs, its likelihood, and calibration.
            scale: diagonal of the preconditioner, [P]; a `Trajectory`'s. All ones if None.
            particle: which particle visited each sample, [M]; a `Trajectory`'s. None if the samples are one chain's.
            settings: how to fit.
            seed: of training and calibration.
            progress_bar: show progress.

        Raises:
            ValueError: if the samples are fewer than two, all the same, or not finite.
        """
        energy.network.check_weights(weights)
        if not weights.isfinite().all():
            raise ValueError("the weight samples hold NaN or infinite values")
        settings, start = settings or LatentSettings(), time.perf_counter()
        basis = Basis.fit(weights, torch.ones_like(weights[0]) if scale is None else scale, rank=settings.rank)
        coefficients = basis.encode(weights)
        autoencoder, losses = fit_autoencoder(
            basis, coefficients, energy, particle=particle, settings=settings.autoencoder, seed=seed,
            progress_bar=progress_bar,
        )  # fmt: skip
        # The function-space loss takes forward and backward passes over batches of points and inputs.
        trained = settings.autoencoder
        if trained.function:
            energy.cost.grad_evals += math.ceil(len(losses) * trained.batch_points * trained.batch_inputs / energy.n)
        density = LatentDensity.fit(autoencoder.encode(coefficients), settings.density, bandwidth=settings.bandwidth)
        posterior = cls(basis, autoencoder, density, losses)
        if settings.calibrate:
            posterior = _calibrated(posterior, energy, weights, seed)
        return replace(posterior, seconds=time.perf_counter() - start)

    def encode(self, weights: Tensor) -> Tensor:
        """Return the latents of weights [S, P], [S, L]."""
        return self.autoencoder.encode(self.basis.encode(weights))

    def decode(self, latents: Tensor) -> Tensor:
        """Return the weights of latents [S, L], [S, P], in one pass."""
        return self.basis.decode(self.autoencoder.decode(latents))

    def at_temperature(self, temperature: float) -> "LatentPosterior":
        """Return the posterior whose latents deviate from their mean by sqrt(temperature) times as much."""
        density = replace(self.density, stretch=self.density.stretch * temperature**0.5)
        return replace(self, density=density)

    def sample(self, n_samples: int, *, seed: int, sample0: int = 0) -> Tensor:
        """Return weight samples, [S, P].

        Args:
            n_samples: S.
            seed: of the draws.
            sample0: number of the first sample: samples 10 to 19 of a seed are the same drawn alone or among others.

        Raises:
            ValueError: if `n_samples` is not positive.
        """
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1; got {n_samples}")
        with torch.no_grad():
            return self.decode(self.density.sample(n_samples, seed=seed, sample0=sample0))

    def pieces(self, n_samples: int, *, seed: int, sample0: int = 0) -> Iterator[Tensor]:
        """Yield the samples of `sample` a few at a time, so that those of a large network need not be held at once."""
        return self.decode_pieces(self.density.sample(n_samples, seed=seed, sample0=sample0))

    def decode_pieces(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield the weights of latents [S, L] a few at a time, in order."""
        with torch.no_grad():
            coefficients = self.autoencoder.decode(latents)
        offset, directions = self.basis.offset, self.basis.directions
        # What stays in the cache; but so many samples that reading all directions for them is worth while, where these
        # are not too large to be held.
        cached = GPU_CHUNK_BYTES if offset.is_cuda else CPU_CHUNK_BYTES
        chunk_bytes = min(CHUNK_BYTES, max(cached, self.basis.rank // 2 * offset.nbytes))
        return (weights for _, weights in decode_chunks(offset, directions, coefficients, chunk_bytes=chunk_bytes))


def _calibrated(
    posterior: LatentPosterior, energy: AnyEnergy, weights: Tensor, seed: int, n_samples: int = 64
) -> LatentPosterior:
    """Lower the bandwidth or the stretch until decoded samples are no hotter than the samples they were fitted to.

    Only ever downwards: samples that are colder have lost directions to the latent size, and a wider density
    would not give those back but add spread where there is little. Nor lower than helps: where encoding and decoding
    alone heat the samples, draws may be hotter than these reconstructions by a twentieth of equipartition.

    A walk on minibatches is calibrated on one of them, the same for all that is compared, and with fewer samples.
    """
    density = posterior.density
    gaussian = density.bandwidth == 1.0
    high, low = (density.stretch, 0.05) if gaussian else (density.bandwidth, 0.01)
    seen, every, rounds = (energy, 1, 8) if energy.exact else (energy.at(0), max(1, len(weights) // n_samples), 5)

    def mean_energy(pieces: Iterable[Tensor]) -> float:
        return statistics.fmean(float(value) for piece in pieces for value in seen(piece))

    fitted_to = mean_energy(weights[::every].split(n_samples))
    reconstructed = mean_energy(posterior.decode_pieces(density.points[::every]))
    target = max(fitted_to, reconstructed + 0.05 * energy.network.n_params / 2)

    def at(value: float) -> LatentPosterior:
        changed = replace(density, stretch=value) if gaussian else replace(density, bandwidth=value)
        return replace(posterior, density=changed)

    def too_hot(value: float) -> bool:
        # The same draws at every value: the comparison is then smooth in it.
        return not mean_energy(at(value).pieces(n_samples, seed=seed)) <= target

    if high <= low or not too_hot(high):
        return posterior
    for _ in range(rounds):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if too_hot(middle) else (middle, high)
    return at(low)

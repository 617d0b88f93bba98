"""A low-rank affine basis of weight space, fitted to weight samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fiberbnn_kernels import decode

# Weights are gone through in pieces of this many bytes per sample set, so that no second copy of them is made.
CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class Basis:
    """theta = offset + directions c, with c the coefficients of a thin singular value decomposition.

    Attributes:
        offset: centre of the samples, [P].
        directions: M V, the preconditioner folded in, [P, r]; V has orthonormal columns.
        scale: diagonal of the preconditioner M, [P].
        deviations: standard deviation of the samples along each column of V, [r], falling.
    """

    offset: Tensor
    directions: Tensor
    scale: Tensor
    deviations: Tensor

    @property
    def rank(self) -> int:
        """Number of directions, r."""
        return self.directions.shape[1]

    @classmethod
    def fit(cls, weights: Tensor, scale: Tensor, *, rank: int = 128) -> "Basis":
        """Return the basis of the largest variance of weights [M, P] in coordinates M^-1 theta.

        The decomposition goes through the [M, M] Gram matrix, summed in float64 over chunks of weights: nothing
        of size P x P is formed, and nothing of size M x P beside the samples.

        Args:
            weights: samples, [M, P].
            scale: diagonal of the preconditioner M, [P], positive.
            rank: most directions; fewer are kept if the samples span fewer.

        Raises:
            ValueError: if there are fewer than two samples, they are all the same, or rank or scale are not positive.
        """
        n_samples, n_params = weights.shape
        if n_samples < 2 or rank < 1:
            raise ValueError(f"a basis needs at least two samples and rank 1; got {n_samples} samples, rank {rank}")
        if scale.shape != (n_params,) or not (scale.isfinite() & (scale > 0)).all():
            raise ValueError(f"scale must be positive and finite, [{n_params}]; got {list(scale.shape)}")
        if all(torch.equal(sample, weights[0]) for sample in weights[1:]):
            raise ValueError("all samples are the same weights: the walk did not move")
        mean = weights.mean(dim=0)
        gram = weights.new_zeros(n_samples, n_samples, dtype=torch.float64)
        for columns in _pieces(n_params, n_samples):
            piece = ((weights[:, columns] - mean[columns]) / scale[columns]).double()
            gram.addmm_(piece, piece.T)
        values, vectors = torch.linalg.eigh(gram)
        # Squares below the rounding of the float32 samples are noise, not directions.
        kept = int((values > values[-1] * 1e-10).sum())
        top = values.flip(0)[: min(rank, kept, n_samples - 1)]
        combine = (vectors.flip(1)[:, : len(top)] / top.sqrt()).to(weights.dtype)  # [M, r]
        directions = weights.new_empty(n_params, len(top))
        for columns in _pieces(n_params, n_samples):
            # M M^-1 (theta - mean): the scale cancels but for the coefficients, so it is never divided by and put back.
            directions[columns] = (weights[:, columns] - mean[columns]).T @ combine
        deviations = (top / (n_samples - 1)).sqrt().to(weights.dtype)
        return cls(mean, directions, scale.clone(), deviations)

    def encode(self, weights: Tensor) -> Tensor:
        """Return the coefficients of weights [S, P], [S, r]."""
        coefficients = weights.new_zeros(len(weights), self.rank)
        for columns in _pieces(weights.shape[1], len(weights)):
            whitened = (weights[:, columns] - self.offset[columns]) / self.scale[columns].square()
            coefficients.addmm_(whitened, self.directions[columns])
        return coefficients

    def decode(self, coefficients: Tensor) -> Tensor:
        """Return the weights of coefficients [S, r], [S, P]."""
        return decode(self.offset, self.directions, coefficients)


def _pieces(n_params: int, n_samples: int) -> Iterator[slice]:
    """Slices of the weights, small enough for that many samples of them in float64."""
    size = max(1, CHUNK_BYTES // (8 * n_samples))
    return (slice(at, min(at + size, n_params)) for at in range(0, n_params, size))

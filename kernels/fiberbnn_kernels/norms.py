"""Sums of squares over all weights, in float64 and in pieces, so that no second copy of particles is made for them."""

import torch
from torch import Tensor

# Weights of every particle that are summed at once: measured fastest on a CPU; a GPU wants few large launches. Sums do
# not depend on how many particles there are.
COLUMNS, GPU_COLUMNS = 1 << 13, 1 << 20


def columns_of(x: Tensor) -> int:
    """Return how many weights of every particle to go through at once where x is."""
    return GPU_COLUMNS if x.is_cuda else COLUMNS


def squared_norms(x: Tensor) -> Tensor:
    """Return the sums of squares of rows [K, P], [K]; float64, as millions of summands need where differences count."""
    total = x.new_zeros(len(x), dtype=torch.float64)
    for piece in x.split(columns_of(x), dim=1):
        # The norm is taken for its loop: it widens every number as it reads it.
        total += torch.linalg.vector_norm(piece, dim=1, dtype=torch.float64).square_()
    return total


def kinetic_energy(velocity: Tensor) -> Tensor:
    """Return 1/2 |v|^2 of each particle, [K]; float64, since differences of it are wanted."""
    return squared_norms(velocity).mul_(0.5)

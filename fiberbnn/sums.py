"""Sums over all weights, in float64 and in pieces, so that no second copy of particles is made for them."""

import torch
from torch import Tensor

from fiberbnn_kernels.norms import columns_of


def products_from(x: Tensor, origin: Tensor, slope: Tensor) -> Tensor:
    """Return the inner products of x - origin with a slope, [K]; float64.

    Args:
        x: rows, [K, P].
        origin: what they are counted from, [P].
        slope: [P].
    """
    total = x.new_zeros(len(x), dtype=torch.float64)
    n = columns_of(x)
    for piece, start, along in zip(x.split(n, dim=1), origin.split(n), slope.split(n), strict=True):
        total += (piece - start).double() @ along.double()
    return total

"""Weights from their coefficients in a low-rank basis; this file is the definition, on every device.

There is no fused kernel: the product reads the directions and writes the weights, which one call of the matrix library
does at the speed of memory. Chunks of samples bound the memory that weights take.
"""

import torch
from torch import Tensor

from ..autocast import no_autocast


def decode(offset: Tensor, directions: Tensor, coefficients: Tensor) -> Tensor:
    """Return offset + coefficients directions^T, [S, P]; see `api.decode`."""
    with no_autocast(offset.device):
        return torch.addmm(offset, coefficients, directions.T)

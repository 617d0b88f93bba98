"""A linear layer with activation for every weight sample, in plain torch; this file is the definition."""

import torch
from torch import Tensor

from ..mlp.activation import ACTIVATION_PASSES

# The activation runs over outputs that the matrix product has just left in the cache.
CPU_BLOCK_BYTES = 1 << 20


def linear_act(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Return act(x W_s^T + b_s), [S, N, O]; see `api.linear_act`."""
    n_samples, n_out = bias.shape
    n_rows = x.shape[-2]
    inputs = x.expand(n_samples, -1, -1) if x.ndim == 2 else x
    out = x.new_empty(n_samples, n_rows, n_out)
    chunk = n_samples
    if x.device.type == "cpu":
        chunk = max(1, CPU_BLOCK_BYTES // max(1, n_rows * n_out * x.element_size()))
    for start in range(0, n_samples, max(1, chunk)):
        some = slice(start, start + chunk)
        z = torch.baddbmm(bias[some, None], inputs[some], weight[some].mT, out=out[some])
        if activation != "none":
            ACTIVATION_PASSES[activation].forward(z, z)  # type: ignore[index]
    return out

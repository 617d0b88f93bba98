"""Triton kernel of reference.py: product, bias and activation in one pass; float32 with exact products."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201, D103
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..mlp.activation_fused import activate

OPTIONS = {"enable_fp_fusion": False}


class Tile(NamedTuple):
    """Rows, outputs and inputs of a tile, and warps of its program."""

    rows: int
    outputs: int
    inputs: int
    warps: int


# Smallest first, by the number of outputs they hold.
TILES = (Tile(64, 16, 16, 4), Tile(64, 32, 16, 4), Tile(64, 64, 16, 8))


@triton.jit
def matmul_tile(
    x, weight, rows, outputs, n_rows, n_in, n_out, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr
):
    # x [N, I] and weight [O, I] of one sample; zeros outside.
    total = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    row_at = x + rows.to(tl.int64)[:, None] * n_in
    output_at = weight + outputs[None, :] * n_in
    for start in range(0, n_in, INPUTS):
        inputs = start + tl.arange(0, INPUTS)
        a = tl.load(row_at + inputs[None, :], mask=(rows[:, None] < n_rows) & (inputs[None, :] < n_in), other=0.0)
        b = tl.load(output_at + inputs[:, None], mask=(inputs[:, None] < n_in) & (outputs[None, :] < n_out), other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    return total


@triton.jit
def linear_act_kernel(
    x,
    weight,
    bias,
    out,
    n_rows,
    n_in,
    n_out,
    x_stride,
    weight_stride,
    bias_stride,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    # One axis of programs: the others stop at 65,535. Programs of one sample are neighbours and share its weights.
    row_blocks = tl.cdiv(n_rows, ROWS)
    output_blocks = tl.cdiv(n_out, OUTPUTS)
    sample = (tl.program_id(0) // (row_blocks * output_blocks)).to(tl.int64)
    tile = tl.program_id(0) % (row_blocks * output_blocks)
    rows = tile // output_blocks * ROWS + tl.arange(0, ROWS)
    outputs = tile % output_blocks * OUTPUTS + tl.arange(0, OUTPUTS)
    z = matmul_tile(
        x + sample * x_stride,
        weight + sample * weight_stride,
        rows,
        outputs,
        n_rows,
        n_in,
        n_out,
        ROWS,
        OUTPUTS,
        INPUTS,
    )
    z += tl.load(bias + sample * bias_stride + outputs, mask=outputs < n_out, other=0.0)[None, :]
    at = (sample * n_rows + rows.to(tl.int64)[:, None]) * n_out + outputs[None, :]
    tl.store(out + at, activate(z, ACTIVATION), mask=(rows[:, None] < n_rows) & (outputs[None, :] < n_out))


def tile_for(n_out: int) -> Tile:
    """Return the tile of a layer with so many outputs."""
    return next((tile for tile in TILES if tile.outputs >= n_out), TILES[-1])


def rows_together(x: Tensor) -> Tensor:
    """Return x [S, ...] with everything but the sample axis contiguous; layers of flat weights [S, P] stay views."""
    return x if x[0].is_contiguous() else x.contiguous()


def linear_act(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Return act(x W_s^T + b_s), [S, N, O], float32; see `api.linear_act`."""
    n_samples, n_out, n_in = weight.shape
    n_rows = x.shape[-2]
    x = x.contiguous() if x.ndim == 2 else rows_together(x)
    weight, bias = rows_together(weight), rows_together(bias)
    out = torch.empty(n_samples, n_rows, n_out, dtype=torch.float32, device=x.device)
    tile = tile_for(n_out)
    grid = (n_samples * triton.cdiv(n_rows, tile.rows) * triton.cdiv(n_out, tile.outputs),)
    with torch.cuda.device_of(out):
        linear_act_kernel[grid](
            x,
            weight,
            bias,
            out,
            n_rows,
            n_in,
            n_out,
            x.stride(0) if x.ndim == 3 else 0,
            weight.stride(0),
            bias.stride(0),
            ROWS=tile.rows,
            OUTPUTS=tile.outputs,
            INPUTS=tile.inputs,
            ACTIVATION=activation,
            num_warps=tile.warps,
            **OPTIONS,
        )
    return out

"""A whole perceptron by the kernels of linear_act and programs.py.

Samples come in groups and rows in pieces, so that activations stay in cache. What the programs of all groups found is
merged once for a piece: merging takes dozens of passes, and groups are many.
"""

from functools import reduce
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ..linear_act.fused import linear_act
from ..mlp import MLPLayout
from .fused import Classes, FourTensors, Kind, Parts, chunk_for, gaussians, parts_of, tile_for

# Activations of a group stay in the second-level cache; sums of chunks wait in so much memory.
HIDDEN_BYTES, SUMS_BYTES = 24 << 20, 64 << 20
# Rows are cut before groups become smaller than this, as long as so many rows are left.
MIN_GROUP, MIN_ROWS = 64, 64


class Plan(NamedTuple):
    """How a perceptron's S samples and N rows are divided.

    Attributes:
        rows: of a piece.
        group: samples whose activations are held at once, a multiple of `chunk` (or all).
        chunk: samples of a program.
        merged: samples whose sums are merged at once, a multiple of `group` (or all).
    """

    rows: int
    group: int
    chunk: int
    merged: int


def plan_for(n_samples: int, n_rows: int, layout: MLPLayout, width: int) -> Plan:
    """Return the plan for the perceptron whose sums have that many columns: a function of sizes alone."""
    room = max(1, HIDDEN_BYTES // (4 * max(layout.hidden, default=1)))  # rows of activations, whosever they are
    rows = min(n_rows, max(MIN_ROWS, room // min(n_samples, MIN_GROUP)))
    rows = -(-n_rows // -(-n_rows // rows))  # pieces of even size
    group = min(n_samples, max(MIN_GROUP, room // rows))
    chunk = chunk_for(group, triton.cdiv(rows, tile_for(width).rows))
    if group < n_samples:
        group -= group % chunk
    groups_merged = SUMS_BYTES // (4 * rows * (3 * width + 1) * triton.cdiv(group, chunk))
    return Plan(rows, group, chunk, group * max(1, groups_merged))


def mlp_class_sums(weights: Tensor, x: Tensor, layout: MLPLayout) -> FourTensors:
    """Return the sums of `ClassSums` of a perceptron; see `perceptron.mlp_class_sums`."""
    return _sums(Classes(layout.widths[-1]), weights, x, layout)


def mlp_gaussian_sums(
    weights: Tensor, x: Tensor, layout: MLPLayout, noise_variance: Tensor | None, targets: Tensor | None
) -> FourTensors:
    """Return the sums of `GaussianSums` of a perceptron; see `perceptron.mlp_gaussian_sums`."""
    return _sums(gaussians(layout.widths[-1], noise_variance, targets), weights, x, layout)


def _sums(kind: Kind, weights: Tensor, x: Tensor, layout: MLPLayout) -> FourTensors:
    plan = plan_for(len(weights), len(x), layout, kind.width)
    pieces = []
    for start in range(0, len(x), plan.rows):
        rows = slice(start, min(start + plan.rows, len(x)))
        sums: list[Any] = [_merged_once(kind, some, x, rows, layout, plan) for some in weights.split(plan.merged)]
        pieces.append(parts_of(reduce(lambda first, second: first.merge(second), sums)))
    if len(pieces) == 1:
        return pieces[0]
    a, b, c, d = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return a, b, c, d


def _merged_once(kind: Kind, weights: Tensor, x: Tensor, rows: slice, layout: MLPLayout, plan: Plan) -> Any:
    """Return the sums over these samples, on these rows."""
    parts = Parts.new(triton.cdiv(len(weights), plan.chunk), rows.stop - rows.start, kind.width, x.device)
    first = 0
    for group in weights.split(plan.group):
        last = first + triton.cdiv(len(group), plan.chunk)
        kind.launch(_last_layer(group, x[rows], layout), rows, plan.chunk, parts.some(slice(first, last)))
        first = last
    return kind.merged(parts, len(weights), plan.chunk)


def _last_layer(weights: Tensor, x: Tensor, layout: MLPLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Run the hidden layers; return the last one's inputs, weight and bias."""
    layers = [
        (
            weights[:, at.weight : at.bias].unflatten(1, (at.n_out, at.n_in)),
            weights[:, at.bias : at.bias + at.n_out],
        )
        for at in layout.layers()
    ]
    h = x
    for weight, bias in layers[:-1]:
        h = linear_act(h, weight, bias, layout.activation)
    return h, *layers[-1]

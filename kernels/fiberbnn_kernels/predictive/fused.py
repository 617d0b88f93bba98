"""Launches the kernels of programs.py and merges what their programs found, in float64 and in order."""

from functools import reduce
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..linear_act.fused import linear_act, rows_together
from ..mlp import MLPLayout
from .programs import class_kernel, gaussian_kernel
from .sums import ClassSums, GaussianSums

# The loop over hidden features is short: loads ahead of it cost registers (255 and spills) that the averages need.
OPTIONS = {"enable_fp_fusion": False, "num_stages": 1}


class Tile(NamedTuple):
    """Rows, outputs and hidden features of a tile, and warps of its program."""

    rows: int
    outputs: int
    hidden: int
    warps: int


# Smallest first, by the number of outputs they hold; products need sixteen.
TILES = (Tile(32, 16, 16, 4), Tile(16, 32, 16, 2), Tile(16, 64, 16, 4))
# A program's sums lose at most about as many roundings as it has samples, and more programs fill a GPU.
MAX_CHUNK, MIN_CHUNK, PROGRAMS = 64, 8, 1024
# Activations of a chunk of perceptrons stay in the second-level cache.
HIDDEN_BYTES = 24 << 20


def tile_for(n_outputs: int) -> Tile:
    """Return the tile that holds so many outputs."""
    return next(tile for tile in TILES if tile.outputs >= n_outputs)


def chunk_for(n_samples: int, row_blocks: int) -> int:
    """Return how many samples a program takes: a function of the sizes alone, as it decides the order of sums."""
    wanted = -(-n_samples * row_blocks // PROGRAMS)
    return min(MAX_CHUNK, max(MIN_CHUNK, wanted), n_samples)


class _Launch(NamedTuple):
    """Arguments that both kernels share."""

    tensors: tuple[Tensor, Tensor, Tensor]
    strides: tuple[int, int, int]
    n_samples: int
    n_hidden: int
    chunk: int
    parts: int
    grid: tuple[int]
    constants: dict[str, int | bool]


def _launch(h: Tensor, weight: Tensor | None, bias: Tensor | None, width: int) -> _Launch:
    tile = tile_for(width)
    h = h.contiguous() if h.ndim == 2 else rows_together(h)
    layer = weight is not None and bias is not None
    # Without a layer the kernel reads neither weight nor bias.
    w, b = (rows_together(weight), rows_together(bias)) if weight is not None and bias is not None else (h, h)
    n_samples, row_blocks = w.shape[0], triton.cdiv(h.shape[-2], tile.rows)
    chunk = chunk_for(n_samples, row_blocks)
    parts = triton.cdiv(n_samples, chunk)
    constants = {"LAYER": layer, "ROWS": tile.rows, "OUTPUTS": tile.outputs, "HIDDEN": tile.hidden}
    strides = (h.stride(0) if h.ndim == 3 else 0, w.stride(0), b.stride(0))
    return _Launch(
        (h, w, b),
        strides,
        n_samples,
        h.shape[-1],
        chunk,
        parts,
        (parts * row_blocks,),
        {**constants, "num_warps": tile.warps},
    )


def class_sums(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `ClassSums`, float64; see `api.class_sums`."""
    n_rows, n_classes = h.shape[-2], h.shape[-1] if weight is None else weight.shape[1]
    run = _launch(h, weight, bias, n_classes)
    mean, squares, log_sum = torch.empty(3, run.parts, n_rows, n_classes, device=h.device)
    entropy = torch.empty(run.parts, n_rows, device=h.device)
    with torch.cuda.device_of(h):
        class_kernel[run.grid](
            *run.tensors,
            mean,
            squares,
            log_sum,
            entropy,
            run.n_samples,
            n_rows,
            run.n_hidden,
            n_classes,
            *run.strides,
            run.chunk,
            **run.constants,
            **OPTIONS,
        )
    moments = _merged(mean, squares, run.n_samples, run.chunk)
    return *moments, log_sum.double().logsumexp(dim=0), entropy.double().sum(dim=0)


def gaussian_sums(
    h: Tensor, weight: Tensor | None, bias: Tensor | None, noise_variance: Tensor | None, targets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `GaussianSums`, float64; see `api.gaussian_sums`."""
    n_rows, n_columns = h.shape[-2], h.shape[-1] if weight is None else weight.shape[1]
    width = n_columns if noise_variance is not None else n_columns // 2
    run = _launch(h, weight, bias, width)
    mean, squares, noise = torch.empty(3, run.parts, n_rows, width, device=h.device)
    density = torch.empty(run.parts, n_rows, device=h.device)
    known = (h, h) if noise_variance is None else (noise_variance.log(), noise_variance.reciprocal())
    with torch.cuda.device_of(h):
        gaussian_kernel[run.grid](
            *run.tensors,
            *known,
            h if targets is None else targets.contiguous(),
            mean,
            squares,
            noise,
            density,
            run.n_samples,
            n_rows,
            run.n_hidden,
            width,
            n_columns,
            *run.strides,
            run.chunk,
            PREDICTED_NOISE=noise_variance is None,
            TARGETS=targets is not None,
            **run.constants,
            **OPTIONS,
        )
    moments = _merged(mean, squares, run.n_samples, run.chunk)
    if noise_variance is None:
        summed = noise.double().sum(dim=0)
    else:
        summed = (noise_variance.double() * run.n_samples).expand(n_rows, width).contiguous()
    log_density = density.double().logsumexp(dim=0) if targets is not None else moments[0].new_empty(0)
    return *moments, summed, log_density


def _merged(mean: Tensor, squares: Tensor, n_samples: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Mean and squared deviations of all samples from those of chunks, [parts, N, C]; float64."""
    counts = mean.new_full((len(mean), 1, 1), chunk, dtype=torch.float64)
    counts[-1] = n_samples - chunk * (len(mean) - 1)
    means = mean.double()
    together = (means * counts).sum(dim=0) / n_samples
    between = ((means - together).square() * counts).sum(dim=0)
    return together, squares.double().sum(dim=0) + between


def mlp_class_sums(weights: Tensor, x: Tensor, layout: MLPLayout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `ClassSums` of a perceptron; see `perceptron.mlp_class_sums`."""
    pieces = weights.split(_samples_together(x, layout))
    total = reduce(ClassSums.merge, (ClassSums(len(w), *class_sums(*_last_layer(w, x, layout))) for w in pieces))
    return total.probs, total.squares, total.log_sum, total.entropy


def mlp_gaussian_sums(
    weights: Tensor, x: Tensor, layout: MLPLayout, noise_variance: Tensor | None, targets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `GaussianSums` of a perceptron; see `perceptron.mlp_gaussian_sums`."""

    def sums(w: Tensor) -> GaussianSums:
        return GaussianSums(len(w), *gaussian_sums(*_last_layer(w, x, layout), noise_variance, targets))

    total = reduce(GaussianSums.merge, map(sums, weights.split(_samples_together(x, layout))))
    density = total.log_density_sum
    return total.mean, total.squares, total.noise, x.new_empty(0).double() if density is None else density


def _samples_together(x: Tensor, layout: MLPLayout) -> int:
    """How many samples' widest activations fit; all of them where there are none."""
    return max(1, HIDDEN_BYTES // (4 * len(x) * max(layout.hidden, default=1)))


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

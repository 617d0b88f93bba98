"""Launches the kernels of programs.py and merges what their programs found, in float64 and in order."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..linear_act.fused import rows_together
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

FourTensors = tuple[Tensor, Tensor, Tensor, Tensor]
Layer = tuple[Tensor, Tensor | None, Tensor | None]


def tile_for(n_outputs: int) -> Tile:
    """Return the tile that holds so many outputs."""
    return next(tile for tile in TILES if tile.outputs >= n_outputs)


def chunk_for(n_samples: int, row_blocks: int) -> int:
    """Return how many samples a program takes: a function of the sizes alone, as it decides the order of sums."""
    wanted = -(-n_samples * row_blocks // PROGRAMS)
    return min(MAX_CHUNK, max(MIN_CHUNK, wanted), n_samples)


class Parts(NamedTuple):
    """What programs found, each about one chunk of samples."""

    three: Tensor  # [3, parts, N, C]
    last: Tensor  # [parts, N]

    @classmethod
    def new(cls, n_parts: int, n_rows: int, width: int, device: torch.device) -> "Parts":
        """Return memory for so many."""
        shape = (n_parts, n_rows)
        three = torch.empty(3, *shape, width, dtype=torch.float32, device=device)
        return cls(three, torch.empty(shape, dtype=torch.float32, device=device))

    def some(self, parts: slice) -> "Parts":
        """Return a view of some of them."""
        return Parts(self.three[:, parts], self.last[parts])


class Classes(NamedTuple):
    """The sums of class probabilities."""

    width: int

    def launch(self, layer: Layer, rows: slice, chunk: int, parts: Parts) -> None:
        """Fill the parts, one for each chunk of the layer's samples, with what is found on these rows."""
        tensors, strides, grid, constants = _shared(layer, self.width, chunk)
        n_samples, n_rows, n_hidden = len(tensors[1]), tensors[0].shape[-2], tensors[0].shape[-1]
        with torch.cuda.device_of(tensors[0]):
            class_kernel[grid](
                *tensors,
                *parts.three,
                parts.last,
                n_samples,
                n_rows,
                n_hidden,
                self.width,
                *strides,
                chunk,
                **constants,
                **OPTIONS,
            )

    def merged(self, parts: Parts, n_samples: int, chunk: int) -> ClassSums:
        """Return the sums over all parts."""
        means, squares, log_sum = parts.three
        counts = _counts(parts, n_samples, chunk)
        # Of a chunk: the entropy of its mean, less what its samples disagree on. Then mutual information is what
        # samples and chunks disagree on, and the rounding of chunks' means does not show in it.
        of_mean = torch.special.entr(means.double()).sum(dim=-1)
        entropy = (of_mean * counts[..., 0] - parts.last.double()).clamp_min_(0.0).sum(dim=0)
        moments = _merged(means, squares, counts, n_samples)
        return ClassSums(n_samples, *moments, log_sum.double().logsumexp(dim=0), entropy)


class Gaussians(NamedTuple):
    """The sums of Gaussian outputs; targets are of all rows."""

    width: int
    noise_variance: Tensor | None
    targets: Tensor | None

    def launch(self, layer: Layer, rows: slice, chunk: int, parts: Parts) -> None:
        """Fill the parts, one for each chunk of the layer's samples, with what is found on these rows."""
        tensors, strides, grid, constants = _shared(layer, self.width, chunk)
        h, weight, _ = tensors
        n_samples, n_rows, n_hidden = len(weight), h.shape[-2], h.shape[-1]
        noise = self.noise_variance
        with torch.cuda.device_of(h):
            gaussian_kernel[grid](
                *tensors,
                *((h, h) if noise is None else (noise.log(), noise.reciprocal())),
                h if self.targets is None else self.targets[rows].contiguous(),
                *parts.three,
                parts.last,
                n_samples,
                n_rows,
                n_hidden,
                self.width,
                self.width if noise is not None else 2 * self.width,
                *strides,
                chunk,
                PREDICTED_NOISE=noise is None,
                TARGETS=self.targets is not None,
                **constants,
                **OPTIONS,
            )

    def merged(self, parts: Parts, n_samples: int, chunk: int) -> GaussianSums:
        """Return the sums over all parts."""
        means, squares, noise = parts.three
        moments = _merged(means, squares, _counts(parts, n_samples, chunk), n_samples)
        if self.noise_variance is None:
            summed = noise.double().sum(dim=0)
        else:
            summed = (self.noise_variance.double() * n_samples).expand(means.shape[1:]).contiguous()
        log_density = None if self.targets is None else parts.last.double().logsumexp(dim=0)
        return GaussianSums(n_samples, *moments, summed, log_density)


Kind = Classes | Gaussians


def class_sums(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> FourTensors:
    """Return the sums of `ClassSums`, float64; see `api.class_sums`."""
    kind = Classes(h.shape[-1] if weight is None else weight.shape[1])
    return parts_of(_sums_of_layer(kind, (h, weight, bias)))


def gaussian_sums(
    h: Tensor, weight: Tensor | None, bias: Tensor | None, noise_variance: Tensor | None, targets: Tensor | None
) -> FourTensors:
    """Return the sums of `GaussianSums`, float64; see `api.gaussian_sums`."""
    kind = gaussians(h.shape[-1] if weight is None else weight.shape[1], noise_variance, targets)
    return parts_of(_sums_of_layer(kind, (h, weight, bias)))


def gaussians(n_columns: int, noise_variance: Tensor | None, targets: Tensor | None) -> Gaussians:
    """Return the kind of sums for so many outputs, log-variances among them if the noise is predicted."""
    return Gaussians(n_columns if noise_variance is not None else n_columns // 2, noise_variance, targets)


def parts_of(sums: ClassSums | GaussianSums) -> FourTensors:
    """Return the tensors in the order in which operators return them."""
    if isinstance(sums, ClassSums):
        return sums.probs, sums.squares, sums.log_sum, sums.entropy
    density = sums.mean.new_empty(0) if sums.log_density_sum is None else sums.log_density_sum
    return sums.mean, sums.squares, sums.noise, density


def _sums_of_layer(kind: Kind, layer: Layer) -> ClassSums | GaussianSums:
    h, weight, _ = layer
    n_samples, n_rows = len(h if weight is None else weight), h.shape[-2]
    chunk = chunk_for(n_samples, triton.cdiv(n_rows, tile_for(kind.width).rows))
    parts = Parts.new(triton.cdiv(n_samples, chunk), n_rows, kind.width, h.device)
    kind.launch(layer, slice(None), chunk, parts)
    return kind.merged(parts, n_samples, chunk)


class _Shared(NamedTuple):
    """Arguments that both kernels share."""

    tensors: tuple[Tensor, Tensor, Tensor]
    strides: tuple[int, int, int]
    grid: tuple[int]
    constants: dict[str, int | bool]


def _shared(layer: Layer, width: int, chunk: int) -> _Shared:
    h, weight, bias = layer
    tile = tile_for(width)
    h = h.contiguous() if h.ndim == 2 else rows_together(h)
    # Without a layer the kernel reads neither weight nor bias.
    w, b = (h, h) if weight is None or bias is None else (rows_together(weight), rows_together(bias))
    grid = (triton.cdiv(len(w), chunk) * triton.cdiv(h.shape[-2], tile.rows),)
    constants = {"ROWS": tile.rows, "OUTPUTS": tile.outputs, "HIDDEN": tile.hidden, "num_warps": tile.warps}
    strides = (h.stride(0) if h.ndim == 3 else 0, w.stride(0), b.stride(0))
    return _Shared((h, w, b), strides, grid, {"LAYER": weight is not None, **constants})


def _counts(parts: Parts, n_samples: int, chunk: int) -> Tensor:
    """Return how many samples each part is about, [parts, 1, 1]: all of them `chunk` but the last."""
    n_parts = len(parts.last)
    counts = parts.last.new_full((n_parts, 1, 1), chunk, dtype=torch.float64)
    counts[-1] = n_samples - chunk * (n_parts - 1)
    return counts


def _merged(mean: Tensor, squares: Tensor, counts: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
    """Mean and squared deviations of all samples from those of parts, [parts, N, C]; float64."""
    means = mean.double()
    together = (means * counts).sum(dim=0) / n_samples
    between = ((means - together).square() * counts).sum(dim=0)
    return together, squares.double().sum(dim=0) + between

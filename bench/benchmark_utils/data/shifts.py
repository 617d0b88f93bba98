"""Shifted copies of images, computed on the fly: rotation, Gaussian noise and Gaussian blur of stated strength.

All work on raw images, [N, C, H, W] with values from 0 to 1, before they are standardised, and leave the range as
it is. torch alone is used: torchvision's operators fail to load beside a torch of another index.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATIONS = (15.0, 30.0, 45.0, 60.0)  # degrees
NOISES = (0.1, 0.2, 0.3, 0.5)  # standard deviations, of the range 0 to 1
BLURS = (0.5, 1.0, 1.5, 2.0)  # standard deviations, pixels


@dataclass(frozen=True)
class Shift:
    """One way to shift images, at one strength.

    Attributes:
        name: "rotation", "noise" or "blur".
        strength: how much, in `unit`.
        unit: of the strength, in words.
        apply: raw images from 0 to 1 to shifted ones, same shape; always the same for the same images.
    """

    name: str
    strength: float
    unit: str
    apply: Callable[[Tensor], Tensor]


def rotate(x: Tensor, degrees: float) -> Tensor:
    """Return the images turned anticlockwise about their centre, bilinear; what comes in from outside is 0 (black)."""
    angle = math.radians(degrees)
    # affine_grid maps where a pixel goes to where it comes from: the inverse of the rotation, with y downwards.
    turn = [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]
    grid = F.affine_grid(torch.tensor([turn], dtype=x.dtype), [1, *x.shape[1:]], align_corners=False)
    # Rounding may leave an edge pixel outside by 1e-7.
    return F.grid_sample(x, grid.expand(len(x), -1, -1, -1), mode="bilinear", align_corners=False).clamp(0.0, 1.0)


def add_noise(x: Tensor, sd: float, seed: int) -> Tensor:
    """Return the images with independent N(0, sd²) noise on each value, then cut to 0..1 as a camera would."""
    generator = torch.Generator().manual_seed(seed)
    return (x + sd * torch.randn(x.shape, generator=generator, dtype=x.dtype)).clamp(0.0, 1.0)


def blur(x: Tensor, sd: float) -> Tensor:
    """Return the images convolved with a Gaussian of sd pixels, cut at four sd, mirrored at the edges.

    The mirror repeats the edge pixel, so that the mean of an image is kept (as scipy.ndimage's mode "reflect").
    """
    rows, columns = (blur_matrix(size, sd).to(x.dtype) for size in x.shape[-2:])
    return (rows @ x @ columns.T).clamp(0.0, 1.0)


def blur_matrix(size: int, sd: float) -> Tensor:
    """Return the blur of a line of pixels as a matrix, [size, size], float64; rows and columns sum to one."""
    reach = int(4.0 * sd + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sd) ** 2)
    sources = (torch.arange(size)[:, None] + offsets).remainder(2 * size)
    sources = torch.minimum(sources, 2 * size - 1 - sources)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(size, -1))


def standard_shifts(seed: int) -> tuple[Shift, ...]:
    """Return the twelve shifts of every image task, in growing strength; the seed drives the noise."""
    return (
        *(Shift("rotation", value, "degrees", partial(rotate, degrees=value)) for value in ROTATIONS),
        *(
            Shift("noise", value, "standard deviation, range 0 to 1", partial(add_noise, sd=value, seed=seed))
            for value in NOISES
        ),
        *(Shift("blur", value, "standard deviation, pixels", partial(blur, sd=value)) for value in BLURS),
    )

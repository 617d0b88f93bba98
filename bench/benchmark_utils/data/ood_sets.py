"""Out-of-distribution image sets, named and sorted into near and far as OpenOOD does.

Names and distances follow OpenOOD's files configs/datasets/mnist/mnist_ood.yml and cifar10/cifar10_ood.yml
(github.com/Jingkang50/OpenOOD; J. Zhang et al., OpenOOD v1.5, arXiv:2306.09301), where it has the set: for MNIST
near notmnist and fashionmnist, far tin; for CIFAR-10 near cifar100 and tin, far mnist and svhn. Its other sets
(texture, places365) are not used. emnist-letters, font-letters, photo-patches and all sets for Fashion-MNIST, for
which OpenOOD has no list, are ours.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor

from benchmark_utils.data import image_sets
from benchmark_utils.data.image_sources import ImageOrigin, find_images, why_absent
from benchmark_utils.data.synthetic_images import font_letters, photo_patches

Distance = Literal["near", "far"]


@dataclass(frozen=True)
class OodSpec:
    """An out-of-distribution set as data.

    Attributes:
        name: OpenOOD's name where it has the set.
        distance: "near" (same look, other meaning) or "far".
        origin: where its images come from; its part is `part`.
        part: the part of the origin that is drawn from.
        make: instead of an origin, (number, seed) to images [number, H, W, channels], uint8.
    """

    name: str
    distance: Distance
    origin: ImageOrigin | None = None
    part: str = "test"
    make: Callable[[int, int], np.ndarray] | None = None


# Tensors have no single truth value, so a generated __eq__ would raise.
@dataclass(frozen=True, eq=False)
class OodSet:
    """An out-of-distribution set of one task.

    Attributes:
        name: OpenOOD's name where it has the set.
        distance: "near" or "far".
        load: returns its images, [M, C, H, W], float32, on the task's scale; the same at each call.
    """

    name: str
    distance: Distance
    load: Callable[[], Tensor]


@dataclass(frozen=True)
class Scale:
    """What turns uint8 images of any set into a task's inputs.

    Attributes:
        shape: (height, width, channels) of the task's images.
        mean: of the training part, a channel each, on the range 0 to 1.
        sd: of the training part, likewise.
        jpeg: whether images pass through JPEG at quality 75 with halved colour resolution, as those of the task did.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    jpeg: bool = False

    def inputs(self, images: np.ndarray) -> Tensor:
        """Return images [N, H, W, C], uint8, of the task's own shape as standardised float32 [N, C, H, W]."""
        # In place: all of CIFAR-10 takes 0.6 GB already.
        found = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float()
        return found.sub_(255.0 * self._column(self.mean)).div_(255.0 * self._column(self.sd))

    def standardised(self, raw: Tensor) -> Tensor:
        """Return raw images [N, C, H, W] from 0 to 1, standardised by the training part."""
        return (raw - self._column(self.mean)).div_(self._column(self.sd))

    def raw(self, inputs: Tensor) -> Tensor:
        """Return inputs [N, C, H, W] as raw images from 0 to 1."""
        return (inputs * self._column(self.sd) + self._column(self.mean)).clamp(0.0, 1.0)

    @staticmethod
    def _column(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values)[:, None, None]


def fitted(images: np.ndarray, scale: Scale) -> np.ndarray:
    """Return images [N, H, W, C], uint8, in a task's shape: grey or colour, bilinear size, JPEG if it has it."""
    height, width, channels = scale.shape
    mode = "L" if channels == 1 else "RGB"
    fitted_images = np.empty((len(images), *scale.shape), np.uint8)
    for row, image in enumerate(images):
        picture = Picture.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert(mode)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Picture.Resampling.BILINEAR)
        fitted_images[row] = np.asarray(as_jpeg(picture) if scale.jpeg else picture).reshape(scale.shape)
    return fitted_images


def as_jpeg(picture: Picture.Image) -> Picture.Image:
    """Return a picture after JPEG at quality 75 with halved colour resolution (4:2:0)."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=75, subsampling=2)
    return Picture.open(stream)


def load_ood(spec: OodSpec, scale: Scale, size: int, seed: int) -> Tensor:
    """Return at most `size` images of a set, drawn by the seed, as inputs of a task, [M, C, H, W].

    Raises:
        MissingDataError: if no source has the set.
    """
    # Sets of one task are drawn apart, and a set is drawn alike whichever others there are.
    stream = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    if spec.make is not None:
        images = spec.make(size, int(stream.integers(2**31)))
    elif spec.origin is not None:
        content = find_images(spec.origin, spec.part)
        expected = spec.origin.sha256[spec.part]
        if expected is not None and content.sha256 != expected:
            warnings.warn(
                f"out-of-distribution set {spec.name}: the content from {content.source} is not the expected one "
                f"(SHA-256 {content.sha256[:12]}, expected {expected[:12]}): its scores cannot be put beside others",
                stacklevel=2,
            )
        images = content.images[stream.permutation(len(content.images))[:size]]
    else:
        raise ValueError(f"out-of-distribution set {spec.name} has neither an origin nor a maker")
    return scale.inputs(fitted(images, scale))


def ood_sets(
    specs: tuple[OodSpec, ...], scale: Scale, size: int, seed: int
) -> tuple[tuple[OodSet, ...], dict[str, str]]:
    """Return the sets that are at hand, to be loaded when asked for, and why the others are not: name to reason."""
    found, missing = [], {}
    for spec in specs:
        reason = None if spec.origin is None else why_absent(spec.origin, spec.part)
        if reason is None:
            found.append(OodSet(spec.name, spec.distance, partial(load_ood, spec, scale, size, seed)))
        else:
            missing[spec.name] = reason
    return tuple(found), missing


_TIN = partial(OodSpec, "tin", origin=image_sets.TINY_IMAGENET, part="val")
MNIST_SETS = (
    OodSpec("notmnist", "near", image_sets.NOTMNIST),
    OodSpec("fashionmnist", "near", image_sets.FASHION),
    OodSpec("emnist-letters", "near", image_sets.EMNIST_LETTERS),
    _TIN(distance="far"),
)
FASHION_SETS = (
    OodSpec("mnist", "near", image_sets.MNIST),
    OodSpec("notmnist", "near", image_sets.NOTMNIST),
    _TIN(distance="far"),
)
CIFAR10_SETS = (
    OodSpec("cifar100", "near", image_sets.CIFAR100),
    _TIN(distance="near"),
    OodSpec("mnist", "far", image_sets.MNIST),
    OodSpec("svhn", "far", image_sets.SVHN),
)
# For a machine with neither a data folder nor a network: made of what installed packages ship.
OFFLINE_SETS = (
    OodSpec("font-letters", "near", make=font_letters),
    OodSpec("photo-patches", "far", make=photo_patches),
)

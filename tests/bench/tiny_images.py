"""Image tasks so small that every method takes a second: random images whose class is a bright corner."""

from __future__ import annotations

import torch

from benchmark_utils.data.ood_sets import OodSet, Scale
from benchmark_utils.data.shifts import Shift, standard_shifts
from benchmark_utils.tasks.task import Task, Training

SIZES = {"small-tanh-cnn": 28, "lenet": 28, "resnet20-bn": 8, "resnet20-gn-silu": 8}


def tiny_image_task(architecture: str, *, n_train: int = 24, n_test: int = 10, epochs: int = 3, seed: int = 1) -> Task:
    """The task, of four classes; seed 1, since seed 0 keeps arrays for figures."""
    size, channels = SIZES[architecture], 3 if architecture.startswith("resnet") else 1
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.rand(n_train + n_test, channels, size, size, generator=generator)
    y = torch.arange(len(x)) % 4
    half = size // 2
    for row, label in enumerate(y.tolist()):
        x[row, :, half * (label // 2) :, half * (label % 2) :][:, :half, :half] += 0.5
    scale = Scale((size, size, channels), (0.4,) * channels, (0.3,) * channels)
    x = scale.standardised(x)
    foreign = torch.randn(7, channels, size, size, generator=generator)
    return Task(
        "tiny-images", "classification", x[:n_train], y[:n_train], x[n_train:], y[n_train:], (), "", seed,
        "ab" * 32, "ab" * 32, "generated", "none", "none", class_names=("a", "b", "c", "d"),
        architecture=architecture, training=Training(epochs, batch_size=8, learning_rate=0.01), scale=scale,
        ood=(OodSet("noise", "near", foreign.clone),), shifts=two_shifts(), n_shifted=4,
    )  # fmt: skip


def two_shifts() -> tuple[Shift, ...]:
    """One shift of the first and one of the last kind."""
    shifts = standard_shifts(0)
    return shifts[0], shifts[-1]

"""Fits a network of some million weights in a process of its own, and prints what it took, in bytes."""

import json
import re
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import nn

from fiberbnn import AutoencoderSettings, LatentSettings, MetricBNN, WalkSchedule

BATCH = 64  # examples of the training set


def resident(name: str) -> int:
    """Resident memory of this process: VmRSS now, or its peak VmHWM."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def network(width: int) -> nn.Module:
    """Convolutions and linear layers, no plain perceptron."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.GroupNorm(4, 32), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(512, width), nn.SiLU(),
        nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 10),
    )  # fmt: skip


def perceptron(width: int) -> nn.Module:
    """The layers that the operations on perceptrons know."""
    return nn.Sequential(nn.Flatten(), nn.Linear(768, width), nn.Tanh(), nn.Linear(width, 10))


def main(kind: str, width: int, n_particles: int, n_snapshots: int, batch_size: int | None) -> None:
    """Fit, predict, and print as JSON."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, 3, 16, 16), torch.randint(0, 10, (BATCH,))
    model = network(width) if kind == "convolutions" else perceptron(width)[1:]
    x = x if kind == "convolutions" else x.flatten(1)
    posterior = MetricBNN(
        model, "classification", n_particles=n_particles, batch_size=batch_size,
        schedule=WalkSchedule(max_steps=20, min_warmup=5, n_snapshots=n_snapshots),
        latent=LatentSettings(
            rank=16,
            autoencoder=AutoencoderSettings(latent_size=8, batch_points=4, batch_inputs=8, steps=20, max_steps=20),
        ),
    )  # fmt: skip
    weights, batch = posterior.network.weights[None], x[: batch_size or BATCH]
    # Libraries load what they need at first use: that is no part of the fit.
    posterior.network.value_and_grad(weights, batch, lambda outputs: outputs.square().sum())
    before, start = resident("VmRSS"), time.perf_counter()
    posterior.fit((x, y))
    seconds, risen = time.perf_counter() - start, resident("VmHWM") - before
    probabilities = posterior(x, n_samples=20)
    found = {
        "risen": risen,
        "estimate": posterior.memory_estimate(),
        "weights": 4 * posterior.network.n_params,
        "peak": resident("VmHWM"),
        "seconds": seconds,
        "finite": bool(probabilities.isfinite().all()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), int(sys.argv[5]) or None)  # type: ignore[arg-type]

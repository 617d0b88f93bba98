"""Memory of the process: how much is free, and the peak."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fiberbnn_kernels.norms import columns_of

from .basis import CHUNK_BYTES
from .energy import OUTPUTS_AT_ONCE, WEIGHT_BYTES_AT_ONCE
from .moves import COPY_BYTES

if TYPE_CHECKING:
    from .mode import ModeSettings


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device; None where the system does not tell.

    On Linux this is the kernel's MemAvailable, which counts caches that would be given up.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with Path("/proc/meminfo").open() as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None


def peak_mib(device: torch.device) -> float:
    """Return the most memory since the process began, in MiB: resident memory, or that of the allocator on CUDA.

    It is NaN on the CPU of a system that does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def bytes_of_fit(weights: Tensor, n_modes: int, settings: "ModeSettings") -> int:
    """Return the bytes that walks and latent fits from `n_modes` weight vectors [P] hold at most.

    Data and the activations of a batch come on top.
    """
    one, k = weights.numel() * weights.element_size(), settings.n_particles
    snapshots = k * settings.schedule.n_snapshots
    rank = min(settings.latent.rank, snapshots - 1)
    # Particles, velocity, gradient and their successors; weights and gradients once more, as the operations on
    # perceptrons lay them out; a gradient to measure the energy error of a minibatch; preconditioner, sums, anchor.
    walk = (8 * k + (k if settings.batch_size else 0) + 12) * one + 2 * min(k * one, max(one, COPY_BYTES))
    # Samples in float64 for the basis, then points with their decoded twins and gradients, then draws: the last piece
    # of them, the next, and their layout in operations.
    points = settings.latent.autoencoder.batch_points
    training = 6 * points * one if points * one <= CHUNK_BYTES else 8 * one
    fitting = max(3 * min(8 * snapshots * weights.numel(), CHUNK_BYTES), training)
    draws = max(100, snapshots)
    drawing = min(draws * one, 2 * max(one, CHUNK_BYTES))
    drawing += min(OUTPUTS_AT_ONCE * one, max(one, WEIGHT_BYTES_AT_ONCE))
    latent = (rank + 6) * one + max(fitting, drawing)
    kept = (n_modes - 1) * (snapshots + rank + 4) * one
    sums = 16 * min(weights.numel(), columns_of(weights)) * max(k, draws)
    return snapshots * one + max(walk, latent) + kept + sums


def check_fits(needed: int, device: torch.device, advice: str) -> None:
    """Raise MemoryError if `needed` bytes are more than the device has free."""
    free = free_bytes(device)
    if free is not None and needed > free:
        raise MemoryError(
            f"this needs about {needed / 2**30:.1f} GiB, {device} has {free / 2**30:.1f} GiB free: {advice}"
        )

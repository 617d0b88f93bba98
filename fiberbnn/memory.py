"""Memory of the process: how much is free, and the peak."""

import resource
import sys
from pathlib import Path

import torch


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
    """Return the most memory since the process began, in MiB: resident memory, or that of the allocator on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def check_fits(needed: int, device: torch.device, advice: str) -> None:
    """Raise MemoryError if `needed` bytes are more than the device has free."""
    free = free_bytes(device)
    if free is not None and needed > free:
        raise MemoryError(
            f"this needs about {needed / 2**30:.1f} GiB, {device} has {free / 2**30:.1f} GiB free: {advice}"
        )

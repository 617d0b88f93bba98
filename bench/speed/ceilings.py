"""What the machine can do at most: bytes copied and floating-point operations of a matrix product, a second."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch

from bench.speed.timing import seconds_of

# A copy of this much, read and written, is far beyond the caches: 260 MiB on the largest CPU met, 60 MiB on a GPU.
LARGEST = {"cpu": 1 << 30, "cuda": 1 << 32}
SMALLEST = 1 << 16
MATRIX = {"cpu": 1024, "cuda": 8192}


class Work(NamedTuple):
    """What an operation cannot avoid, counted from its formula.

    Attributes:
        bytes: its inputs, each read once, and its results, each written once.
        flops: additions and multiplications of its matrix products; of nothing else.
    """

    bytes: int
    flops: int = 0


class Ceilings:
    """Copy bandwidth by size and rates of matrix products, each measured when it is first asked for."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = perf_counter) -> None:
        self.device, self.clock = device, clock
        self.copies: dict[int, float] = {}
        self.products: dict[torch.dtype, float] = {}

    def copy(self, n_bytes: int) -> float:
        """Return the bytes a second, read and written, of a copy that moves about `n_bytes`: a power of two."""
        size = min(max(1 << (max(n_bytes, 2) - 1).bit_length(), SMALLEST), LARGEST[self.device.type])
        if size not in self.copies:
            source, target = (torch.ones(size // 8, device=self.device) for _ in range(2))
            self.copies[size] = size / seconds_of(lambda: target.copy_(source), self.device, self.clock)
        return self.copies[size]

    def product(self, dtype: torch.dtype) -> float:
        """Return the FLOP a second of a large matrix product."""
        if dtype not in self.products:
            n = MATRIX[self.device.type]
            a, b = (torch.randn(n, n, device=self.device).to(dtype) for _ in range(2))
            out = torch.empty_like(a)
            self.products[dtype] = 2 * n**3 / seconds_of(lambda: torch.mm(a, b, out=out), self.device, self.clock)
        return self.products[dtype]

    def floor(self, work: Work) -> tuple[float, str]:
        """Return the least seconds that the work takes in float32, and which ceiling says so: "copy" or "product"."""
        copied = work.bytes / self.copy(work.bytes)
        multiplied = work.flops / self.product(torch.float32) if work.flops else 0.0
        return max((copied, "copy"), (multiplied, "product"))

    def as_dict(self) -> dict[str, Any]:
        """Return all that was measured, the copy beyond the caches among it; in GB/s and GFLOP/s."""
        self.copy(LARGEST[self.device.type])
        self.product(torch.float32)
        if self.device.type == "cuda":
            self.product(torch.bfloat16)
        return {
            "copy_gb_per_s": {size: rate / 1e9 for size, rate in sorted(self.copies.items())},
            "product_gflop_per_s": {str(dtype)[6:]: rate / 1e9 for dtype, rate in self.products.items()},
        }

"""Particles shared among the processes of `torch.distributed`, as torchrun starts them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Ranks:
    """Which particles this process has, and how it speaks to those that have the others.

    Particles are divided in order: rank 0 has the first. What the walk adapts to is gathered in that order, so that
    every process sees the same numbers as one process alone would.

    Attributes:
        rank: of this process.
        size: number of processes; 1 if there is nobody to speak to.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def present(cls) -> "Ranks":
        """Return those of the default process group if `torch.distributed` is initialised; else this one alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def share_of(self, n_particles: int) -> range:
        """Return the numbers of this process's particles.

        Raises:
            ValueError: if there are fewer particles than processes.
        """
        if n_particles < self.size:
            raise ValueError(f"{n_particles} particles cannot be shared among {self.size} processes: start fewer")
        return range(n_particles * self.rank // self.size, n_particles * (self.rank + 1) // self.size)

    def gather(self, values: Tensor) -> Tensor:
        """Return the rows of all processes' tensors in order, the same on each; their numbers of rows may differ."""
        if self.size == 1:
            return values
        sizes = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(values)], device=values.device))
        rows = [int(size) for size in sizes]
        # One shape for all, as gloo and NCCL both want.
        padded = values.new_zeros(max(rows), *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' tensors; changes `values`."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

"""Perceptrons and data of the sizes that the benchmark has, random, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.speed.ceilings import Work
from fiberbnn_kernels import MLPLayout

# Widths and training rows of Australian, Vehicle and Banana; then nets of a minibatch, for a GPU.
SIZES = {
    "14-50-2": ((14, 50, 2), 552),
    "18-50-4": ((18, 50, 4), 592),
    "2-16-16-2": ((2, 16, 16, 2), 3710),
    "16-16-16-2": ((16, 16, 16, 2), 64),
    "16-32-32-2": ((16, 32, 32, 2), 128),
    "16-64-64-2": ((16, 64, 64, 2), 256),
}
NETS = ("14-50-2", "18-50-4", "2-16-16-2")
# Of gradients and walks, by device: net and particles.
RUNS = {
    "cpu": tuple((net, k) for net in NETS for k in (16, 64, 256)),
    "cuda": (
        *((net, k) for net in NETS for k in (16, 64, 256, 1024)),
        *((net, 128) for net in SIZES if net not in NETS),
    ),
}
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Problem:
    """A classification: layout of the perceptron, inputs [N, D], labels [N]."""

    layout: MLPLayout
    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, size: str, device: torch.device, n_rows: int | None = None) -> Problem:
        """Return random data for a size."""
        widths, rows = SIZES[size]
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(n_rows or rows, widths[0], generator=generator)
        y = torch.randint(widths[-1], (len(x),), generator=generator)
        return cls(MLPLayout(widths), x.to(device), y.to(device))

    def weights(self, count: int) -> Tensor:
        """Return random weight vectors, [count, P]."""
        generator = torch.Generator().manual_seed(1)
        return 0.3 * torch.randn(count, self.layout.n_params, generator=generator).to(self.x.device)

    def module(self) -> nn.Module:
        """Return the perceptron as a module."""
        widths = self.layout.widths
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.Tanh()]
        return nn.Sequential(*layers[:-1]).to(self.x.device)

    def apply(self, module: nn.Module, weights: Tensor, x: Tensor) -> Tensor:
        """Return the outputs for one weight vector [P], through `functional_call`."""
        named, at = {}, 0
        for name, parameter in module.named_parameters():
            named[name] = weights[at : at + parameter.numel()].view(parameter.shape)
            at += parameter.numel()
        return functional_call(module, named, x)

    @property
    def data_bytes(self) -> int:
        """Of inputs and labels."""
        return self.x.nbytes + self.y.nbytes

    def forward_work(self, count: int) -> Work:
        """Return the work of outputs for `count` weight vectors, the outputs not counted."""
        products = 2 * len(self.x) * sum(at.n_in * at.n_out for at in self.layout.layers())
        return Work(FLOAT * count * self.layout.n_params + self.data_bytes, count * products)

    def gradient_work(self, count: int) -> Work:
        """Return the work of gradients: weights are read, gradients written.

        A layer takes a product forward, one back to its weights and, but for the first, one back to its inputs.
        """
        first, *others = (at.n_in * at.n_out for at in self.layout.layers())
        products = 2 * len(self.x) * (2 * first + 3 * sum(others))
        return Work(2 * FLOAT * count * self.layout.n_params + self.data_bytes, count * products)

"""Perceptrons and data of the sizes that the benchmark has, random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fiberbnn_kernels import MLPLayout

# Widths and training rows of Australian, Vehicle and Banana.
SIZES = {"14-50-2": ((14, 50, 2), 552), "18-50-4": ((18, 50, 4), 592), "2-16-16-2": ((2, 16, 16, 2), 3710)}


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


def synchronised(function: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Return the function, waiting for the GPU where there is one."""
    if device.type != "cuda":
        return function

    def waiting() -> Tensor:
        found = function()
        torch.cuda.synchronize(device)
        return found

    return waiting

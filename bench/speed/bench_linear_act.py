"""A linear layer with tanh for every weight sample, against a batched matrix product and the activation after it.

Work: inputs (once, if all samples share them), weights and biases are read, outputs written; one product. Budget: 5e-6
of the length.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from bench.speed.ceilings import Work
from bench.speed.compiled import captured, compiled, needs_cuda
from bench.speed.exact import require_close
from bench.speed.problems import FLOAT
from fiberbnn_kernels import linear_act

BUDGET = 5e-6


class Layer(NamedTuple):
    """A layer's sizes; its inputs are the same for all samples, or each sample's own."""

    samples: int
    rows: int
    n_in: int
    n_out: int
    shared: bool

    def work(self) -> Work:
        """Return what it cannot avoid."""
        inputs = self.rows * self.n_in * (1 if self.shared else self.samples)
        weights = self.samples * self.n_out * (self.n_in + 1)
        outputs = self.samples * self.rows * self.n_out
        return Work(FLOAT * (inputs + weights + outputs), 2 * outputs * self.n_in)


SIZES = {
    "cpu": (Layer(200, 500, 18, 50, True), Layer(32, 500, 64, 64, False), Layer(8, 500, 256, 256, False)),
    "cuda": (
        Layer(1000, 1000, 18, 50, True),
        Layer(1000, 1000, 50, 50, False),
        Layer(256, 4096, 64, 64, False),
        Layer(64, 4096, 256, 256, False),
        Layer(16, 4096, 512, 512, False),
    ),
}


def inputs(layer: Layer, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    s, n, i, o, shared = layer
    x = torch.randn(*(() if shared else (s,)), n, i, device=device)
    return x, torch.randn(s, o, i, device=device) / i**0.5, torch.randn(s, o, device=device)


def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias[:, None], x.expand(len(weight), -1, -1), weight.mT).tanh()


@lru_cache(maxsize=1)
def exact(layer: Layer, device: torch.device) -> Tensor:
    return linear_act(*(tensor.double() for tensor in inputs(layer, device)), "tanh", impl="reference")


@pytest.mark.parametrize("method", ["fiberbnn", "eager", "compiled", "graph of batched products", "reference"])
@pytest.mark.parametrize("number", range(5))
def test_linear_act(measure, sizes, device, number, method) -> None:
    layer = sizes(SIZES, number)
    tensors = inputs(layer, device)
    function = partial(eager, *tensors)
    if method in ("fiberbnn", "reference"):
        function = partial(linear_act, *tensors, "tanh", impl="auto" if method == "fiberbnn" else method)
    if method == "compiled":
        if number != 1:
            pytest.skip("compiled at one size")
        function = partial(compiled(eager, device, *tensors), *tensors)
    if method.startswith("graph") or method == "reference":
        needs_cuda(device)
    if method.startswith("graph"):
        function = captured(function)

    def check(found: Tensor) -> None:
        require_close("outputs", found, exact(layer, device), BUDGET)

    what = f"{'shared' if layer.shared else 'own'} inputs [{layer.rows}, {layer.n_in}]"
    measure(f"layer to {layer.n_out}, {layer.samples} samples, {what}", method, function, layer.work(), check)

"""Weights from their coefficients: all in memory, and a chunk at a time into a prediction.

Work of decoding: offset, directions and coefficients are read, weights written; one product. Of decoding and predicting
the weights are not written, and the perceptron's products come on top. Budget: 1e-6 of the length, 2e-6 of averaged
probabilities.
"""

from functools import lru_cache, partial, reduce

import pytest
import torch
from torch import Tensor

from bench.speed.ceilings import Work
from bench.speed.compiled import captured, compiled, needs_cuda
from bench.speed.exact import require_close
from bench.speed.problems import FLOAT
from fiberbnn_kernels import ClassSums, MLPLayout, decode, decode_chunks, mlp_class_sums

# Perceptron, samples, latent size.
SIZES = {
    "cpu": (((18, 50, 4), 1000, 20), ((64, 256, 256, 10), 256, 32)),
    "cuda": (((18, 50, 4), 1000, 20), ((64, 256, 256, 10), 1000, 64), ((256, 1024, 1024, 10), 1000, 64)),
}
ROWS = 100
METHODS = ("fiberbnn", "eager", "loop", "compiled", "graph")


class Latent:
    """Offset [P], directions [P, r] and coefficients [S, r] of a perceptron."""

    def __init__(self, size: tuple[tuple[int, ...], int, int], device: torch.device) -> None:
        widths, n_samples, rank = size
        self.layout = MLPLayout(widths)
        torch.manual_seed(0)
        n = self.layout.n_params
        offset = 0.1 * torch.randn(n, device=device)
        self.basis = offset, 0.1 * torch.randn(n, rank, device=device) / rank**0.5
        self.coefficients = torch.randn(n_samples, rank, device=device)
        self.x = torch.randn(ROWS, widths[0], device=device)

    def work(self, predicted: bool) -> Work:
        """Return what decoding, and predicting with it, cannot avoid."""
        (n_samples, rank), n = self.coefficients.shape, self.layout.n_params
        read = n * (rank + 1) + n_samples * rank
        flops = 2 * n_samples * n * rank
        if not predicted:
            return Work(FLOAT * (read + n_samples * n), flops)
        products = sum(at.n_in * at.n_out for at in self.layout.layers())
        return Work(FLOAT * read + self.x.nbytes, flops + 2 * n_samples * ROWS * products)

    def __str__(self) -> str:
        samples, rank = self.coefficients.shape
        return f"{samples} times {self.layout.n_params:,} weights from {rank}"


def eager(offset: Tensor, directions: Tensor, coefficients: Tensor) -> Tensor:
    return offset + coefficients @ directions.T


def loop(offset: Tensor, directions: Tensor, coefficients: Tensor) -> Tensor:
    return torch.stack([offset + directions @ c for c in coefficients])


@lru_cache(maxsize=1)
def exact(size: tuple[tuple[int, ...], int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Weights of the first 16 and last 16 samples, and the probabilities averaged over all."""
    latent = Latent(size, device)
    offset, directions, c = (t.double() for t in (*latent.basis, latent.coefficients))
    weights = decode(offset, directions, torch.cat([c[:16], c[-16:]]), impl="reference")
    # Float64 of all weights would be large.
    parts = [
        mlp_class_sums(decode(offset, directions, some, impl="reference"), latent.x.double(), latent.layout)
        for some in c.split(64)
    ]
    return weights, reduce(ClassSums.merge, parts).probs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(3))
def test_decode(measure, sizes, device, number, method) -> None:
    size = sizes(SIZES, number)
    latent = Latent(size, device)
    arguments = (*latent.basis, latent.coefficients)
    way = {"fiberbnn": decode, "loop": loop}.get(method, eager)
    if method == "compiled":
        if number != 1:
            pytest.skip("compiled at one size")
        way = compiled(eager, device, *arguments)
    function = partial(way, *arguments)
    if method == "graph":
        needs_cuda(device)
        function = captured(function)

    def check(found: Tensor) -> None:
        require_close("weights", torch.cat([found[:16], found[-16:]]), exact(size, device)[0], 1e-6)

    measure(f"decode {latent}", method, function, latent.work(False), check)


@pytest.mark.parametrize("method", ["fiberbnn", "in one piece", "loop"])
@pytest.mark.parametrize("number", range(3))
def test_decode_and_predict(measure, sizes, device, number, method) -> None:
    size = sizes(SIZES, number)
    latent = Latent(size, device)
    x, layout = latent.x, latent.layout

    def chunks() -> Tensor:
        pieces = decode_chunks(*latent.basis, latent.coefficients)
        return reduce(ClassSums.merge, (mlp_class_sums(weights, x, layout) for _, weights in pieces)).probs

    def in_one_piece() -> Tensor:
        return mlp_class_sums(decode(*latent.basis, latent.coefficients), x, layout).probs

    def one_by_one() -> Tensor:
        pieces = decode_chunks(*latent.basis, latent.coefficients, chunk_bytes=1)
        return reduce(ClassSums.merge, (mlp_class_sums(weights, x, layout) for _, weights in pieces)).probs

    def check(found: Tensor) -> None:
        require_close("probabilities", found, exact(size, device)[1], 2e-6)

    function = {"fiberbnn": chunks, "in one piece": in_one_piece, "loop": one_by_one}[method]
    measure(f"decode and predict {ROWS} rows, {latent}", method, function, latent.work(True), check)

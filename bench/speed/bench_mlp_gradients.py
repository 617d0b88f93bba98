"""Gradients of perceptrons for many particles: the walk's own operation against `vmap(grad)` and a loop."""

import pytest
import torch
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from bench.speed.problems import SIZES, Problem, synchronised
from fiberbnn_kernels import mlp_nll_and_grad

PARTICLES = (16, 64, 256)


@pytest.mark.parametrize("method", ["fiberbnn", "vmap(grad)", "loop"])
@pytest.mark.parametrize("n_particles", PARTICLES)
@pytest.mark.parametrize("size", SIZES)
def test_gradients(benchmark, device, size, n_particles, method) -> None:
    problem = Problem.of(size, device)
    weights, module = problem.weights(n_particles), problem.module()

    def nll(w: torch.Tensor) -> torch.Tensor:
        return cross_entropy(problem.apply(module, w, problem.x), problem.y, reduction="sum")

    def ours() -> torch.Tensor:
        return mlp_nll_and_grad(weights, problem.x, problem.y, problem.layout, likelihood="categorical")[1]

    def loop() -> torch.Tensor:
        return torch.stack([grad(nll)(w) for w in weights])

    ways = {"fiberbnn": ours, "vmap(grad)": lambda: vmap(grad(nll))(weights), "loop": loop}
    torch.testing.assert_close(ways[method](), ours(), rtol=2e-3, atol=2e-3)
    benchmark.group = f"gradients {size}, {n_particles} particles"
    benchmark(synchronised(ways[method], device))

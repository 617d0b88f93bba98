"""Gradients of perceptrons for many particles: the walk's own operation against other ways to them.

Budget: a float32 gradient is within 2e-5 of its length.
"""

from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor

from bench.speed import gradient_baselines as baselines
from bench.speed.compiled import captured, compiled, needs_cuda
from bench.speed.exact import require_close
from bench.speed.problems import RUNS, Problem
from fiberbnn_kernels import mlp_nll_and_grad

BUDGET = 2e-5
# On a GPU fewer than of the walk, which takes such gradients or a kernel of its own.
HERE = RUNS | {"cuda": tuple(run for run in RUNS["cuda"] if run[1] in (64, 128, 1024))}
METHODS = (
    "fiberbnn", "fused", "reference", "vmap(grad)", "loop", "batched products", "compiled vmap(grad)",
    "graph of batched products",
)  # fmt: skip


@lru_cache(maxsize=1)
def exact(net: str, n_particles: int, device: torch.device) -> tuple[Tensor, Tensor]:
    problem = Problem.of(net, device)
    x, y, weights = problem.x.double(), problem.y, problem.weights(n_particles).double()
    return mlp_nll_and_grad(weights, x, y, problem.layout, likelihood="categorical", impl="reference")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(max(map(len, HERE.values()))))
def test_gradients(measure, sizes, device, number, method) -> None:
    net, n_particles = sizes(HERE, number)
    problem = Problem.of(net, device)
    weights = problem.weights(n_particles)
    if method in ("fused", "reference"):
        needs_cuda(device)
    if method in ("fiberbnn", "fused", "reference"):
        impl = "auto" if method == "fiberbnn" else method
        way = partial(
            mlp_nll_and_grad, x=problem.x, y=problem.y, layout=problem.layout, likelihood="categorical", impl=impl
        )  # fmt: skip
    elif method == "vmap(grad)":
        way = baselines.mapped(problem)
    elif method == "loop":
        if n_particles > 256:
            pytest.skip("a loop of 1,000 takes too long")
        way = baselines.looped(problem)
    elif method == "compiled vmap(grad)":
        if n_particles != 64 or net != "14-50-2":
            pytest.skip("compiled at one size")
        way = compiled(baselines.mapped(problem), device, weights)
    else:
        way = baselines.batched(problem, n_particles)
    function = partial(way, weights)
    if method.startswith("graph"):
        needs_cuda(device)
        function = captured(function)

    def check(found: tuple[Tensor, Tensor]) -> None:
        for name, one, other in zip(("NLL", "gradient"), found, exact(net, n_particles, device), strict=True):
            require_close(name, one, other, BUDGET)

    work = problem.gradient_work(n_particles)
    measure(f"gradients {net}, {n_particles} particles", method, function, work, check)

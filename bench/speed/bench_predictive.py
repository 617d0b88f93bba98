"""Class probabilities averaged over a thousand weight samples, without their logits; other ways hold them all, or loop.

Work of a perceptron: weights and inputs are read, the averages written; the products of all layers. Of the last layer
alone: hidden features and its weights are read. Budget: 2e-6 of the length, of averages over samples.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from bench.speed.ceilings import Work
from bench.speed.compiled import compiled, needs_cuda
from bench.speed.exact import require_close
from bench.speed.gradient_baselines import outputs_of
from bench.speed.problems import FLOAT, NETS, Problem
from fiberbnn_kernels import class_sums, gaussian_sums, mlp_class_sums

BUDGET, SAMPLES = 2e-6, 1000
RUNS = {
    "cpu": tuple((net, 1000) for net in NETS),
    "cuda": (*((net, 1000) for net in NETS), *((net, 10_000) for net in NETS)),
}
# Samples, rows, hidden features, outputs.
LAST = {"cpu": ((100, 1000, 50, 4), (100, 1000, 64, 10)), "cuda": ((1000, 1000, 50, 4), (1000, 10_000, 64, 10))}
METHODS = ("fiberbnn", "loop", "vmap, all logits", "batched products, all logits", "compiled", "reference")


@lru_cache(maxsize=1)
def exact(net: str, n_rows: int, device: torch.device) -> Tensor:
    problem = Problem.of(net, device, n_rows)
    weights, x = problem.weights(SAMPLES).double(), problem.x.double()
    return mlp_class_sums(weights, x, problem.layout, impl="reference").probs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(6))
@torch.no_grad()
def test_predictive(measure, sizes, device, number, method) -> None:
    net, n_rows = sizes(RUNS, number)
    problem = Problem.of(net, device, n_rows)
    weights, module = problem.weights(SAMPLES), problem.module()

    def loop(weights: Tensor) -> Tensor:
        total = torch.zeros(n_rows, problem.layout.widths[-1], device=device)
        for w in weights:
            total += problem.apply(module, w, problem.x).softmax(-1)
        return total / SAMPLES

    def mapped(weights: Tensor) -> Tensor:
        return vmap(lambda w: problem.apply(module, w, problem.x))(weights).softmax(-1).mean(0)

    def batched(weights: Tensor) -> Tensor:
        return outputs_of(problem, weights).softmax(-1).mean(0)

    if method in ("fiberbnn", "reference"):
        if method == "reference":
            needs_cuda(device)
        impl = "auto" if method == "fiberbnn" else "reference"
        way: Callable[[Tensor], Tensor] = lambda w: mlp_class_sums(w, problem.x, problem.layout, impl=impl).probs  # noqa: E731
    elif method == "compiled":
        if number:
            pytest.skip("compiled at one size")
        way = compiled(batched, device, weights)
    else:
        way = {"loop": loop, "vmap, all logits": mapped, "batched products, all logits": batched}[method]

    def check(found: Tensor) -> None:
        require_close("probabilities", found, exact(net, n_rows, device), BUDGET)

    work = problem.forward_work(SAMPLES)
    work = work._replace(bytes=work.bytes + FLOAT * n_rows * problem.layout.widths[-1])
    measure(f"predictive {net}, {SAMPLES} samples, {n_rows} rows", method, partial(way, weights), work, check)


def eager_classes(h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    log_p = torch.baddbmm(bias[:, None], h, weight.mT).log_softmax(-1)
    p = log_p.exp()
    return p.mean(0), -(p * log_p).sum((0, 2))


def eager_means(h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    outputs = torch.baddbmm(bias[:, None], h, weight.mT)
    return outputs.mean(0), outputs.var(0, correction=0) * len(outputs)


def fused_classes(h: Tensor, weight: Tensor, bias: Tensor, impl: str = "auto") -> tuple[Tensor, Tensor]:
    sums = class_sums(h, weight, bias, impl=impl)
    return sums.probs, sums.entropy


def fused_means(h: Tensor, weight: Tensor, bias: Tensor, impl: str = "auto") -> tuple[Tensor, Tensor]:
    noise = torch.ones(weight.shape[1], dtype=h.dtype, device=h.device)
    sums = gaussian_sums(h, weight, bias, noise_variance=noise, impl=impl)
    return sums.mean, sums.squares


WAYS = {"classes": (fused_classes, eager_classes), "means": (fused_means, eager_means)}


@pytest.mark.parametrize("method", ["fiberbnn", "eager", "reference"])
@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("number", range(2))
def test_last_layer(measure, sizes, device, number, kind, method) -> None:
    n_samples, n_rows, n_hidden, n_out = sizes(LAST, number)
    torch.manual_seed(0)
    h = torch.randn(n_samples, n_rows, n_hidden, device=device)
    weight, bias = (
        torch.randn(n_samples, n_out, n_hidden, device=device) / n_hidden**0.5,
        torch.randn(n_samples, n_out, device=device),
    )
    ours, eager = WAYS[kind]
    if method == "reference":
        needs_cuda(device)
    way = eager if method == "eager" else partial(ours, impl="auto" if method == "fiberbnn" else method)

    def check(found: tuple[Tensor, Tensor]) -> None:
        # A few rows: all features in float64 would be large.
        for rows in (slice(0, 50), slice(n_rows - 50, n_rows)):
            expected = ours(h[:, rows].double(), weight.double(), bias.double(), impl="reference")
            for name, one, other in zip(("mean", "spread"), found, expected, strict=True):
                require_close(f"{name} of {kind}", one[rows], other, BUDGET)

    size = FLOAT * (h.numel() + weight.numel() + bias.numel())
    work = Work(size, 2 * n_samples * n_rows * n_hidden * n_out)
    name = f"{kind} of a last layer [{n_hidden}, {n_out}], {n_samples} samples, {n_rows} rows"
    measure(name, method, partial(way, h, weight, bias), work, check)

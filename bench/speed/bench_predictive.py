"""Class probabilities averaged over a thousand weight samples, without their logits, against a loop over modules."""

import pytest
import torch

from bench.speed.problems import SIZES, Problem, synchronised
from fiberbnn_kernels import mlp_class_sums, mlp_forward

SAMPLES, ROWS = 1000, 1000


@pytest.mark.parametrize("method", ["fiberbnn", "all logits", "loop"])
@pytest.mark.parametrize("size", SIZES)
def test_predictive(benchmark, device, size, method) -> None:
    problem = Problem.of(size, device, ROWS)
    weights, module = problem.weights(SAMPLES), problem.module()

    def ours() -> torch.Tensor:
        return mlp_class_sums(weights, problem.x, problem.layout).probs.float()

    def all_logits() -> torch.Tensor:
        return mlp_forward(weights, problem.x, problem.layout).softmax(-1).mean(0)

    def loop() -> torch.Tensor:
        total = torch.zeros(ROWS, problem.layout.widths[-1], device=device)
        for w in weights:
            total += problem.apply(module, w, problem.x).softmax(-1)
        return total / SAMPLES

    ways = {"fiberbnn": ours, "all logits": all_logits, "loop": loop}
    with torch.no_grad():
        torch.testing.assert_close(ways[method](), ours(), rtol=1e-4, atol=1e-5)
        benchmark.group = f"predictive {size}, {SAMPLES} samples, {ROWS} rows"
        benchmark(synchronised(ways[method], device))

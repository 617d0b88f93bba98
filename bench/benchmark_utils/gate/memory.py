"""Memory: how far the process grows at the peak of a walk, and of a prediction by many draws of a larger network.

Rows of the benchmark have such a peak too, of every method; their networks are so small that what the worker did before
weighs more. Here one sample of the weights is a third of a MiB, and holding all of them at once would show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

import torch

from bench.speed.problems import Problem
from benchmark_utils.cost import Meter
from benchmark_utils.gate.check import Check, judged
from benchmark_utils.gate.workloads import latent_of, walk_of
from fiberbnn import Categorical, Energy, LatentPosterior, Network
from fiberbnn.predictive import averaged
from fiberbnn_kernels import MLPLayout

WIDTHS, ROWS, PARTICLES, STEPS, DRAWS = (64, 256, 256, 10), 100, 30, 4, 500
MOST, FLOOR_MIB = 1.25, 8.0  # a rise by a quarter, if it is more than the allocator's own differences


def measured() -> dict[str, float]:
    """Return the rise of each workload, MiB, the median of three; NaN where the system does not tell."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTHS[0], generator=generator)
    problem = Problem(MLPLayout(WIDTHS), x, torch.randint(WIDTHS[-1], (ROWS,), generator=generator))
    network, likelihood = Network(problem.module()), Categorical()
    energy = Energy(network, likelihood, problem.x, problem.y, 1.0)
    first = 0.3 * problem.weights(1)[0]
    walked = walk_of(energy, first, STEPS, PARTICLES)
    latent = latent_of(walked, energy)

    def predict(latent: LatentPosterior = latent) -> object:
        return averaged(network, likelihood, latent.pieces(DRAWS, seed=1), problem.x)

    return {
        f"walk of {PARTICLES} particles, {len(first):,} weights": _rise(
            lambda: walk_of(energy, first, STEPS, PARTICLES)
        ),
        f"predictive of {DRAWS} draws, {len(first):,} weights": _rise(predict),
    }


def memory_checks(baseline: dict[str, float], found: dict[str, float]) -> list[Check]:
    """Return a check for each workload; rises in MiB."""
    checks = []
    for name, rise in found.items():
        before = baseline.get(name, math.nan)
        if math.isnan(before) or math.isnan(rise):
            remark = "not in the baseline" if math.isnan(before) else "this system does not tell the peak of a process"
            checks.append(Check("memory", name, "note", before, rise, remark=remark))
            continue
        most = max(MOST * before, before + FLOOR_MIB)
        checks.append(
            Check("memory", name, judged(rise, rise, most), before, rise, rise, rise, f"at most {most:.0f} MiB")
        )
    return checks


def _rise(function: Callable[[], object]) -> float:
    """The rise of the process in one call, MiB."""
    rises = []
    for _ in range(3):
        with Meter() as meter:
            function()
        rises.append(meter.peak_rise_mib)
    return median(rises)

"""Memory: how far a process grows at the peak of a walk, and of a prediction by many draws of a larger network.

Rows of the benchmark have such a peak too, of every method; their networks are so small that what the worker did before
weighs more. Here one sample of the weights is a third of a MiB, and holding all of them at once would show. It is
measured in a process of its own, whose allocator hands every large block back at once: otherwise what was freed before
decides how far the process has to grow.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable

import torch

from bench.speed.problems import Problem
from benchmark_utils.gate.check import Check, judged
from benchmark_utils.gate.workloads import latent_of, walk_of
from benchmark_utils.rows.cost import Meter
from fiberbnn import Categorical, Energy, Network
from fiberbnn.predictive import averaged
from fiberbnn_kernels import MLPLayout

WIDTHS, ROWS, PARTICLES, STEPS, DRAWS = (64, 256, 256, 10), 100, 20, 2, 500
MOST, FLOOR_MIB = 1.25, 8.0  # a rise by a quarter, if it is more than the allocator's own differences
# glibc's thresholds move with what is freed, unless they are set.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "0"}


def measured() -> dict[str, float]:
    """Return the rise of each workload in a new process, MiB; NaN where the system does not tell.

    Raises:
        RuntimeError: if that process fails; the message has its last words.
    """
    command = [sys.executable, "-W", "ignore", "-m", __name__]
    environment = os.environ | ALLOCATOR | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"memory could not be measured: {done.stderr[-500:]}")
    return {name: float(rise) for name, rise in json.loads(done.stdout.splitlines()[-1]).items()}


def memory_checks(baseline: dict[str, float], found: dict[str, float]) -> list[Check]:
    """Return a check for each workload; rises in MiB."""
    gone = [name for name in baseline if name not in found] if found else []  # nothing at all: it was not measured
    checks = [Check("memory", name, "fail", remark="no longer measured: the baseline has it") for name in gone]
    for name, rise in found.items():
        before = baseline.get(name, math.nan)
        if math.isnan(before) or math.isnan(rise):
            remark = "not in the baseline" if math.isnan(before) else "this system does not tell the peak of a process"
            checks.append(Check("memory", name, "note", before, rise, remark=remark))
            continue
        most = max(MOST * before, before + FLOOR_MIB)
        limit = f"at most {most:.0f} MiB"
        checks.append(Check("memory", name, judged(rise, rise, most), before, rise, rise, rise, limit))
    return checks


def rises() -> dict[str, float]:
    """Return the rise of each workload in this process, MiB."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTHS[0], generator=generator)
    problem = Problem(MLPLayout(WIDTHS), x, torch.randint(WIDTHS[-1], (ROWS,), generator=generator))
    network, likelihood = Network(problem.module()), Categorical()
    energy = Energy(network, likelihood, problem.x, problem.y, 1.0)
    first = 0.3 * problem.weights(1)[0]
    walked = walk_of(energy, first, STEPS, PARTICLES)
    latent = latent_of(walked, energy)
    return {
        f"walk of {PARTICLES} particles, {len(first):,} weights": _rise(
            lambda: walk_of(energy, first, STEPS, PARTICLES)
        ),
        f"predictive of {DRAWS} draws, {len(first):,} weights": _rise(
            lambda: averaged(network, likelihood, latent.pieces(DRAWS, seed=1), problem.x)
        ),
    }


def _rise(function: Callable[[], object]) -> float:
    """The rise of the process in a call that is not its first, MiB."""
    function()
    with Meter() as meter:
        function()
    return meter.peak_rise_mib


if __name__ == "__main__":
    print(json.dumps(rises()))

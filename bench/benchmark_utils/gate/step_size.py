"""The walk's step size on a task that the gate fits itself: what no row shows, because the walk makes up for it.

The walk steers its step size to an acceptance. If steps become twice as long for the same number, it halves the number,
predicts as before, and only the number tells; if the first step is twice as long, some steps of the warm-up are lost.
"""

from __future__ import annotations

import math

from benchmark_utils.gate.check import Check, Verdict, judged
from benchmark_utils.tasks.known import load_task
from benchmark_utils.tasks.shared_map import shared_energy, train_map
from fiberbnn import walk_from

TASK, SEED, PARTICLES = "gap-1-15-1", 0, 30  # generated data, and 46 weights
MOST = 1.3  # either way


def measured() -> dict[str, float]:
    """Return the first step size and the mean of the walk's second half, in preconditioned units."""
    task = load_task(TASK, SEED)
    fit = train_map(task)
    walk = walk_from(shared_energy(task, fit), fit.weights, n_particles=PARTICLES, seed=SEED)
    history = walk.history.double()
    later = history[len(history) // 2 :].mean(0)
    return {"first step size": float(history[0, 3]), "settled step size": float(later[3])}


def step_size_checks(baseline: dict[str, float], found: dict[str, float]) -> list[Check]:
    """Return a check for each number: its ratio to the baseline's."""
    checks = []
    for name in {**baseline, **found} if found else ():  # nothing at all: it was not measured
        before, value = baseline.get(name, math.nan), found.get(name, math.nan)
        ratio = value / before
        if math.isnan(before):
            verdict: Verdict = "note"
        else:
            verdict = "fail" if math.isnan(value) else judged(ratio, ratio, MOST, 1 / MOST)
        limit = f"within a factor {MOST} of the baseline's"
        checks.append(Check("walk", f"{name} on {TASK}", verdict, before, value, ratio, ratio, limit))
    return checks

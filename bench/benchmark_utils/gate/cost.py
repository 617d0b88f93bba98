"""What the runs of the benchmark cost that does not depend on the machine: gradients, and memory at the peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark_utils.gate.bootstrap import mean_interval
from benchmark_utils.gate.check import Check, judged


@dataclass(frozen=True)
class CostRule:
    """A cost that may rise by a share of itself, but for the floor; see `calibration.Rule`."""

    column: str
    least: float
    share: float


# Gradients of methods that stop by themselves vary by a seventh. Memory of a worker that has done other runs before
# varies by tens of MiB: the gate's own workload (memory.py) measures it better, this sees all methods.
RULES = (CostRule("gradients", 50, 0.25), CostRule("peak_rise_mib", 64, 0.5))


def cost_checks(both: pd.DataFrame) -> list[Check]:
    """Return a check for each cost, method and task: the mean rise over seeds against its floor."""
    return [
        _of_task(rule, f"{rule.column}: {label} on {task}", runs)
        for rule in RULES
        if f"{rule.column}_baseline" in both
        for (label, task), runs in both.groupby(["label", "task"])
        if runs[f"{rule.column}_baseline"].notna().all()
    ]


def _of_task(rule: CostRule, what: str, runs: pd.DataFrame) -> Check:
    if rule.column not in runs or runs[rule.column].isna().any():
        return Check("cost", what, "fail", remark="no value any more")
    before, after = (runs[name].to_numpy(float) for name in (f"{rule.column}_baseline", rule.column))
    floor = max(rule.least, rule.share * float(before.mean()))
    low, high = mean_interval([after - before])
    verdict = judged(low, high, floor)
    if verdict == "fail" and len(runs) == 1:
        verdict = "inconclusive"
    limit = f"at most +{floor:.3g}"
    return Check("cost", what, verdict, float(np.mean(before)), float(np.mean(after)), low, high, limit)

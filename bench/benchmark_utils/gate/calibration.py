"""Calibration: paired differences from the baseline over seeds and tasks, held against a floor of their own size.

A difference is judged twice: for each method and task, over seeds, so that one task cannot drown in the mean of all;
and for each method over all its tasks, against half the floor, which more pairs can resolve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark_utils.gate.bootstrap import mean_interval
from benchmark_utils.gate.check import Check, judged


@dataclass(frozen=True)
class Rule:
    """What may change, and by how much.

    The floor of a task is the larger of a number and `share` of the baseline's mean there. docs/gate.md tells what the
    numbers were measured with.

    Attributes:
        column: of the rows; lower is better, but for the energy ratio.
        classification: floor of classification tasks, in the column's unit.
        regression: floor of regression tasks, whose spread in the gap varies more.
        share: of the absolute value of the baseline.
        two_sided: whether a fall is as bad as a rise: an energy ratio is neither good high nor low, and an ECE that
            falls by more than the floor is more likely another definition than a better method.
    """

    column: str
    classification: float
    regression: float
    share: float
    two_sided: bool = False

    def floor(self, kind: str, baseline: float) -> float:
        """Return what a mean difference on a task of this kind has to exceed, given the baseline's mean."""
        return max(self.regression if kind == "regression" else self.classification, self.share * abs(baseline))


RULES = (
    Rule("nll", 0.01, 0.06, 0.1),
    Rule("ece", 0.025, 0.025, 0.25, two_sided=True),
    Rule("energy_ratio", 0.15, 0.15, 0.2, two_sided=True),
    Rule("tv_hmc", 0.008, 0.03, 0.25),
    Rule("tv_walk", 0.008, 0.03, 0.25),
)
OVER_TASKS = 0.5  # of the floor, where a method is judged over all its tasks


def calibration_checks(both: pd.DataFrame) -> list[Check]:
    """Return the checks of all methods; see the top of the file.

    Args:
        both: what can be compared, as `pairs.compared` gives it.
    """
    return [check for rule in RULES for label, runs in both.groupby("label") for check in _of_method(rule, label, runs)]


def _of_method(rule: Rule, label: str, runs: pd.DataFrame) -> Iterator[Check]:
    """Checks of one quantity of one method: a task each, and all together."""
    if f"{rule.column}_baseline" not in runs:
        return
    before = runs[f"{rule.column}_baseline"]
    after = runs[rule.column] if rule.column in runs else before * math.nan
    for task, lost in (before.notna() & after.isna()).groupby(level="task"):
        if lost.any():
            yield Check("calibration", f"{rule.column}: {label} on {task}", "fail", remark="no value any more")
    there = before.notna() & after.notna()
    frame = pd.DataFrame({"b": before, "f": after, "kind": runs["kind"]})[there]
    pairs = dict(list(frame.groupby(level="task")))
    tasks = list(pairs.values())
    floors = [rule.floor(task["kind"].iloc[0], float(task["b"].mean())) for task in tasks]
    for (name, task), floor in zip(pairs.items(), floors, strict=True):
        yield _judged(rule, f"{rule.column}: {label} on {name}", [task], floor)
    if len(tasks) > 1:
        floor = OVER_TASKS * float(np.mean(floors))
        yield _judged(rule, f"{rule.column}: {label}, all {len(tasks)} tasks", tasks, floor)


def _judged(rule: Rule, what: str, tasks: list[pd.DataFrame], floor: float) -> Check:
    """One check: the interval of the mean difference against a floor."""
    differences = [(task["f"] - task["b"]).to_numpy() for task in tasks]
    low, high = mean_interval(differences)
    verdict = judged(low, high, floor, -floor if rule.two_sided else -math.inf)
    remark = ""
    if verdict == "fail" and sum(map(len, differences)) == 1:
        verdict, remark = "inconclusive", "one pair has no interval: run more seeds"
    elif not rule.two_sided and high < -floor:
        remark = "better: record it in the baseline, or it may be lost again unseen"
    elif verdict == "fail" and high < -floor:
        remark = "lower: better or another definition; record it in the baseline if it is meant"
    limit = f"{'within ±' if rule.two_sided else 'at most +'}{floor:.3g}"
    before, after = (float(np.mean([task[side].mean() for task in tasks])) for side in ("b", "f"))
    return Check("calibration", what, verdict, before, after, low, high, limit, remark)

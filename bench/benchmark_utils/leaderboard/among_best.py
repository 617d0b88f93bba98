"""Among the best: whoever is not told apart from the best of its task by paired differences over the seeds.

A method's spread over seeds is mostly that of the splits, which all methods share. The difference of two methods on the
same splits is free of it, so what is judged is the mean difference, by its t-interval. That takes the seeds as
independent, which splits of one data set are not quite, and knows nothing of the number of methods: it is a mark for
reading a table. Claims over many data sets are the ranks'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from benchmark_utils.leaderboard.quantities import Quantity

CONFIDENCE = 0.95
FEWEST = 3  # seeds in common: of two, a t-interval is 18 standard deviations wide
LOST = ("failed", "diverged")


def among_best(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which methods are the best or not told to be worse, a truth value a method.

    Seeds that all methods lost do not count. The best has the lowest mean of the methods that lost no other seed and
    were run on most. Another is among the best if it lost no seed either and `is_told_worse` does not hold of its
    differences from the best on the seeds of both. One method alone is not the best.

    Args:
        losses: [seeds, methods], lower is better; infinity where a run was lost, NaN where there was none.
    """
    marked = np.zeros(losses.shape[1], dtype=bool)
    losses = losses[np.isfinite(losses).any(axis=1)]
    there = np.isfinite(losses)
    n_seeds = np.where(np.isposinf(losses).any(axis=0), 0, there.sum(axis=0))
    if there.any(axis=0).sum() < 2 or not n_seeds.any():
        return marked
    fullest = np.flatnonzero(n_seeds == n_seeds.max())
    best = fullest[np.nanmean(losses[:, fullest], axis=0).argmin()]
    for method in np.flatnonzero(n_seeds):
        both = there[:, method] & there[:, best]
        marked[method] = both.any() and not is_told_worse(losses[both, method] - losses[both, best])
    return marked


def is_told_worse(differences: NDArray[np.float64]) -> bool:
    """Return whether losses are not shown to be as good as those of the best, from their differences seed by seed.

    They are not if the two-sided 95 % t-interval of the mean difference lies above 0, and below FEWEST seeds unless all
    differences are 0.
    """
    if not differences.any():
        return False
    n = len(differences)
    if n < FEWEST:
        return True
    return bool(differences.mean() - _quantile(n) * differences.std(ddof=1) / math.sqrt(n) > 0)


@lru_cache
def _quantile(n: int) -> float:
    """How many standard errors of a mean of n the interval reaches to each side."""
    return float(t.ppf((1 + CONFIDENCE) / 2, n - 1))


def mark_best(entries: Sequence[dict[str, Any]], rows: pd.DataFrame, metrics: Sequence[Quantity]) -> None:
    """Write to each entry `among_best`: the columns of the metrics in which it is among the best of its task.

    Args:
        entries: of one run.
        rows: of that run.
        metrics: those that the entries may have.
    """
    for task, own in rows[rows["status"] != "skipped"].groupby("task", sort=False):
        on_task = [entry for entry in entries if entry["task"] == task]
        column_of = {(entry["method"], entry["settings"]): i for i, entry in enumerate(on_task)}
        seeds, at_seed = np.unique(own["seed"], return_inverse=True)
        at_method = [column_of[key] for key in zip(own["method"], own["settings"], strict=True)]
        lost = own["status"].isin(LOST)
        kind = next((kind for kind in own["kind"] if kind), "")
        for metric in metrics:
            # Classification and regression may each define a column.
            if kind not in metric.kinds or not any(metric.column in entry["values"] for entry in on_task):
                continue
            # What finished without a number is lost too: others have one on that seed, or the seed does not count.
            loss = metric.loss(own[metric.column]).where(~lost).fillna(np.inf)
            losses = np.full((len(seeds), len(on_task)), np.nan)
            losses[at_seed, at_method] = loss
            for entry, is_marked in zip(on_task, among_best(losses), strict=True):
                if is_marked:
                    entry["among_best"].append(metric.column)

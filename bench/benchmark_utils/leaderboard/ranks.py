"""Average ranks over data sets, and how far apart they must be: Demsar, JMLR 7, 2006.

A block, in which methods are ranked, is a data set, its seeds averaged: seeds of one data set share most of their rows,
so counting each as a block would make any difference look certain. Tasks on the same data (other networks) are one
block too, the mean of their ranks. A run that failed or diverged ranks last; a method that was skipped or not run
somewhere cannot be ranked there, so ranks are over the blocks that all ranked methods share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

from benchmark_utils.leaderboard.among_best import LOST
from benchmark_utils.leaderboard.quantities import Quantity
from benchmark_utils.leaderboard.repository import chief_runs, is_own
from benchmark_utils.leaderboard.standing import default_settings, stands_for

ALPHA = 0.05
RANKED = {"classification": ("nll", "ece", "brier", "accuracy"), "regression": ("nll", "crps", "rmse")}
FEWEST = 2  # methods, and blocks


def make_ranks(rows_by_run: Mapping[str, pd.DataFrame], metrics: list[Quantity]) -> list[dict[str, Any]]:
    """Return the average ranks of each metric and kind of task for which there are two blocks and two methods.

    Returns:
        JSON-able; see make_board. Beyond what the page shows: the tasks of each block, the runs that they are
        taken from, the p-value of Friedman's test
        that all methods rank alike (None below three methods), and the methods and tasks left out.
    """
    every = pd.concat([rows.assign(run=run) for run, rows in rows_by_run.items()], ignore_index=True)
    chosen = standing_rows(every)
    data = every[every["dataset_sha256"] != ""].drop_duplicates("task").set_index("task")["dataset_sha256"]
    found = []
    for kind, columns in RANKED.items():
        for metric in metrics:
            if metric.column not in columns or kind not in metric.kinds or metric.column not in chosen:
                continue
            table = losses(chosen, metric, kind)
            kept = largest_complete(table)
            if len(kept.columns) < FEWEST or data[kept.index].nunique() < FEWEST:
                continue
            ranks = block_ranks(kept, data)
            means = ranks.mean().sort_values(kind="stable")
            friedman = friedmanchisquare(*ranks.to_numpy().T).pvalue if len(means) > 2 else math.nan
            found.append(
                {
                    "metric": metric.column,
                    "id": metric.id,
                    "kind": kind,
                    "methods": [
                        {"method": name, "label": name, "mean_rank": float(rank)} for name, rank in means.items()
                    ],
                    "critical_difference": critical_difference(len(means), len(ranks)),
                    "n_blocks": len(ranks),
                    "alpha": ALPHA,
                    "friedman_p": float(friedman) if math.isfinite(friedman) else None,
                    "tasks": list(kept.index),
                    "runs": [run for run in rows_by_run if run in _runs_of(chosen, kept)],
                    "left_out": {
                        "methods": [name for name in table if name not in kept],
                        "tasks": [name for name in table.index if name not in kept.index],
                    },
                }
            )
    return found


def what_ranks_are_over(ranks: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> str:
    """Return a sentence on the runs that ranks are of, and that the headline's are of one alone; "" without ranks.

    Args:
        ranks: as make_ranks gives them.
        runs: every run of the board.
    """
    taken = [run for run in runs if any(run in each["runs"] for each in ranks)]
    if not taken:
        return ""
    if len(taken) == 1:
        said = f"Ranks over the data sets of the run {taken[0]}"
    else:
        said = f"Ranks over the data sets of the runs {', '.join(taken)} together, each task once"
    chief = chief_runs(runs)
    if not chief or taken == chief[:1]:
        return f"{said}."
    return f"{said}; the headline's are over those of {chief[0]} alone, so methods and numbers differ."


def standing_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that stand for each method on each task: one variant, one run, the same seeds for all.

    A task's seeds are those of the repository's own run in which most methods took part, then of the one with most
    seeds; of somebody else's only where the repository has none. A method that took no part there is taken from
    another run, if that has all these seeds.

    Args:
        rows: of all runs, with a column `run`.
    """
    parts = []
    for _, on_task in rows[rows["status"] != "skipped"].groupby("task", sort=False):
        runs = dict(list(on_task.groupby("run", sort=False)))
        order = sorted(
            runs, key=lambda run: (not is_own(run), -runs[run]["method"].nunique(), -runs[run]["seed"].nunique())
        )
        seeds = set(runs[order[0]]["seed"])
        taken: set[str] = set()
        for run in order:
            for method, group in runs[run].groupby("method", sort=False):
                settings = stands_for(str(method), set(group["settings"]), default_settings())
                own = group[(group["settings"] == settings) & group["seed"].isin(seeds)]
                if method not in taken and set(own["seed"]) == seeds:
                    taken.add(str(method))
                    parts.append(own)
    return pd.concat(parts, ignore_index=True) if parts else rows.iloc[:0]


def _runs_of(chosen: pd.DataFrame, kept: pd.DataFrame) -> set[str]:
    """The runs that the ranks of these tasks and methods are taken from."""
    return set(chosen[chosen["task"].isin(kept.index) & chosen["method"].isin(kept.columns)]["run"])


def losses(rows: pd.DataFrame, metric: Quantity, kind: str) -> pd.DataFrame:
    """Return means over seeds, lower is better, [tasks, methods]: infinity where a seed failed, NaN where not run."""
    kinds = rows[rows["kind"] != ""].drop_duplicates("task").set_index("task")["kind"]
    own = rows[rows["task"].map(kinds) == kind]
    lost = own["status"].isin(LOST)
    frame = own.assign(loss=metric.loss(own[metric.column]).where(~lost, np.inf))
    # skipna=False: a mean over some seeds only is no mean over the block.
    return frame.pivot_table(index="task", columns="method", values="loss", aggfunc=lambda v: v.mean(skipna=False))


def largest_complete(table: pd.DataFrame) -> pd.DataFrame:
    """Return the largest part of [tasks, methods] without gaps, by number of cells, found without looking at values.

    Methods are taken in, those with most tasks first, as long as that makes the part larger; of parts with as many
    cells the one with more tasks.
    """
    order = table.notna().sum().sort_values(ascending=False, kind="stable").index
    best = table.iloc[:0, :0]
    for n in range(1, len(order) + 1):
        part = table[order[:n]].dropna()
        if (part.size, len(part)) > (best.size, len(best)):
            best = part
    return best


def block_ranks(losses: pd.DataFrame, data: Mapping[str, str]) -> pd.DataFrame:
    """Return ranks from 1, equal ones shared, [data sets, methods]: the mean over the tasks on the same data."""
    ranks = losses.rank(axis=1, method="average")
    return ranks.groupby(lambda task: data[task], sort=False).mean()


def critical_difference(n_methods: int, n_blocks: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference of two average ranks, q_alpha sqrt(k (k + 1) / (6 N)); Demsar (2006), 3.2.2.

    q_alpha is the quantile of the studentized range for k means and infinite degrees of freedom, over sqrt(2).
    """
    q = float(studentized_range.ppf(1 - alpha, n_methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))

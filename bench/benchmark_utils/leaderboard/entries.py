"""Entries: what all seeds of a method with its settings came to on a task, in one run, and which stand out there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark_utils.leaderboard.among_best import mark_best
from benchmark_utils.leaderboard.quantities import COSTS, Quantity
from benchmark_utils.report.table import method_labels
from benchmark_utils.report.training_time import training_time

STATUSES = ("done", "skipped", "failed", "diverged")
Summary = dict[str, float | int | None]


def rows_file(run: str) -> str:
    """Return where a run's rows are, as seen from the leaderboard's folder."""
    return f"../{run}/rows.parquet"


def make_entries(run: str, rows: pd.DataFrame, metrics: Sequence[Quantity]) -> list[dict[str, Any]]:
    """Return the entries of one run, JSON-able, in the order of its rows; see make_board for what they hold."""
    labels = method_labels(rows)
    rows = rows.assign(total_s=training_time(rows))
    entries = []
    for (task, method, settings), group in rows.groupby(["task", "method", "settings"], sort=False):
        done = group[group["status"] == "done"]
        kind = next(iter(done["kind"]), "")
        counts = group["status"].value_counts()
        entries.append(
            {
                "run": run,
                "task": task,
                "method": method,
                "settings": settings,
                "label": labels[method, settings],
                "seeds": sorted(int(seed) for seed in done["seed"]),
                "status": {status: int(counts.get(status, 0)) for status in STATUSES},
                "reasons": sorted({reason for reason in group["reason"] if reason}),
                "values": summaries(done, [metric for metric in metrics if kind in metric.kinds]),
                "cost": summaries(done, COSTS),
                "pareto": False,
                "among_best": [],
                "rows": rows_file(run),
            }
        )
    _mark_front(entries)
    mark_best(entries, rows, metrics)
    return entries


def summaries(done: pd.DataFrame, quantities: Sequence[Quantity]) -> dict[str, Summary]:
    """Return mean, standard deviation over seeds (None of one seed) and number of seeds of what was measured."""
    found: dict[str, Summary] = {}
    for quantity in quantities:
        values = done[quantity.column].dropna() if quantity.column in done else pd.Series(dtype=float)
        if len(values):
            mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
            # JSON knows no infinity; a mean that is one tells nothing that the status does not.
            if math.isfinite(mean):
                found[quantity.column] = {"mean": mean, "sd": sd if math.isfinite(sd) else None, "n": len(values)}
    return found


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each (cost, loss) whether no other point is as good in both and better in one."""
    return [
        not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
        for point in points
    ]


def _mark_front(entries: Sequence[dict[str, Any]]) -> None:
    """Mark, task by task, the entries that nothing beats in both NLL and training time.

    Entries that lack a seed of the task stand aside: their means are over other splits. Runs are not compared with
    each other, since their seconds come from different machines or days.
    """
    for task in dict.fromkeys(entry["task"] for entry in entries):
        own = [entry for entry in entries if entry["task"] == task]
        seeds = {seed for entry in own for seed in entry["seeds"]}
        own = [e for e in own if set(e["seeds"]) == seeds and "nll" in e["values"] and "total_s" in e["cost"]]
        front = on_front([(e["cost"]["total_s"]["mean"], e["values"]["nll"]["mean"]) for e in own])
        for entry, is_on_it in zip(own, front, strict=True):
            entry["pareto"] = is_on_it

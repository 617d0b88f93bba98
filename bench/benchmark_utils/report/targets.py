"""What the walk and the latent posterior are meant to reach, beside what they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from benchmark_utils.report.table import MISSING, markdown_table, mean_and_spread

Measure = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Target:
    """One number to reach.

    Attributes:
        heading: over its column.
        method: whose rows it is read from.
        measure: from those rows to a value a seed.
        aim: the range in words.
        low: least mean over seeds that meets it.
        high: largest.
        digits: after the point.
        kind: of the tasks it is for; None for all.
        task: the one task it is for; None for all.
    """

    heading: str
    method: str
    measure: Measure
    aim: str
    low: float = float("-inf")
    high: float = float("inf")
    digits: int = 3
    kind: str | None = None
    task: str | None = None


def _ratio(above: str, below: str) -> Measure:
    return lambda rows: rows[above] / rows[below]


def _difference(column: str, other: str) -> Measure:
    return lambda rows: rows[column] - rows[other]


def _share_of_ensemble(rows: pd.DataFrame) -> pd.Series:
    """Seconds of walk and latent fit over those of training five networks, the shared MAP being one of them."""
    return rows["fit_s"] / (rows["ensemble_s"] + rows["map_s"])


TARGETS = [
    Target("walk: NLL − HMC", "walk", _difference("nll", "nll_hmc"), "≤ 0.02", high=0.02, kind="classification"),
    Target(
        "walk: NLL − HMC",
        "walk",
        _difference("nll", "nll_hmc"),
        "Banana: within 0.005",
        -0.005,
        0.005,
        4,
        task="banana",
    ),
    Target("walk: TV to HMC", "walk", lambda rows: rows["tv_hmc"], "≤ 0.05", high=0.05, kind="classification"),
    Target("walk: energy ratio", "walk", lambda rows: rows["energy_ratio"], "0.7 to 1.2", 0.7, 1.2, 2),
    Target("walk: sd gap / HMC", "walk", _ratio("sd_gap", "sd_gap_hmc"), "0.7 to 1.3", 0.7, 1.3, 2, "regression"),
    Target("walk: sd data / HMC", "walk", _ratio("sd_data", "sd_data_hmc"), "0.7 to 1.3", 0.7, 1.3, 2, "regression"),
    Target("walk: gradients", "walk", lambda rows: rows["gradients"], "≤ 9,000", high=9000, digits=0),
    Target("latent: TV to walk", "metricbnn", lambda rows: rows["tv_walk"], "≤ 0.03", high=0.03),
    Target("latent: NLL − walk", "metricbnn", _difference("nll", "nll_walk"), "≤ 0.02", high=0.02),
    Target("latent: energy ratio", "metricbnn", lambda rows: rows["energy_ratio"], "reported", digits=2),
    Target("latent: distance of draws", "metricbnn", lambda rows: rows["draw_distance"], "reported", digits=2),
    Target("1,000 draws, ms", "metricbnn", lambda rows: 1000 * rows["draw_1000_s"], "< 50", high=50, digits=1),
    Target("walk s / MAP s", "metricbnn", _ratio("walk_s", "map_s"), "median ≤ 1", high=1.0, digits=2),
    Target("(walk + latent) s / MAP s", "metricbnn", _ratio("fit_s", "map_s"), "median ≤ 2", high=2.0, digits=2),
    Target("(walk + latent) s / ensemble of 5 s", "metricbnn", _share_of_ensemble, "median < 0.5", high=0.5, digits=2),
]

EXPLANATION = (
    "Mean ± standard deviation over seeds, '!' where a mean lies outside its range; the last column is the median of "
    "the means over tasks. HMC is the stored long run. Distance of draws: from the nearest point of the walk, over "
    "that between such points (0: repeats the walk, 1: as new as they are). Seconds: one thread, same run as the MAP."
)


def targets_table(rows: pd.DataFrame) -> str:
    """Return Markdown: a line a target, a column a task, mean ± standard deviation over seeds; "" without such rows.

    A mean outside its range is marked with an exclamation mark. The last column is the median over tasks of the means.
    Tasks with out-of-distribution sets have targets of their own (targets_images.py).

    Args:
        rows: of a whole run, as in rows.parquet.
    """
    done = rows[rows["status"] == "done"]
    if "fit_s" in done:
        ensemble = done[done["method"] == "ensemble"].groupby(["task", "seed"])["fit_s"].mean().rename("ensemble_s")
        done = done.join(ensemble, on=["task", "seed"])
    if "ood_near" in done:
        images = done["ood_near"].fillna("").astype(str) + done["ood_far"].fillna("").astype(str)
        done = done[images == ""]
    tasks = list(dict.fromkeys(done["task"]))
    lines = [line for target in TARGETS if (line := _line(target, done, tasks))]
    return markdown_table(["", "aim", *tasks, "median"], lines, n_left=2)


def _line(target: Target, rows: pd.DataFrame, tasks: list[str]) -> list[str]:
    """Cells of one target; empty if it was measured nowhere."""
    cells, means = [], []
    for task in tasks:
        chosen = rows[(rows["task"] == task) & (rows["method"] == target.method)]
        values = pd.Series(dtype=float)
        meant = (target.task or task) == task and (target.kind is None or (chosen["kind"] == target.kind).all())
        if len(chosen) and meant:
            try:
                values = target.measure(chosen).dropna()
            except KeyError:  # nobody in this run reports it
                values = pd.Series(dtype=float)
        if values.empty:
            cells.append(MISSING)
            continue
        means.append(float(values.mean()))
        missed = "" if target.low <= means[-1] <= target.high else " !"
        cells.append(mean_and_spread(values, target.digits) + missed)
    if not means:
        return []
    median = float(pd.Series(means).median())
    return [target.heading, target.aim, *cells, f"{median:,.{target.digits}f}"]

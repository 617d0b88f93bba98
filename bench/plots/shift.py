"""Accuracy and NLL of the averaged predictive on test sets that are shifted further and further."""

from __future__ import annotations

from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark_utils.report.figures import as_image, legend_labels, method_of
from benchmark_utils.report.images import shift_columns
from benchmark_utils.report.rows import rows_from_results
from benchmark_utils.report.style import FIGURE, MAIN_METHODS, colour, set_heading, shown_variants
from benchmark_utils.report.table import method_labels

SCORES = {"accuracy": "accuracy", "nll": "NLL (nats)"}


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line per task, label, score, shift and strength: unit, and mean and sd over seeds.

    Of several variants of a method its defaults, or else the one with the lowest test NLL. Strength 0 is the same
    examples without a shift.
    """
    labels = method_labels(rows)
    lines = []
    for task, group in rows[rows["status"] == "done"].groupby("task", sort=False):
        columns = [column for column in shift_columns(group) if column.score in SCORES]
        for method, settings in shown_variants(group, MAIN_METHODS) if columns else ():
            chosen = group[(group["method"] == method) & (group["settings"] == settings)]
            key = {"task": task, "label": labels[method, settings]}
            for (score, shift, unit), same in groupby(columns, lambda one: (one.score, one.shift, one.unit)):
                names = {0.0: f"{score}_unshifted"} | {column.strength: column.name for column in same}
                for strength, name in sorted(names.items()):
                    values = chosen[name].dropna()
                    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                    if len(values):
                        place = {"score": score, "shift": shift, "unit": unit, "strength": strength}
                        lines.append(key | place | {"mean": float(values.mean()), "sd": spread})
    return pd.DataFrame(lines, columns=["task", "label", "score", "shift", "unit", "strength", "mean", "sd"])


def draw(found: pd.DataFrame) -> Figure:
    """Return the figure: a line of panels a task, its shifts for accuracy and then for NLL.

    Args:
        found: as `points` gives them, not empty.
    """
    tasks, shifts = list(found["task"].unique()), list(found["shift"].unique())
    legend = legend_labels(sorted(found["label"].unique(), key=lambda label: MAIN_METHODS.index(method_of(label))))
    panels = [(score, shift) for score in SCORES for shift in shifts]
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            len(tasks), len(panels), figsize=(2.2 * len(panels) + 2.3, 2.2 * len(tasks) + 0.5),
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for line, task in zip(axes, tasks, strict=True):
            for axis, (score, shift) in zip(line, panels, strict=True):
                own = found[(found["task"] == task) & (found["score"] == score)]
                _panel(axis, own[own["shift"] == shift], list(legend))
                if own[own["shift"] == shift].empty:
                    axis.set_visible(False)
                axis.set_ylim(*_limits(own, score))  # the same for all shifts of a task
                axis.set_title(f"{score if score == 'accuracy' else 'NLL'}, {shift}", fontsize=9)
                if shift == shifts[0]:
                    axis.set_ylabel(f"{task}\n{SCORES[score]}" if score == "accuracy" else SCORES[score])
        handles = [Line2D([], [], color=colour(method, legend), label=label) for method, label in legend.items()]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
        heading = "Growing shift: mean ± standard deviation over seeds; 0 is the same examples unshifted"
        set_heading(figure, heading, 2.2 * len(panels))
    return figure


def _panel(axis: Axes, found: pd.DataFrame, known: list[str]) -> None:
    """Draw one shift and score of one task."""
    for label, line in found.groupby("label", sort=False):
        shade = colour(method_of(str(label)), known)
        x, mean, sd = (line[name].to_numpy() for name in ("strength", "mean", "sd"))
        axis.fill_between(x, mean - sd, mean + sd, color=shade, alpha=0.13, linewidth=0)
        axis.plot(x, mean, color=shade, marker="o", markersize=2.5, linewidth=1.1)
    axis.set_xlabel(found["unit"].iloc[0] if len(found) else "", fontsize=7.5)
    axis.grid(True, alpha=0.25)


def _limits(found: pd.DataFrame, score: str) -> tuple[float, float]:
    """Limits of the score: all that is there, but of NLL at most three times what half of the methods stay below."""
    finite = found[np.isfinite(found["mean"])]
    if finite.empty:
        return 0.0, 1.0
    low, high = (finite["mean"] - finite["sd"]).min(), (finite["mean"] + finite["sd"]).max()
    if score == "nll":
        high = min(high, 3 * finite.groupby("label")["mean"].max().median())
    margin = 0.05 * max(high - low, 0.02)
    return max(0.0, float(low - margin)), float(high + margin)


class Plot(BasePlot):
    """The same on benchopt's page."""

    name = "Shift"
    type = "image"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return the picture, or none for a task without shifts."""
        rows, _ = rows_from_results(df[df["dataset_name"] == dataset], [])
        found = points(rows)
        return [{"image": as_image(draw(found)), "label": dataset}] if len(found) else []

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return the title."""
        return {"title": f"Accuracy and NLL under shift, {dataset}"}

"""Test NLL against training time, one panel a task: who buys what for how many seconds."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from benchmark_utils.report.rows import rows_from_results
from benchmark_utils.report.style import COLOURS, FIGURE, MARKERS, colour
from benchmark_utils.report.table import method_labels
from benchmark_utils.report.training_time import training_time


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line per task, method and settings: cost_s (training with MAP), nll, nll_sd, n seeds."""
    done = rows[(rows["status"] == "done") & rows["fit_s"].notna()]
    done = done.assign(cost_s=training_time(done))
    groups = done.groupby(["task", "method", "settings"], sort=False)
    found = groups.agg(cost_s=("cost_s", "mean"), nll=("nll", "mean"), nll_sd=("nll", "std"), n=("seed", "nunique"))
    return found.fillna({"nll_sd": 0.0}).reset_index()


def draw(rows: pd.DataFrame) -> Figure:
    """Return the figure: time on a logarithmic axis, NLL as mean ± standard deviation over seeds.

    A method far above the MAP would flatten the rest: it is drawn on the upper edge, with its value.
    """
    found, labels = points(rows), method_labels(rows)
    keys = sorted(set(zip(found["method"], found["settings"], strict=True)), key=labels.__getitem__)
    style = _styles(keys)
    tasks = list(found["task"].unique())
    n_columns = min(3, max(1, len(tasks)))
    n_lines = math.ceil(max(1, len(tasks)) / n_columns)
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            n_lines,
            n_columns,
            figsize=(3.5 * n_columns + 2.4, 2.9 * n_lines),
            squeeze=False,
            layout="constrained",
        )
        for axis, task in zip(axes.flat, tasks, strict=False):
            _panel(axis, task, found[found["task"] == task], style)
            if (level := reference_level(rows[rows["task"] == task])) is not None:
                axis.axhline(level, color=COLOURS["hmc"], linestyle="--", linewidth=0.9, zorder=0)
        for axis in axes.flat[len(tasks) :]:
            axis.set_visible(False)
        handles = [
            Line2D([], [], color=style[key][0], marker=style[key][1], linestyle="", label=labels[key]) for key in keys
        ]
        if reference_level(rows) is not None:
            handles.append(Line2D([], [], color=COLOURS["hmc"], linestyle="--", label="long HMC reference"))
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def reference_level(rows: pd.DataFrame) -> float | None:
    """Return the mean over seeds of the stored HMC run's NLL; None if there is none."""
    if "nll_hmc" not in rows:
        return None
    once = rows.dropna(subset=["nll_hmc"]).drop_duplicates(["task", "seed"])
    return float(once["nll_hmc"].mean()) if len(once) else None


def _styles(keys: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour by method, marker by variant within the method."""
    methods = [method for method, _ in keys]
    return {
        key: (colour(key[0], methods), MARKERS[methods[:i].count(key[0]) % len(MARKERS)]) for i, key in enumerate(keys)
    }


def _panel(axis: Axes, task: str, found: pd.DataFrame, style: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Draw one task."""
    limit = _upper_limit(found)
    for row in found[found["nll"] <= limit].itertuples():
        shade, marker = style[row.method, row.settings]
        # Faint: the spread over seeds is that of the splits, which all methods share.
        axis.errorbar(row.cost_s, row.nll, row.nll_sd, color=shade, elinewidth=0.8, capsize=2, alpha=0.4)
        axis.plot(row.cost_s, row.nll, marker=marker, color=shade, markersize=5)
    for i, row in enumerate(found[found["nll"] > limit].sort_values("cost_s").itertuples()):
        shade, marker = style[row.method, row.settings]
        axis.plot(row.cost_s, limit, marker=marker, color=shade, markersize=5, clip_on=False)
        place: dict[str, Any] = {
            "xytext": (0, 4 + 7 * (i % 2)),
            "textcoords": "offset points",
            "ha": "center",
            "fontsize": 6,
        }
        axis.annotate(f"↑ {row.nll:.2f}", (row.cost_s, limit), **place)
    axis.set(xscale="log", xlabel="training time, shared MAP included (s)", ylabel="test NLL (nats per example)")
    axis.set_xlim(found["cost_s"].min() / 1.6, found["cost_s"].max() * 1.6)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    if np.isfinite(limit):
        axis.set_ylim(top=limit)
    n_seeds = found["n"].max()
    axis.set_title(f"{task} ({n_seeds} seed{'s' if n_seeds > 1 else ''})", pad=22, fontsize=9)
    axis.grid(True, which="major", alpha=0.25)


def _upper_limit(found: pd.DataFrame) -> float:
    """The NLL above which a method is put on the edge; infinity if none is that far off."""
    inner = found["nll"].quantile(0.75)
    limit = inner + 3 * max(inner - found["nll"].min(), 0.02)
    return float(limit) if (found["nll"] > limit).any() else math.inf


class Plot(BasePlot):
    """The same on benchopt's page, one task at a time."""

    name = "NLL against cost"
    type = "scatter"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return one trace a method."""
        rows, _ = rows_from_results(df[df["dataset_name"] == dataset], [])
        labels = method_labels(rows)
        named = [(labels[row.method, row.settings], row) for row in points(rows).itertuples()]
        return [{"x": [row.cost_s], "y": [row.nll], "label": label, **self.get_style(label)} for label, row in named]

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return title and axis labels."""
        return {
            "title": f"Test NLL against training time, {dataset}",
            "xlabel": "training time, shared MAP included (s)",
            "ylabel": "test NLL (nats per example)",
        }

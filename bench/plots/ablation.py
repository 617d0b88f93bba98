"""What one setting is worth: NLL against the default's seed by seed, fidelity, energy and seconds of each value."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from benchmark_utils.report.ablation import Ablation, ablations
from benchmark_utils.report.figures import as_image
from benchmark_utils.report.rows import rows_from_results
from benchmark_utils.report.style import FIGURE, MARKERS, label_log_axis, set_heading

PANELS = {
    "nll_difference": "NLL − default's (nats)",
    "tv_hmc": "TV to long HMC",
    "tv_walk": "TV to the walk",
    "energy_ratio": "energy ratio",
    "fit_s": "fit (s)",
}
# Tasks take Okabe and Ito's colours, in an order that methods do not have.
TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LOST = "#7F7F7F"
WIDTH = 2.0


def draw(ablation: Ablation) -> Figure:
    """Return the figure: a line a value of the setting, a panel a measure, a colour a task; mean ± sd over seeds."""
    rows, values = ablation.rows, ablation.values
    shown = [name for name in PANELS if name in rows and rows.loc[rows["status"] == "done", name].notna().any()]
    tasks = list(rows["task"].unique())
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            1, max(1, len(shown)), figsize=(WIDTH * max(1, len(shown)) + 2.2, 0.42 * len(values) + 1.5),
            squeeze=False, sharey=True,
        )  # fmt: skip
        figure.set_layout_engine("constrained", w_pad=0.08)  # inches: the last label of a panel and the next's first
        for axis, name in zip(axes[0], shown, strict=False):
            for number, task in enumerate(tasks):
                place = 0.5 * ((number + 0.5) / len(tasks) - 0.5)
                _points(axis, rows[rows["task"] == task], values, name, number, place)
            _decorate(axis, name)
        first = axes[0, 0]
        first.set_yticks(range(len(values)), values)
        first.set_ylim(len(values) - 0.5, -0.5)
        handles = [
            Line2D([], [], color=_colour(number), marker=_marker(number), linestyle="", label=task)
            for number, task in enumerate(tasks)
        ]
        handles += _remarks(rows)
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
        n_seeds = rows["seed"].nunique()
        text = f"{ablation.method}: {ablation.factor}, mean ± standard deviation over {n_seeds} seed"
        set_heading(figure, text + ("s" if n_seeds > 1 else ""), WIDTH * max(1, len(shown)))
    return figure


def _points(axis: Axes, rows: pd.DataFrame, values: list[str], name: str, number: int, place: float) -> None:
    """Draw one task's values: hollow if not all seeds finished, a cross on the left edge if none did."""
    for line, value in enumerate(values):
        own = rows[rows["value"] == value]
        numbers = own.loc[own["status"] == "done", name].dropna()
        if name == "nll_difference" and (own["settings"] == "").all():
            continue  # the default itself, on the line at zero
        if len(numbers):
            spread = numbers.std(ddof=1) if len(numbers) > 1 else 0.0
            axis.errorbar(numbers.mean(), line + place, xerr=spread, color=_colour(number), elinewidth=0.9, capsize=2,
                          marker=_marker(number), markersize=4.5,
                          markerfacecolor="white" if len(_lost(own)) else None)  # fmt: skip
        elif len(_lost(own)) and (own["status"] != "done").all():
            axis.plot(0.02, line + place, "x", color=LOST, transform=axis.get_yaxis_transform(), clip_on=False)


def _remarks(rows: pd.DataFrame) -> list[Line2D]:
    """What the legend has to say of runs that did not finish, if there are any."""
    lost = _lost(rows).groupby(["task", "value"]).size()
    tried = rows[rows["status"] != "skipped"].groupby(["task", "value"]).size().reindex(lost.index)
    look: dict[str, Any] = {"color": LOST, "linestyle": ""}
    some = [Line2D([], [], marker="o", markerfacecolor="white", label="some seeds did not finish", **look)]
    none = [Line2D([], [], marker="x", label="no seed finished", **look)]
    return (some if (lost < tried).any() else []) + (none if (lost == tried).any() else [])


def _lost(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that did not finish although they were tried."""
    return rows[~rows["status"].isin(["done", "skipped"])]


def _decorate(axis: Axes, name: str) -> None:
    """Set scales, labels and the line of nothing to lose."""
    axis.set_xlabel(PANELS[name], fontsize=8)
    axis.grid(True, axis="x", alpha=0.25)
    axis.tick_params(axis="both", labelsize=8)
    low, high = axis.dataLim.intervalx
    axis.margins(x=0.08)  # room for the markers
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    if name == "nll_difference":
        axis.axvline(0.0, color="#000000", linewidth=0.8, zorder=0)
        if 0.5 < max(-low, high) < np.inf:  # one value far off would hide the others
            axis.set_xscale("symlog", linthresh=0.1)
            transform = axis.xaxis.get_transform()  # matplotlib's own margins are those of a linear axis here
            ends = transform.transform(np.array([min(low, 0.0), max(high, 0.0)]))
            axis.set_xlim(*transform.inverted().transform(ends + 0.08 * np.diff(ends) * [-1.0, 1.0]))
            axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        return
    if name == "energy_ratio":
        axis.axvline(1.0, color="#000000", linewidth=0.8, zorder=0)
    if name in ("energy_ratio", "fit_s") and 0.0 < 10.0 * low < high < np.inf:
        axis.set_xscale("log")
        label_log_axis(axis.xaxis)
    else:
        axis.set_xlim(left=0.0)


def _colour(number: int) -> str:
    return TASK_COLOURS[number % len(TASK_COLOURS)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


class Plot(BasePlot):
    """The same on benchopt's page, one task at a time."""

    name = "Ablation"
    type = "image"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return a picture for each setting that was changed on this task."""
        rows, _ = rows_from_results(df[df["dataset_name"] == dataset], [])
        return [{"image": as_image(draw(one)), "label": one.name} for one in ablations(rows)]

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return the title."""
        return {"title": f"What one setting is worth, {dataset}"}

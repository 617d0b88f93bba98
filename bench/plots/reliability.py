"""Reliability diagrams: how often the top label is right against how sure a method is, methods side by side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmark_utils.report.figures import as_image, method_of, panels_from_frame
from benchmark_utils.report.style import FIGURE, MAIN_METHODS, colour, set_heading

METHODS = MAIN_METHODS
NEEDS = "reliability"  # the arrays that mark a run whose diagram can be drawn

Bins = Mapping[str, np.ndarray]  # reliability/confidence, /accuracy, /count, each [bins]; NaN in empty bins


def draw(panels: Mapping[str, Mapping[str, Bins]]) -> Figure:
    """Return the figure: a line of panels a task, a column a method, the counts of each bin below.

    Args:
        panels: by task and by the method's label, the label's first word being the method.
    """
    n_columns = max(len(methods) for methods in panels.values())
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            2 * len(panels), n_columns, figsize=(1.75 * n_columns + 0.7, 2.75 * len(panels) + 0.6),
            squeeze=False, sharex=True, sharey="row", layout=ConstrainedLayoutEngine(hspace=0.03, h_pad=0.03),
            gridspec_kw={"height_ratios": [3, 1] * len(panels)},
        )  # fmt: skip
        for line, (task, methods) in enumerate(panels.items()):
            above, below = axes[2 * line], axes[2 * line + 1]
            for upper, lower, (label, bins) in zip(above, below, methods.items(), strict=False):
                shade = colour(method_of(label), map(method_of, methods))
                _panel(upper, label, bins, shade)
                _counts(lower, bins, shade)
            for axis in (*above[len(methods) :], *below[len(methods) :]):
                axis.set_visible(False)
            above[0].set_ylabel(f"{task}\naccuracy")
            below[0].set_ylabel("examples")
        for column in axes[1::2].T:  # below the lowest of each column
            [axis for axis in column if axis.get_visible()][-1].set_xlabel("confidence")
        heading = (
            "Reliability of the top label, seed 0: bars are the accuracy in each bin of confidence, "
            "red reaches to the bin's mean confidence"
        )
        set_heading(figure, heading, 1.75 * n_columns)
    return figure


def ece(bins: Bins) -> float:
    """Return the expected calibration error that these bins give, a fraction."""
    count = bins["reliability/count"]
    gap = np.abs(bins["reliability/accuracy"] - bins["reliability/confidence"])
    return float(np.nansum(count * gap) / count.sum())


def _panel(axis: Axes, label: str, bins: Bins, shade: str) -> None:
    """Draw one method on one task."""
    confidence, accuracy = bins["reliability/confidence"], bins["reliability/accuracy"]
    filled = bins["reliability/count"] > 0
    width = 1 / len(confidence)
    left = np.arange(len(confidence))[filled] * width
    accuracy, confidence = accuracy[filled], confidence[filled]
    axis.bar(left, accuracy, width, align="edge", color=shade, alpha=0.75, edgecolor="white", linewidth=0.5)
    axis.bar(
        left, confidence - accuracy, width, bottom=accuracy, align="edge",
        facecolor="none", edgecolor="#C00000", hatch="/////", linewidth=0.6,
    )  # fmt: skip
    axis.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=0.8)
    # On white: a method that is too modest has bars up there.
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0}
    axis.text(0.04, 0.95, f"ECE {ece(bins):.3f}", transform=axis.transAxes, va="top", fontsize=8, bbox=box)
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axis.set_title(label.replace("[", "\n["), fontsize=8)


def _counts(axis: Axes, bins: Bins, shade: str) -> None:
    """Draw how many examples there are in each bin, on a logarithmic axis: most are in the last one."""
    count = bins["reliability/count"]
    width = 1 / len(count)
    axis.bar(np.arange(len(count)) * width, count, width, align="edge", color=shade, alpha=0.4, linewidth=0)
    axis.set_yscale("log")
    axis.set_ylim(0.7, 2 * count.sum())
    axis.minorticks_off()


class Plot(BasePlot):
    """The same on benchopt's page."""

    name = "Reliability"
    type = "image"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return the picture, or none for a task of another kind."""
        panels = panels_from_frame(df[df["dataset_name"] == dataset], METHODS, NEEDS)
        return [{"image": as_image(draw(panels)), "label": dataset}] if panels else []

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return the title."""
        return {"title": f"Reliability of the top label, {dataset}"}

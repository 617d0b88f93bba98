"""ROC curves of out-of-distribution detection by predictive entropy, a panel a set, the methods overlaid."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark_utils.report.figures import as_image, legend_labels, method_of, panels_from_frame
from benchmark_utils.report.style import FIGURE, MAIN_METHODS, colour, set_heading

METHODS = MAIN_METHODS
NEEDS = "roc"  # the arrays that mark a run whose curves can be drawn

Curves = Mapping[str, np.ndarray]  # roc/<set> [2, M]: false and true positive rate; auroc/<set> []


def draw(panels: Mapping[str, Mapping[str, Curves]]) -> Figure:
    """Return the figure: a line of panels a task, a column an out-of-distribution set.

    Args:
        panels: by task and by the method's label, the label's first word being the method.
    """
    sets = {task: _sets(methods) for task, methods in panels.items()}
    legend = legend_labels(label for methods in panels.values() for label in methods)
    n_columns = max(map(len, sets.values()))
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            len(panels), n_columns, figsize=(2.6 * n_columns + 2.3, 2.6 * len(panels) + 0.5),
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for line, (task, methods) in zip(axes, panels.items(), strict=True):
            for axis, name in zip(line, sets[task], strict=False):
                _panel(axis, name, methods, list(legend))
            for axis in line[len(sets[task]) :]:
                axis.set_visible(False)
            line[0].set_ylabel(f"{task}\nshare of OOD examples found")
        for column in axes.T:
            shown = [axis for axis in column if axis.get_visible()]
            shown[-1].set_xlabel("share of test examples flagged")
        handles = [Line2D([], [], color=colour(method, legend), label=label) for method, label in legend.items()]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
        heading = "OOD detection by entropy of the averaged predictive, seed 0; AUROC in each panel"
        set_heading(figure, heading, 2.6 * n_columns)
    return figure


def _sets(methods: Mapping[str, Curves]) -> list[str]:
    """The sets on which some method has a curve."""
    names = (name for curves in methods.values() for name in curves if name.startswith("roc/"))
    return list(dict.fromkeys(name.removeprefix("roc/") for name in names))


def _panel(axis: Axes, name: str, methods: Mapping[str, Curves], known: list[str]) -> None:
    """Draw one set."""
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=0.7)
    drawn: list[tuple[float, Line2D]] = []
    for label, curves in methods.items():
        if f"roc/{name}" in curves:
            value = float(curves[f"auroc/{name}"])
            (line,) = axis.plot(*curves[f"roc/{name}"], color=colour(method_of(label), known), lw=1.1)
            drawn.append((value, line))
    # Best first; the colours say which method, and the space under a ROC curve is free.
    drawn.sort(key=lambda pair: -pair[0])
    axis.legend(
        [line for _, line in drawn], [f"{value:.3f}" for value, _ in drawn],
        loc="lower right", fontsize=7, frameon=False, handlelength=1.2, labelspacing=0.15, borderaxespad=0.2,
    )  # fmt: skip
    axis.set(xlim=(-0.01, 1), ylim=(0, 1.01), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axis.set_title(name, fontsize=9)


class Plot(BasePlot):
    """The same on benchopt's page."""

    name = "OOD ROC"
    type = "image"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return the picture, or none for a task without out-of-distribution sets."""
        panels = panels_from_frame(df[df["dataset_name"] == dataset], METHODS, NEEDS)
        return [{"image": as_image(draw(panels)), "label": dataset}] if panels else []

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return the title."""
        return {"title": f"ROC of out-of-distribution detection, {dataset}"}

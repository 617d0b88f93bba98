"""Entropy of the predictive over the plane, for classifications of two inputs, methods side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark_utils.report.figures import as_image, panels_from_frame
from benchmark_utils.report.style import FIGURE

METHODS = ("map", "laplace", "ensemble", "metricbnn", "walk", "hmc")
NEEDS = "entropy"  # the array that marks a run whose map can be drawn
CLASS_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
MOST_POINTS = 600
COLUMNS = 3  # panels side by side

Map = Mapping[str, np.ndarray]  # entropy [M, M] in nats, extent [4]; x_train [N, 2] and y_train [N]


def draw(panels: Mapping[str, Mapping[str, Map]]) -> Figure:
    """Return the figure: a panel for each task and method; one colour scale, from certain to a toss-up.

    Args:
        panels: by task and by the method's label.
    """
    shown = [(task, label, one) for task, methods in panels.items() for label, one in methods.items()]
    # Two classes have at most log 2; a task of more classes sets the scale for all.
    n_classes = max(int(one["y_train"].max()) + 1 for _, _, one in shown)
    n_columns = min(COLUMNS, len(shown))
    n_lines = math.ceil(len(shown) / n_columns)
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            n_lines,
            n_columns,
            figsize=(2.9 * n_columns + 1.0, 2.7 * n_lines + 0.6),
            squeeze=False,
            layout="constrained",
        )
        for axis, (task, label, one) in zip(axes.flat, shown, strict=False):
            image = axis.imshow(
                one["entropy"],
                origin="lower",
                extent=tuple(one["extent"]),
                aspect="auto",
                cmap="Greys",
                vmin=0.0,
                vmax=np.log(n_classes),
            )
            _points(axis, one)
            axis.set_title(f"{task}: {label}", fontsize=9)
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        figure.supxlabel("input 1, standardised", fontsize=9)
        figure.supylabel("input 2, standardised", fontsize=9)
        figure.colorbar(image, ax=axes, label="entropy of the averaged predictive (nats)", shrink=0.9)
        heading = f"Predictive entropy, seed 0; dots are up to {MOST_POINTS} training examples by class"
        figure.suptitle(heading, fontsize=9)
    return figure


def _points(axis: Axes, one: Map) -> None:
    """Draw training examples, thinned evenly so that the map stays visible."""
    step = max(1, len(one["x_train"]) // MOST_POINTS)
    x, y = one["x_train"][::step], one["y_train"][::step].astype(int)
    for label in np.unique(y):
        shade = CLASS_COLOURS[label % len(CLASS_COLOURS)]
        axis.plot(*x[y == label].T, ".", color=shade, markersize=2.5, alpha=0.8, markeredgewidth=0)


class Plot(BasePlot):
    """The same on benchopt's page."""

    name = "Uncertainty maps"
    type = "image"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return the picture, or none for a task of another kind."""
        panels = panels_from_frame(df[df["dataset_name"] == dataset], METHODS, NEEDS)
        return [{"image": as_image(draw(panels)), "label": dataset}] if panels else []

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return the title."""
        return {"title": f"Predictive entropy over the plane, {dataset}"}

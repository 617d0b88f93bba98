"""Predictive bands of one-dimensional regressions with a gap in the data, the methods side by side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark_utils.report.figures import as_image, method_of, panels_from_frame
from benchmark_utils.report.style import FIGURE, colour

METHODS = ("walk", "svd-gaussian", "metricbnn", "hmc")
NEEDS = "sd"  # the array that marks a run whose bands can be drawn

Bands = Mapping[str, np.ndarray]  # x, mean, sd, each [M]; x_train [N, 1] and y_train [N, 1]


def draw(panels: Mapping[str, Mapping[str, Bands]]) -> Figure:
    """Return the figure: a row of panels a task, a column a method, the same axes everywhere.

    Args:
        panels: by task and by the method's label, the label's first word being the method.
    """
    n_columns = max(len(methods) for methods in panels.values())
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            len(panels), n_columns, figsize=(2.7 * n_columns + 0.4, 2.5 * len(panels) + 0.5),
            squeeze=False, sharex=True, sharey="row", layout="constrained",
        )  # fmt: skip
        for line, (task, methods) in zip(axes, panels.items(), strict=True):
            for axis, (label, bands) in zip(line, methods.items(), strict=False):
                _panel(axis, label, bands, list(methods))
            for axis in line[len(methods) :]:
                axis.set_visible(False)
            line[0].set_ylabel(f"{task}\ny")
            line[0].set_ylim(*_limits(methods))
        for axis in axes[-1]:
            axis.set_xlabel("x")
        figure.suptitle("Function's mean, 1 and 2 standard deviations\n(without observation noise; seed 0)", fontsize=9)
    return figure


def _panel(axis: Axes, label: str, bands: Bands, labels: list[str]) -> None:
    """Draw one method on one task."""
    x, mean, sd = bands["x"], bands["mean"], bands["sd"]
    shade = colour(method_of(label), map(method_of, labels))
    axis.axvspan(*gap(bands["x_train"][:, 0]), color="0.93", zorder=0, linewidth=0)
    for width, alpha in ((2, 0.22), (1, 0.3)):
        axis.fill_between(x, mean - width * sd, mean + width * sd, color=shade, alpha=alpha, linewidth=0)
    axis.plot(x, mean, color=shade, linewidth=1.2)
    axis.plot(bands["x_train"][:, 0], bands["y_train"][:, 0], ".", color="black", markersize=2.5)
    axis.set_title(label, fontsize=9)


def gap(x: np.ndarray) -> tuple[float, float]:
    """Return the widest interval between neighbouring inputs, of x [N]."""
    ordered = np.sort(x)
    widest = int(np.argmax(np.diff(ordered)))
    return float(ordered[widest]), float(ordered[widest + 1])


def _limits(methods: Mapping[str, Bands]) -> tuple[float, float]:
    """Limits of y for a task: all bands, but no more than twice the data's own range beyond it."""
    y = next(iter(methods.values()))["y_train"]
    reach = 2.0 * float(np.ptp(y))
    low = min(float((bands["mean"] - 2 * bands["sd"]).min()) for bands in methods.values())
    high = max(float((bands["mean"] + 2 * bands["sd"]).max()) for bands in methods.values())
    return max(low, float(y.min()) - reach) - 0.1, min(high, float(y.max()) + reach) + 0.1


class Plot(BasePlot):
    """The same on benchopt's page."""

    name = "Predictive bands"
    type = "image"
    options = {"dataset": ...}

    def plot(self, df: pd.DataFrame, dataset: str) -> list[dict]:
        """Return the picture, or none for a task of another kind."""
        panels = panels_from_frame(df[df["dataset_name"] == dataset], METHODS, NEEDS)
        return [{"image": as_image(draw(panels)), "label": dataset}] if panels else []

    def get_metadata(self, df: pd.DataFrame, dataset: str) -> dict[str, str]:
        """Return the title."""
        return {"title": f"Predictive bands, {dataset}"}

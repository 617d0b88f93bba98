"""NLL, seconds, gradients and memory against the number of hidden layers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from benchopt import BasePlot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from benchmark_utils.report.depth import MEASURES, Measure, depth_rows, growth
from benchmark_utils.report.figures import as_image, method_of
from benchmark_utils.report.rows import rows_from_results
from benchmark_utils.report.style import FIGURE, MARKERS, colour, label_log_axis, set_heading

N_COLUMNS = 3
WIDTH = 3.1


def draw(found: pd.DataFrame) -> Figure:
    """Return the figure: a panel a measure, a line a method, mean ± standard deviation over seeds.

    Args:
        found: as `depth_rows` gives them, some of them finished.
    """
    done = found[found["status"] == "done"]
    shown = [one for one in MEASURES if (done[one.name] > 0 if one.grows else done[one.name].notna()).any()]
    style = _styles(done)
    n_lines = -(-len(shown) // N_COLUMNS)
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(
            n_lines, N_COLUMNS, figsize=(WIDTH * N_COLUMNS + 2.0, 2.6 * n_lines + 0.4), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axis, measure in zip(axes.flat, shown, strict=False):
            _panel(axis, done, measure, style)
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        handles = [
            Line2D([], [], color=shade, marker=marker, markersize=4, label=_with_growth(done, label))
            for label, (shade, marker) in style.items()
        ]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=7.5)
        n_seeds = done["seed"].nunique()
        heading = (
            f"{'Mean ± standard deviation over seeds' if n_seeds > 1 else 'One seed'}; in brackets the exponent b "
        )
        heading += "of seconds (MAP included) ∝ layers^b, ± standard error"
        set_heading(figure, heading, WIDTH * N_COLUMNS)
    return figure


def _styles(done: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour by method, marker by variant within the method, in the order of the best NLL."""
    order = list(done.groupby("label")["nll"].mean().sort_values(kind="stable").index)
    methods = [method_of(label) for label in order]
    return {
        label: (colour(methods[i], methods), MARKERS[methods[:i].count(methods[i]) % len(MARKERS)])
        for i, label in enumerate(order)
    }


def _with_growth(done: pd.DataFrame, label: str) -> str:
    """The label with its exponent."""
    found = growth(done[done["label"] == label], "total_s")
    return label if found is None else f"{label} ({found.number})"


def _panel(axis: Axes, done: pd.DataFrame, measure: Measure, style: dict[str, tuple[str, str]]) -> None:
    """Draw one measure; costs on logarithmic axes, where a power is a straight line."""
    for label, (shade, marker) in style.items():
        values = done[done["label"] == label].dropna(subset=[measure.name])
        if measure.grows:
            values = values[values[measure.name] > 0]
        summary = values.groupby("depth")[measure.name].agg(["mean", "std"]).fillna(0.0)
        if len(summary):
            axis.errorbar(summary.index, summary["mean"], summary["std"], color=shade, marker=marker, markersize=3.5,
                          linewidth=1.1, elinewidth=0.8, capsize=2)  # fmt: skip
    axis.set_xscale("log")
    depths = sorted(done["depth"].unique())
    axis.xaxis.set_major_locator(FixedLocator(depths))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(depths, [str(depth) for depth in depths])
    axis.set_xlabel("hidden layers", fontsize=8)
    axis.set_title(measure.heading, fontsize=8.5)
    if measure.grows:
        axis.set_yscale("log")
        label_log_axis(axis.yaxis)
    else:
        low, high = axis.get_ylim()
        best, middle = done.groupby("label")[measure.name].mean().quantile([0.0, 0.5])
        # What lies far above the others would flatten them.
        axis.set_ylim(low, min(high, middle + 4 * max(middle - best, 0.1)))
    axis.grid(True, alpha=0.25)


class Plot(BasePlot):
    """The same on benchopt's page."""

    name = "Depth"
    type = "image"
    options: dict[str, list] = {}

    def plot(self, df: pd.DataFrame) -> list[dict]:
        """Return the picture, or none without tasks of several depths."""
        rows, _ = rows_from_results(df, [])
        found = depth_rows(rows)
        return [{"image": as_image(draw(found)), "label": "depth"}] if (found["status"] == "done").any() else []

    def get_metadata(self, df: pd.DataFrame) -> dict[str, str]:
        """Return the title."""
        return {"title": "NLL and cost against the number of hidden layers"}

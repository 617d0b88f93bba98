"""How the figures look: one colour a method in all of them, and which variant of a method stands for it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's palette, which readers with any colour vision can tell apart, but for its yellow.
COLOURS = {
    "map": "#000000",
    "laplace": "#56B4E9",
    "swag": "#CC79A7",
    "mc-dropout": "#8C564B",
    "ensemble": "#009E73",
    "svd-gaussian": "#7B5AA6",
    "vi": "#BCBD22",
    "sghmc": "#17BECF",
    "riemannian-laplace": "#7F7F7F",
    "walk": "#E69F00",
    "metricbnn": "#D55E00",
    "hmc": "#0072B2",
}
# In the figures that are too crowded for every solver, in this order.
MAIN_METHODS = ("map", "laplace", "swag", "mc-dropout", "ensemble", "walk", "metricbnn", "hmc")
OTHERS = ("#E377C2", "#A6761D", "#66A61E", "#666666")
MARKERS = "osD^vP*X<>hp"
FIGURE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
}


def colour(method: str, methods: Iterable[str]) -> str:
    """Return a method's colour among all methods of a figure; unknown ones take spare colours in order."""
    unknown = sorted(set(methods) - set(COLOURS))
    return COLOURS.get(method) or OTHERS[unknown.index(method) % len(OTHERS)]


def shown_variants(rows: pd.DataFrame, methods: Iterable[str]) -> list[tuple[str, str]]:
    """Return (method, settings) of the variant that stands for each method, in the order given.

    A method's defaults, whose settings are empty, where they were run; else the variant with the lowest mean test NLL,
    an advantage that the methods compared with may have.
    """
    done = rows[rows["status"] == "done"]
    mean = done.groupby(["method", "settings"])["nll"].mean()
    own = {method: mean[method] for method in methods if method in mean.index.get_level_values("method")}
    return [(method, "" if "" in found.index else str(found.idxmin())) for method, found in own.items()]


def set_heading(figure: Figure, text: str, width: float) -> None:
    """Write a heading over a figure, broken into lines that are no wider than its panels, `width` inches.

    It begins on the left, since a legend may stand to the right of the panels.
    """
    text = textwrap.fill(text, int(13 * width))  # 13 letters an inch at this size
    figure.suptitle(text, x=0.01, horizontalalignment="left", fontsize=9)


def label_log_axis(axis: Axis) -> None:
    """Label a logarithmic axis in plain numbers: at 1, 2 and 5 of each decade, or at decades if it has many."""
    low, high = axis.get_view_interval()
    if high > 1e4 * low:
        axis.set_minor_formatter(NullFormatter())  # powers of ten, as they come
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high <= 100 * low else (1.0,), numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())

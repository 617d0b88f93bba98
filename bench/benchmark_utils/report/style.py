"""How the figures look: one colour a method in all of them, and which variant of a method stands for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

# Okabe and Ito's palette, which readers with any colour vision can tell apart, but for its yellow.
COLOURS = {
    "map": "#000000",
    "laplace": "#56B4E9",
    "swag": "#CC79A7",
    "ensemble": "#009E73",
    "svd-gaussian": "#7B5AA6",
    "walk": "#E69F00",
    "metricbnn": "#D55E00",
    "hmc": "#0072B2",
}
OTHERS = ("#7F7F7F", "#8C564B", "#17BECF", "#BCBD22", "#E377C2")
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


def best_variants(rows: pd.DataFrame, methods: Iterable[str]) -> list[tuple[str, str]]:
    """Return (method, settings) of each method's variant with the lowest mean NLL, in the order given."""
    done = rows[rows["status"] == "done"]
    mean = done.groupby(["method", "settings"])["nll"].mean()
    return [(method, mean[method].idxmin()) for method in methods if method in mean.index.get_level_values("method")]

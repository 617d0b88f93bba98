"""What the figures are given: by task and method, the arrays that its seed-0 run kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark_utils.report.rows import SHARED, rows_from_results
from benchmark_utils.report.style import shown_variants
from benchmark_utils.report.table import method_labels

Panels = dict[str, dict[str, dict[str, np.ndarray]]]


def panels(rows: pd.DataFrame, arrays: Mapping[str, np.ndarray], methods: Sequence[str], needs: str) -> Panels:
    """Return arrays by task, method's label and array name, of tasks on which some method kept `needs`.

    Args:
        rows: as rows_from_results gives them.
        arrays: likewise.
        methods: which to show, in this order; of several variants the one that `shown_variants` takes.
        needs: the array that a panel cannot do without; of "roc/a" and "roc/b" either, if it is "roc".
    """
    labels = method_labels(rows)
    found: Panels = {}
    for task, group in rows.groupby("task", sort=False):
        shared = {name: arrays[f"{task}//{name}"] for name in SHARED if f"{task}//{name}" in arrays}
        for method, settings in shown_variants(group, methods):
            prefix = f"{task}/{method}/{settings}/"
            own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
            if any(name == needs or name.startswith(f"{needs}/") for name in own):
                found.setdefault(str(task), {})[labels[method, settings]] = own | shared
        _add_reference(found.get(str(task), {}), needs)
    return found


def _add_reference(methods: dict[str, dict[str, np.ndarray]], needs: str) -> None:
    """Put a stored HMC run in the place of a short one, if there is one that has what is needed."""
    one = next(iter(methods.values()), {})
    if f"reference_{needs}" in one:
        for label in [label for label in methods if label.split("[")[0] == "hmc"]:
            del methods[label]
        methods["hmc (reference)"] = one | {name: one[f"reference_{name}"] for name in ("mean", "sd")}


def panels_from_frame(results: pd.DataFrame, methods: Sequence[str], needs: str) -> Panels:
    """Return the panels of a frame as benchopt keeps it."""
    return panels(*rows_from_results(results, []), methods, needs)


def method_of(label: str) -> str:
    """Return the method of a label such as "walk[friction=0.1]" or "hmc (reference)"."""
    return label.split("[")[0].split(" ")[0]


def legend_labels(labels: Iterable[str]) -> dict[str, str]:
    """Return by method what a legend for several tasks calls it: its label, or its name if variants differ."""
    found: dict[str, set[str]] = {}
    for label in labels:
        found.setdefault(method_of(label), set()).add(label)
    return {
        method: next(iter(variants)) if len(variants) == 1 else f"{method} (best of each task)"
        for method, variants in found.items()
    }


def as_image(figure: Figure) -> np.ndarray:
    """Return a figure's pixels, [height, width, 3], 0 to 1, and close it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255.0
    plt.close(figure)
    return pixels

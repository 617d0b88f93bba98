"""How quality and cost grow with the number of hidden layers: the paper's Fig. 5, with fitted exponents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark_utils.report.markdown_text import markdown_text
from benchmark_utils.report.remarks import remarks
from benchmark_utils.report.table import MISSING, mean_and_spread, method_labels, text_table
from benchmark_utils.report.training_time import total_gradients, training_time

TASK = r"depth-(\d+)"
LEAST_DEPTHS = 4  # for a standard error of one seed's slope; of three, one degree of freedom is left


@dataclass(frozen=True)
class Measure:
    """What is shown against depth.

    Attributes:
        name: its column in the frame of `depth_rows`.
        heading: in words, with the unit.
        digits: after the point; None for two significant digits.
        grows: whether it is a cost, whose growth exponent is fitted.
    """

    name: str
    heading: str
    digits: int | None = None
    grows: bool = True


MEASURES = [
    Measure("nll", "Test NLL (nats per example)", 3, grows=False),
    Measure("fit_s", "Seconds, on top of the shared MAP"),
    Measure("total_s", "Seconds, training of the MAP included"),
    Measure("gradients", "Gradients, on top of the shared MAP", 0),
    Measure("total_gradients", "Gradients, those of the MAP included", 0),
    Measure("peak_rise_mib", "Memory that the fit added at its peak (MiB)", 1),
]

EXPLANATION = (
    "Mean ± standard deviation over seeds; the network has as many hidden layers as the column says. The exponent b is "
    "that of cost ∝ layers^b: the slope of a least-squares line through log cost against log layers, fitted to each "
    "seed alone over the depths in brackets. Of several seeds it is the mean ± standard error over seeds; of one seed "
    "± the slope's standard error from the residuals of the line, with two degrees of freedom fewer than depths, given "
    "from four depths on. A method that does not start from the MAP is not charged for it, and the MAP itself "
    "costs nothing on top of it. A gradient is one pass over all training data for "
    "one weight vector, a Hessian-vector product counts as two; with the network, the price of one gradient grows too. "
    "Fits that added less memory than can be told from nothing are left out of the exponents. '-': nothing was "
    "measured."
)


@dataclass(frozen=True)
class Growth:
    """A growth exponent.

    Attributes:
        exponent: mean over seeds.
        error: its standard error: over seeds, or of one seed's slope from its residuals; NaN for too few depths.
        depths: numbers of hidden layers that it was fitted over.
        n_seeds: number of seeds.
    """

    exponent: float
    error: float
    depths: tuple[int, ...]
    n_seeds: int

    @property
    def number(self) -> str:
        """The exponent and its error."""
        error = "" if math.isnan(self.error) else f" ± {self.error:.2f}"
        return f"{self.exponent:.2f}".replace("-0.00", "0.00") + error

    def __str__(self) -> str:
        first, last = self.depths[0], self.depths[-1]
        whole = self.depths == tuple(range(first, last + 1))
        return f"{self.number} ({f'{first} to {last}' if whole else ', '.join(map(str, self.depths))})"


def depth_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of tasks named depth-<L>, with columns depth, label, total_s and total_gradients.

    Totals are with the shared MAP, unless a method says that it does not start from it. What the MAP's call took, which
    computes nothing on top of it, is not a cost: fit_s and peak_rise_mib are 0 there.
    """
    depth = pd.to_numeric(rows["task"].astype(str).str.extract(f"^{TASK}$", expand=False))
    found = rows[depth.notna()]
    labels, idle = method_labels(found), (found["method"] == "map") & (found["gradients"] == 0)
    return found.assign(
        depth=depth.dropna().astype(int),
        label=[labels[key] for key in zip(found["method"], found["settings"], strict=True)],
        total_s=training_time(found),
        total_gradients=total_gradients(found),
        **{name: found[name].mask(idle, 0.0) for name in ("fit_s", "peak_rise_mib")},
    )


def growth(rows: pd.DataFrame, column: str) -> Growth | None:
    """Return the growth exponent of one method's cost; None if no seed has it at three depths at least.

    A seed that lacks a depth which most seeds have would be fitted to another range: only depths that every seed has
    count, of those seeds that finished at three depths or more.

    Args:
        rows: of one method, finished, as `depth_rows` has them.
        column: the cost.
    """
    table = rows.pivot_table(index="seed", columns="depth", values=column)
    table = table.where(table > 0)
    table = table[table.notna().sum(axis=1) >= 3].dropna(axis=1)
    if table.shape[0] == 0 or table.shape[1] < 3:
        return None
    x = np.log(table.columns.to_numpy(dtype=float))
    (slopes, _), covariance = np.polyfit(x, np.log(table.to_numpy(dtype=float)).T, 1, cov=True)
    if len(slopes) > 1:
        error = float(slopes.std(ddof=1) / math.sqrt(len(slopes)))
    else:
        error = math.sqrt(covariance[0, 0, 0]) if len(x) >= LEAST_DEPTHS else math.nan
    return Growth(float(slopes.mean()), error, tuple(int(depth) for depth in table.columns), len(slopes))


def depth_markdown(rows: pd.DataFrame, title: str) -> str:
    """Return Markdown with a table a measure, a line a method, a column a depth; "" if no task is named depth-<L>."""
    found = depth_rows(rows)
    if found.empty:
        return ""
    parts = [f"# {title}", EXPLANATION, "![NLL and cost against depth](depth.png)"]
    for measure in MEASURES:
        headings, lines = depth_table(found, measure)
        if lines:
            parts.append(f"## {measure.heading}")
            parts.append(text_table(headings, lines))
    labels = method_labels(found)
    notes = [
        f"{task}: {note}"
        for task, group in found.sort_values("depth", kind="stable").groupby("task", sort=False)
        for note in remarks(group, labels)
    ]
    return "\n\n".join([*parts, "\n".join(f"- {markdown_text(note)}" for note in notes)]).rstrip() + "\n"


def depth_table(found: pd.DataFrame, measure: Measure) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines of one measure, methods sorted by their mean over depths.

    Args:
        found: as `depth_rows` has them.
        measure: what to show.
    """
    done = found[(found["status"] == "done") & found[measure.name].notna()]
    depths = sorted(found["depth"].unique())
    order = done.groupby("label")[measure.name].mean().sort_values(kind="stable").index
    lines = []
    for label in order:
        own = done[done["label"] == label]
        cells = [mean_and_spread(own.loc[own["depth"] == depth, measure.name], measure.digits) for depth in depths]
        if measure.grows:
            cells.append(str(growth(own, measure.name) or MISSING))
        lines.append([str(label), *cells])
    exponent = ["exponent (layers)"] if measure.grows else []
    return ["method", *(f"{depth}" for depth in depths), *exponent], lines

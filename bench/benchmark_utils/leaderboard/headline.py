"""The leaderboard in one table and one figure, for readers who read no more: how good, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from benchmark_utils.leaderboard.quantities import Quantity
from benchmark_utils.leaderboard.ranks import make_ranks, standing_rows
from benchmark_utils.report.style import FIGURE, colour
from benchmark_utils.report.table import MISSING, markdown_table

RUNS = ("uci", "quick")  # the first that is there
KINDS = ("classification", "regression")
SECOND = {"classification": "ece", "regression": "crps"}  # what is shown beside the NLL
NAMES = {"nll": "NLL", "ece": "ECE", "crps": "CRPS"}


@dataclass(frozen=True, eq=False)
class Headline:
    """What the table and the figure are made from.

    Attributes:
        run: the run in results/ that it is of.
        ranks: by (kind, metric), what make_ranks gives.
        gain: NLL less the MAP's, the median over data sets of means over seeds, [methods, kinds]; nats.
        time: training time over that of the MAP, which it includes where a method starts there; the median over tasks
            of means over seeds, by method.
        n_tasks: tasks, by kind.
    """

    run: str
    ranks: dict[tuple[str, str], dict]
    gain: pd.DataFrame
    time: pd.Series
    n_tasks: dict[str, int]


def make_headline(rows_by_run: Mapping[str, pd.DataFrame], metrics: list[Quantity]) -> Headline | None:
    """Return the headline of the first of RUNS that is there and has ranks; None if there is none."""
    for run in RUNS:
        if run in rows_by_run:
            ranks = {(each["kind"], each["metric"]): each for each in make_ranks({run: rows_by_run[run]}, metrics)}
            if ranks:
                return Headline(run, ranks, *_beside_map(standing_rows(rows_by_run[run].assign(run=run))))
    return None


def _beside_map(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, dict[str, int]]:
    """Gain, time and the number of tasks, as Headline has them."""
    done = rows[rows["status"] == "done"]
    own = done["method"] != "map"
    starts = own & (done.get("starts_from_map", pd.Series(index=done.index, dtype=object)).astype(str) != "False")
    spent = done["fit_s"].where(own, 0.0) + done["map_s"].where(starts | ~own, 0.0)
    done = done.assign(time=spent / done["map_s"])
    mean = done.groupby(["kind", "task", "method"])[["nll", "time"]].mean().reset_index()
    base = mean[mean["method"] == "map"].set_index("task")["nll"]
    gain = mean.assign(gain=mean["nll"] - mean["task"].map(base)).groupby(["method", "kind"])["gain"].median()
    n_tasks = mean.groupby("kind")["task"].nunique().to_dict()
    return gain.unstack(), mean.groupby("method")["time"].median(), n_tasks


def headline_markdown(headline: Headline) -> str:
    """Return the table: a line a method, best mean rank of the NLL first."""
    columns = [(kind, metric) for kind in KINDS for metric in ("nll", SECOND[kind]) if (kind, metric) in headline.ranks]
    mean = {
        column: {each["method"]: each["mean_rank"] for each in headline.ranks[column]["methods"]} for column in columns
    }
    nll = pd.DataFrame({column: mean[column] for column in columns if column[1] == "nll"})
    kinds = [kind for kind in KINDS if kind in headline.gain]
    lines = []
    for method in nll.mean(axis=1).sort_values(kind="stable").index:
        cells = [f"{mean[column][method]:.1f}" if method in mean[column] else MISSING for column in columns]
        gains = [_signed(headline.gain[kind].get(method)) for kind in kinds]
        time = headline.time.get(method)
        lines.append([method, *cells, *gains, MISSING if time is None else f"{time:.1f}"])
    differences = [f"{headline.ranks[column]['critical_difference']:.1f}" for column in columns]
    lines.append(["*critical difference*", *differences, *[""] * (len(kinds) + 1)])
    headings = [
        "method",
        *(f"{NAMES[metric]} rank, {kind}" for kind, metric in columns),
        *(f"NLL − MAP's, {kind}" for kind in kinds),
        "time / MAP's",
    ]
    return markdown_table(headings, lines) + "\n"


def _signed(value: float | None) -> str:
    return MISSING if value is None or pd.isna(value) else f"{value:+.3f}"


def draw_headline(headline: Headline) -> Figure:
    """Return a panel for each kind of task: mean rank of the NLL against training time, the best at the lower left."""
    kinds = [kind for kind in KINDS if (kind, "nll") in headline.ranks]
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.0), squeeze=False, layout="constrained")
        for axis, kind in zip(axes.flat, kinds, strict=True):
            _panel(axis, headline, kind)
    return figure


def _panel(axis: Axes, headline: Headline, kind: str) -> None:
    """One kind of task."""
    ranks = headline.ranks[kind, "nll"]
    names = [each["method"] for each in ranks["methods"]]
    for i, each in enumerate(ranks["methods"]):
        time, shade = headline.time[each["method"]], colour(each["method"], names)
        axis.plot(time, each["mean_rank"], "o", color=shade, markersize=7)
        axis.annotate(
            each["method"],
            (time, each["mean_rank"]),
            xytext=(6, 3 if i % 2 else -8),
            textcoords="offset points",
            fontsize=8,
        )
    low, high = headline.time[names].min(), headline.time[names].max()
    axis.set(xscale="log", xlim=(low / 1.3, high * 4), xlabel="training time / MAP's", ylabel="mean rank of test NLL")
    # How far apart two ranks must be, at the right edge.
    best = ranks["methods"][0]["mean_rank"]
    place = high * 3.2
    axis.plot([place, place], [best, best + ranks["critical_difference"]], color="0.3", linewidth=2)
    middle = best + ranks["critical_difference"] / 2
    axis.annotate(
        "critical\ndifference",
        (place, middle),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7,
    )
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(True, alpha=0.25)
    axis.set_title(f"{kind}, {headline.n_tasks.get(kind, 0)} tasks", fontsize=9)

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
from benchmark_utils.leaderboard.repository import chief_runs
from benchmark_utils.report.style import FIGURE, colour
from benchmark_utils.report.table import MISSING, markdown_table
from benchmark_utils.report.training_time import training_time

KINDS = ("classification", "regression")
SECOND = {"classification": "ece", "regression": "crps"}  # what is shown beside the NLL
NAMES = {"nll": "NLL", "ece": "ECE", "crps": "CRPS"}


@dataclass(frozen=True, eq=False)
class Headline:
    """What the table and the figure are made from.

    Attributes:
        run: the run in results/ that it is of.
        ranks: by (kind, metric), what make_ranks gives.
        gain: NLL less the MAP's, nats; by (kind, method) the median over the tasks that are ranked of means over seeds.
        time: training time over that of the MAP, which it includes where a method starts there; likewise.
        is_alone: whether the leaderboard has no other run.
    """

    run: str
    ranks: dict[tuple[str, str], dict]
    gain: pd.Series
    time: pd.Series
    is_alone: bool


def make_headline(rows_by_run: Mapping[str, pd.DataFrame], metrics: list[Quantity]) -> Headline | None:
    """Return the headline of the first of the chief runs that has ranks; None if there is none."""
    for run in chief_runs(rows_by_run):
        ranks = {(each["kind"], each["metric"]): each for each in make_ranks({run: rows_by_run[run]}, metrics)}
        if ranks:
            rows = standing_rows(rows_by_run[run].assign(run=run))
            return Headline(run, ranks, *_beside_map(rows, ranks), is_alone=len(rows_by_run) == 1)
    return None


def _beside_map(rows: pd.DataFrame, ranks: Mapping[tuple[str, str], dict]) -> tuple[pd.Series, pd.Series]:
    """Gain and time, as Headline has them: over the tasks on which all ranked methods ran, or they do not compare."""
    done = rows[rows["status"] == "done"]
    done = done.assign(time=training_time(done) / done["map_s"])
    mean = done.groupby(["task", "method"])[["nll", "time"]].mean()
    found = {}
    for (kind, metric), ranked in ranks.items():
        if metric == "nll":
            own = mean[mean.index.get_level_values("task").isin(ranked["tasks"])]
            base = own["nll"].xs("map", level="method") if "map" in own.index.get_level_values("method") else None
            gain = own["nll"].sub(base, level="task") if base is not None else own["nll"] * float("nan")
            found[kind] = own.assign(gain=gain).groupby("method")[["gain", "time"]].median()
    every = pd.concat(found, names=["kind"]) if found else pd.DataFrame({"gain": [], "time": []})
    return every["gain"], every["time"]


def headline_markdown(headline: Headline) -> str:
    """Return the table: a line a method, best mean rank of the NLL first; below it what could not be ranked."""
    kinds = [kind for kind in KINDS if (kind, "nll") in headline.ranks]
    mean, headings = {}, ["method"]
    for kind in kinds:
        metrics = [metric for metric in ("nll", SECOND[kind]) if (kind, metric) in headline.ranks]
        for metric in metrics:
            ranked = headline.ranks[kind, metric]["methods"]
            mean[kind, metric] = {each["method"]: each["mean_rank"] for each in ranked}
        headings += [f"{kind}: {NAMES[metric]} rank" for metric in metrics] + ["NLL − MAP's", "time / MAP's"]
    nll = pd.DataFrame({kind: mean[kind, "nll"] for kind in kinds})
    lines, differences = [], ["*critical difference*"]
    for method in nll.mean(axis=1).sort_values(kind="stable").index:
        line = [method]
        for kind in kinds:
            own = [ranks for (each, _), ranks in mean.items() if each == kind]
            line += [f"{ranks[method]:.1f}" if method in ranks else MISSING for ranks in own]
            line += [_cell(headline.gain, kind, method, "+.3f"), _cell(headline.time, kind, method, ".1f")]
        lines.append(line)
    for kind in kinds:
        own = [ranks for (each, _), ranks in headline.ranks.items() if each == kind and (kind, _) in mean]
        differences += [f"{ranks['critical_difference']:.1f}" for ranks in own] + ["", ""]
    notes = [f"Ranks over the data sets of the run `{headline.run}`."]
    if not headline.is_alone:
        notes = [f"Ranks over the data sets of the run `{headline.run}` alone; those of ranks.png are over all runs."]
    notes += [_note(kind, headline.ranks[kind, "nll"]) for kind in kinds]
    return "\n\n".join([markdown_table(headings, [*lines, differences]), " ".join(notes)]) + "\n"


def _note(kind: str, ranks: dict) -> str:
    """What the ranks are over, and what was left out."""
    left = [*ranks["left_out"]["methods"], *ranks["left_out"]["tasks"]]
    over = f"{kind.capitalize()}: {', '.join(ranks['tasks'])}"
    return f"{over}; not run everywhere and so left out: {', '.join(left)}." if left else f"{over}."


def _cell(values: pd.Series, kind: str, method: str, form: str) -> str:
    value = values.get((kind, method))
    return MISSING if value is None or pd.isna(value) else format(value, form)


def draw_headline(headline: Headline) -> Figure:
    """Return a panel for each kind of task: mean rank of the NLL against training time, the best at the lower left."""
    kinds = [kind for kind in KINDS if (kind, "nll") in headline.ranks]
    with plt.rc_context(FIGURE):
        figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.0), squeeze=False, layout="constrained")
        for axis, kind in zip(axes.flat, kinds, strict=True):
            _panel(axis, headline, kind)
            axis.set_title(
                f"{kind}, {headline.ranks[kind, 'nll']['n_blocks']} data sets of the run {headline.run}", fontsize=9
            )
    return figure


def _panel(axis: Axes, headline: Headline, kind: str) -> None:
    """One kind of task."""
    ranks = headline.ranks[kind, "nll"]
    names = [each["method"] for each in ranks["methods"]]
    times = headline.time[kind].reindex(names).dropna()  # a method that failed everywhere has none
    for i, each in enumerate(each for each in ranks["methods"] if each["method"] in times):
        point, shade = (times[each["method"]], each["mean_rank"]), colour(each["method"], names)
        axis.plot(*point, "o", color=shade, markersize=7)
        offset = (0, 6 if i % 2 else -13)
        axis.annotate(each["method"], point, xytext=offset, textcoords="offset points", fontsize=8, ha="center")
    low, high = times.min(), times.max()
    axis.set(xscale="log", xlim=(low / 1.3, high * 4), xlabel="training time / MAP's", ylabel="mean rank of test NLL")
    # How far apart two ranks must be, at the right edge.
    best = ranks["methods"][0]["mean_rank"]
    axis.set_ylim(best - 0.8, ranks["methods"][-1]["mean_rank"] + 0.8)  # room for the names
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

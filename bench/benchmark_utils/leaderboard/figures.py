"""Two figures: average ranks with their critical difference, and cost beside quality with the front."""

from __future__ import annotations

import math
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from benchmark_utils.leaderboard.board import Board
from benchmark_utils.leaderboard.ranks import what_ranks_are_over
from benchmark_utils.report.style import FIGURE, colour

COLUMNS = 3  # panels beside each other


def draw_ranks(board: Board) -> Figure | None:
    """Return a panel for each metric: mean ranks, and bars over methods that are not told apart; None without ranks."""
    if not board["ranks"]:
        return None
    names = {(metric["column"], kind): metric["name"] for metric in board["metrics"] for kind in metric["kinds"]}
    most = max(len(ranks["methods"]) for ranks in board["ranks"])
    with plt.rc_context(FIGURE):
        figure, axes = _panels(len(board["ranks"]), 3.6, 1.3 + 0.26 * most)
        for axis, ranks in zip(axes, board["ranks"], strict=True):
            _rank_panel(axis, ranks, board["methods"])
            axis.set_title(f"{names[ranks['metric'], ranks['kind']]}, {ranks['kind']}", fontsize=9)
        said = what_ranks_are_over(board["ranks"], [each["run"] for each in board["made_from"]])
        width = 55 * min(COLUMNS, len(axes))  # letters
        lines = [line for part in said.replace("; ", ";\n").splitlines() for line in wrap(part, width)]
        figure.suptitle("\n".join(lines), fontsize=8.5, parse_math=False)
    return figure


def _rank_panel(axis: Axes, ranks: dict[str, Any], methods: list[str]) -> None:
    """One metric: the best on top."""
    names = [method["method"] for method in ranks["methods"]]
    means = [method["mean_rank"] for method in ranks["methods"]]
    for place, (name, mean) in enumerate(zip(names, means, strict=True)):
        axis.plot(mean, place, "o", color=colour(name, methods), markersize=6, zorder=3)
    alike = groups(means, ranks["critical_difference"])
    for i, (first, last) in enumerate(alike):
        y = len(names) - 0.4 + 0.3 * i
        axis.plot([means[first], means[last]], [y, y], color="0.25", linewidth=2.5, solid_capstyle="butt")
        for place in (first, last):
            axis.plot([means[place]] * 2, [place, y], color="0.8", linewidth=0.7, zorder=1)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.2 + 0.3 * len(alike), -0.6)
    axis.set_xlim(0.8, len(names) + 0.2)
    axis.set_xlabel(
        f"mean rank over {ranks['n_blocks']} data sets\ncritical difference {ranks['critical_difference']:.2f}",
        fontsize=8,
    )
    axis.grid(True, axis="x", alpha=0.25)


def groups(means: list[float], difference: float) -> list[tuple[int, int]]:
    """Return (first, last) of each longest stretch of sorted mean ranks that spans no more than the difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(means)):
        last = max(i for i in range(first, len(means)) if means[i] - means[first] <= difference)
        if last > first and not any(last <= other for _, other in found):
            found.append((first, last))
    return found


def draw_pareto(board: Board) -> Figure | None:
    """Return a panel for each task, of its first run: NLL against training time; None if nothing is done."""
    first = {task["name"]: task["runs"][0] for task in board["tasks"]}
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in board["entries"]:
        is_done = "nll" in entry["values"] and "total_s" in entry["cost"]
        if is_done and entry["run"] == first[entry["task"]]:
            panels.setdefault((entry["task"], entry["run"]), []).append(entry)
    if not panels:
        return None
    with plt.rc_context(FIGURE):
        figure, axes = _panels(len(panels), 3.4, 2.7)
        for axis, ((task, run), entries) in zip(axes, panels.items(), strict=True):
            _pareto_panel(axis, entries, board["methods"])
            axis.set_title(f"{task} ({run})", fontsize=9)
        handles = [
            Line2D([], [], color=colour(name, board["methods"]), marker="o", linestyle="", label=name)
            for name in board["methods"]
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def _pareto_panel(axis: Axes, entries: list[dict[str, Any]], methods: list[str]) -> None:
    """One task in one run; methods far above the front are left to the edge, so that the front can be seen."""
    points = [
        (e["cost"]["total_s"]["mean"], e["values"]["nll"]["mean"], e["values"]["nll"]["sd"] or 0.0, e) for e in entries
    ]
    losses = sorted(loss for _, loss, _, _ in points)
    inner = losses[int(0.75 * (len(losses) - 1))]
    limit = inner + 2 * max(inner - losses[0], 0.02)
    for cost, loss, sd, entry in points:
        shade = colour(entry["method"], methods)
        if loss > limit:
            axis.plot(cost, limit, "^", color=shade, markersize=4, clip_on=False)
            continue
        axis.errorbar(cost, loss, sd, color=shade, elinewidth=0.7, alpha=0.35)
        axis.plot(cost, loss, "o", color=shade, markersize=5 if entry["pareto"] else 3)
    front = sorted((point for point in points if point[3]["pareto"]), key=lambda point: point[0])
    axis.step([p[0] for p in front], [p[1] for p in front], where="post", color="0.4", linewidth=0.9, zorder=1)
    # A method once, where it joins the front.
    named = list({point[3]["method"]: point for point in reversed(front)}.values())[::-1]
    for i, (cost, loss, _, entry) in enumerate(named):
        offset = (3, 4 if i % 2 else -9)
        axis.annotate(
            entry["method"], (cost, min(loss, limit)), xytext=offset, textcoords="offset points", fontsize=6.5
        )
    axis.set(xscale="log", xlabel="training, MAP included (s)", ylabel="test NLL (nats)")
    if losses[-1] > limit:
        axis.set_ylim(top=limit)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(True, alpha=0.25)


def _panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, and these."""
    n_columns = min(COLUMNS, n)
    n_lines = math.ceil(n / n_columns)
    figure, axes = plt.subplots(
        n_lines, n_columns, figsize=(width * n_columns, height * n_lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])

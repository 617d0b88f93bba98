"""The leaderboard without a script: every number of the board in plain HTML tables, one a run and task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from typing import Any

MISSING = "–"


def plain_tables(board: Mapping[str, Any]) -> str:
    """Return HTML: a table for each run and task, of every metric that has a value there, and what did not finish."""
    entries = sorted(board["entries"], key=_place)
    return "\n".join(_table(board, place, list(group)) for place, group in groupby(entries, _place))


def _place(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What an entry's numbers can be compared within."""
    return entry["run"], entry["task"]


def _table(board: Mapping[str, Any], place: tuple[str, str], entries: list[Mapping[str, Any]]) -> str:
    """One run and task."""
    kinds = {task["name"]: task["kind"] for task in board["tasks"]}
    metrics = [
        metric
        for metric in board["metrics"]
        if kinds.get(place[1]) in metric["kinds"] and any(entry["values"].get(metric["column"]) for entry in entries)
    ]
    heads = [
        "method",
        *(metric["name"] for metric in metrics),
        *(f"{cost['name']}, {cost['unit']}" for cost in board["costs"]),
        "seeds",
        "remarks",
    ]
    lines = [
        [
            entry["label"],
            *(_number(entry["values"].get(metric["column"])) for metric in metrics),
            *(_number(entry["cost"].get(cost["column"])) for cost in board["costs"]),
            f"{entry['status'].get('done', 0)} of {sum(entry['status'].values())}",
            "; ".join([*(["on the Pareto front"] if entry["pareto"] else []), *entry["reasons"]]),
        ]
        for entry in entries
    ]
    rows = escape(entries[0]["rows"], quote=True)
    run, task = (escape(name) for name in place)
    return (
        f'<h2>{task} <small>in {run}, <a href="{rows}">rows</a></small></h2>\n<div class="scroll"><table>\n'
        f"<thead><tr>{_cells(heads, 'th', 'col')}</tr></thead>\n<tbody>\n"
        + "\n".join(f"<tr>{_cells([label], 'th', 'row')}{_cells(cells, 'td')}</tr>" for label, *cells in lines)
        + "\n</tbody></table></div>"
    )


def _cells(texts: Iterable[str], tag: str, scope: str = "") -> str:
    """Cells of a table's row."""
    opening = f'{tag} scope="{scope}"' if scope else tag
    return "".join(f"<{opening}>{escape(text)}</{tag}>" for text in texts)


def _number(value: Mapping[str, Any] | None) -> str:
    """Mean ± standard deviation, to three significant digits of the mean, and the number of seeds."""
    if not value or value.get("mean") is None:
        return MISSING
    mean, sd, n = value["mean"], value.get("sd"), value["n"]
    digits = min(4, max(0, 2 - math.floor(math.log10(abs(mean))))) if mean else 0
    return f"{mean:,.{digits}f}{f' ± {sd:,.{digits}f}' if n > 1 and sd is not None else ''} (n={n})"

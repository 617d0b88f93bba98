"""The leaderboard as one HTML file: data, style and script inlined, nothing fetched, nothing run but that script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from benchmark_utils.leaderboard.among_best import FEWEST
from benchmark_utils.leaderboard.plain_tables import plain_tables
from benchmark_utils.leaderboard.repository import chief_runs
from benchmark_utils.report.style import colour
from benchmark_utils.report.table import COLUMNS

ASSETS = Path(__file__).with_name("assets")
# In this order they are one script: each uses only what stands before it.
SCRIPTS = ("text.js", "marks.js", "state.js", "choice.js", "table.js", "plot.js", "plots.js", "notes.js", "page.js")
NEEDED = ("suite_version", "made_from", "metrics", "costs", "tasks", "methods", "entries", "ranks")


def page(board: Mapping[str, Any]) -> str:
    """Return the text of one self-contained HTML file: no server, no request, no other file.

    Whatever the board's text says stays text: the data is embedded as JSON in which no tag can end or begin, the script
    writes it as text nodes, and a content security policy runs this one script, by its hash, and no other.

    Args:
        board: what is shown, as JSON has it: suite_version, made_from (run, rows, n_rows, commit), metrics and costs
            (column, id, name, direction, unit, formula, kinds), tasks, methods, entries (a method on a task in a run,
            with mean, sd and n of each value and cost, and the columns in which it is among the best) and ranks.

    Raises:
        ValueError: if a part of the board is missing, there is no entry or metric, a number is not finite, or a link
            to rows is neither relative nor https.
    """
    if missing := [name for name in NEEDED if name not in board]:
        raise ValueError(f"the board lacks {', '.join(missing)}")
    for name in ("entries", "metrics", "made_from"):
        if not board[name]:
            raise ValueError(f"the board has no {name}: there is nothing to show")
    _check_links(board)
    runs = [source["run"] for source in board["made_from"]]
    added = {
        "colours": {method: colour(method, board["methods"]) for method in board["methods"]},
        "main": [column.name for column in COLUMNS],
        "first_run": next(iter(chief_runs(runs)), runs[0]),
        "fewest_seeds": FEWEST,
    }
    style = _asset("page.css")
    script = "(() => {\n" + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();"
    return Template(_asset("page.html")).substitute(
        suite=escape(str(board["suite_version"])),
        style=style,
        style_hash=_source_hash(style),
        script=script,
        script_hash=_source_hash(script),
        data=_embedded({**board, **added}),
        plain=plain_tables(board),
    )


def _asset(name: str) -> str:
    """Text of one of the page's parts."""
    return (ASSETS / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    """What a content security policy calls an inline style or script of this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: no <, > or &, so that it can neither end it nor open a comment."""
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError("the board holds a number that is not finite: leave it out, or write null") from error
    return text.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"})


def _check_links(board: Mapping[str, Any]) -> None:
    """Refuse links that a browser would take for something else than a file of rows."""
    for link in sorted(set(_links(board))):
        scheme = re.match(r"[\s\x00-\x20]*([a-zA-Z][a-zA-Z0-9+.\-]*):", link)
        if link.startswith("//") or (scheme and scheme[1].lower() != "https"):
            raise ValueError(f"the rows link {link!r} is neither a relative path nor https")


def _links(board: Mapping[str, Any]) -> Iterator[str]:
    """Every link to rows in the board."""
    for part in (*board["made_from"], *board["entries"]):
        yield str(part["rows"])

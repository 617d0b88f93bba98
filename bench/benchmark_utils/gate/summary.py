"""What the gate found, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark_utils.gate.check import VERDICTS, Check, exit_code
from benchmark_utils.report.table import markdown_table

HEADINGS = ["verdict", "check", "baseline", "fresh", "interval", "limit", "remark"]
COLOURS = {"fail": "red", "incomparable": "magenta", "inconclusive": "yellow", "pass": "green", "note": "dim"}
EXPLANATION = (
    "interval: 95 % bootstrap, of the mean difference to the baseline over paired seeds (calibration, cost), or of the "
    "ratio to the baseline's own (speed); fail if it lies wholly beyond the limit, inconclusive if it reaches over it. "
    "docs/gate.md says what is checked and why."
)


def verdict_line(checks: Sequence[Check]) -> str:
    """Return the outcome in a line."""
    counts = Counter(check.verdict for check in checks)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    outcome = {0: "The gate is open", 1: "The gate is shut", 2: "The gate cannot tell"}[exit_code(checks)]
    return f"{outcome}: {told or 'nothing was checked'}."


def print_summary(checks: Sequence[Check], console: Console) -> None:
    """Print what did not pass, and how many checks of each part did."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    shown = _shown(checks)
    for check in shown:
        verdict, *cells = _cells(check)
        table.add_row(f"[{COLOURS[check.verdict]}]{verdict}[/]", *map(escape, cells))
    if shown:
        console.print(table)
    for line in _passed(checks):
        console.print(line, markup=False, highlight=False)
    console.print(EXPLANATION, style="dim", highlight=False)
    colour = {0: "green", 1: "red", 2: "magenta"}[exit_code(checks)]
    console.print(f"[{colour}]{verdict_line(checks)}[/]", highlight=False)


def markdown(checks: Sequence[Check]) -> str:
    """Return all of it as Markdown: first what did not pass, then everything, folded away."""
    shown = [_cells(check) for check in _shown(checks)]
    full = markdown_table(HEADINGS, [_cells(check) for check in sorted(checks, key=_rank)], n_left=2)
    parts = [
        "# Regression gate",
        f"**{verdict_line(checks)}**",
        markdown_table(HEADINGS, shown, n_left=2),
        "\n".join(f"- {line}" for line in _passed(checks)),
        EXPLANATION,
        f"<details><summary>All {len(checks)} checks</summary>\n\n{full}\n\n</details>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(checks: Sequence[Check]) -> list[Check]:
    """What needs eyes, the worst first: all that did not pass, and passes with something to say."""
    return sorted((check for check in checks if check.verdict != "pass" or check.remark), key=_rank)


def _rank(check: Check) -> int:
    return VERDICTS.index(check.verdict)


def _passed(checks: Sequence[Check]) -> list[str]:
    """A line a part: how many of its checks passed."""
    judged = [check for check in checks if check.verdict != "note"]
    totals, passed = (
        Counter(check.part for check in some) for some in (judged, [c for c in judged if c.verdict == "pass"])
    )
    return [f"{part}: {passed[part]} of {total} checks passed" for part, total in totals.items()]


def _cells(check: Check) -> list[str]:
    interval = "" if math.isnan(check.low) else f"{check.low:+.3g} to {check.high:+.3g}"
    if check.part in ("speed", "walk", "memory"):
        interval = interval.replace("+", "")
    numbers = [("" if math.isnan(value) else f"{value:.4g}") for value in (check.baseline, check.fresh)]
    return [check.verdict, f"{check.part}: {check.what}", *numbers, interval, check.limit, check.remark]

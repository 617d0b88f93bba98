"""The table of ratios: every method of a group against ours, measured side by side."""

from __future__ import annotations

from itertools import groupby
from typing import Any

OURS = "fiberbnn"


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: median and spread of each method's seconds, and how many times ours it takes.

    Args:
        rows: of one run; each has a group, the name of a method and pytest-benchmark's statistics.
    """
    lines = [
        "| what | method | median, ms | quartiles apart, ms | rounds | times ours |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for group, members in groupby(sorted(rows, key=lambda row: row["group"]), key=lambda row: row["group"]):
        found = {row["name"]: row["stats"] for row in members}
        ours = found.get(OURS)
        for name, stats in found.items():
            ratio = f"{stats['median'] / ours['median']:.2f}" if ours else "-"
            numbers = f"{1e3 * stats['median']:.3g} | {1e3 * stats['iqr']:.2g} | {stats['rounds']}"
            lines.append(f"| {group} | {name} | {numbers} | {ratio} |")
    return "\n".join(lines)

"""What the operations must reach, and what they have reached in a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

OURS = "fiberbnn"
Rows = list[dict[str, Any]]


class Target(NamedTuple):
    """One requirement; the worst of its cases counts.

    Attributes:
        what: in words.
        wanted: bound of the worst case.
        at_least: whether it is a lower bound.
        found: the cases.
    """

    what: str
    wanted: float
    at_least: bool
    found: list[float]

    @property
    def worst(self) -> float:
        """Of the cases."""
        return min(self.found) if self.at_least else max(self.found)

    @property
    def reached(self) -> bool:
        """Whether the worst case is on the right side of the bound."""
        return self.worst >= self.wanted if self.at_least else self.worst <= self.wanted


def targets(rows: Rows, on_gpu: bool) -> list[Target]:
    """Return the requirements of a device that the rows say anything about."""
    walks = [row for row in rows if "particle_steps" in row]
    if not on_gpu:
        found = [
            Target("walk against vmap(grad), times faster", 1.8, True, list(ratios(walks, "vmap(grad)"))),
            Target("a particle's time, most particles over fewest", 1.1, False, list(growth(walks))),
            Target("predictive against a loop, times faster", 3.0, True, list(ratios(chosen(rows, "predi"), "loop"))),
        ]
    else:
        narrow = [row for row in walks if max(map(int, row["net"].split("-")[1:-1])) <= 32]
        eager = [*ratios(narrow, "vmap(grad)"), *ratios(narrow, "batched products")]
        graph = list(ratios(narrow, "graph of batched products"))
        found = [
            Target("flat update of 1e8 numbers, share of a copy", 0.85, True, shares(chosen(rows, "BAOAB"))),
            Target("walk up to width 32 against eager, times faster", 5.0, True, eager),
            Target("walk up to width 32 against a CUDA graph, times faster", 2.0, True, graph),
            Target("classes of a last layer, share of the floor", 0.8, True, shares(chosen(rows, "classes"))),
        ]
    return [target for target in found if target.found]


def chosen(rows: Rows, start: str) -> Rows:
    """Return the rows of groups whose name starts so."""
    return [row for row in rows if row["group"].startswith(start)]


def ratios(rows: Rows, method: str) -> Iterator[float]:
    """Yield how many times ours a method takes, in every group that has both."""
    ours = {row["group"]: row["median_s"] for row in rows if row["method"] == OURS}
    return (row["median_s"] / ours[row["group"]] for row in rows if row["method"] == method and row["group"] in ours)


def steps(walk: dict[str, Any]) -> int:
    """Return the steps of a walk's call."""
    return int(walk["particle_steps"] // walk["particles"])


def growth(walks: Rows) -> Iterator[float]:
    """Yield the time of a particle among most over that of one among fewest, for every perceptron."""
    ours = [row for row in walks if row["method"] == OURS]
    for kind in dict.fromkeys((row["net"], steps(row)) for row in ours):
        mine = sorted((row for row in ours if (row["net"], steps(row)) == kind), key=lambda row: row["particles"])
        if len(mine) > 1:
            few, most = (row["median_s"] / row["particle_steps"] for row in (mine[0], mine[-1]))
            yield most / few


def shares(rows: Rows) -> list[float]:
    """Return our shares of the floor at the largest size."""
    ours = [row for row in rows if row["method"] == OURS]
    largest = max((row["bytes"] for row in ours), default=0)
    # Halves of a step move different numbers of bytes for as many numbers.
    return [row["floor_s"] / row["median_s"] for row in ours if row["bytes"] > largest / 2]


def table_of(rows: Rows, on_gpu: bool) -> str:
    """Return Markdown: a line for each requirement; no text if there is none."""
    found = targets(rows, on_gpu)
    if not found:
        return ""
    lines = ["| what must be reached | wanted | worst found | cases | reached |", "| --- | ---: | ---: | ---: | --- |"]
    for target in found:
        wanted = f"{'at least' if target.at_least else 'at most'} {target.wanted:g}"
        reached = "yes" if target.reached else "no"
        lines.append(f"| {target.what} | {wanted} | {target.worst:.2f} | {len(target.found)} | {reached} |")
    return "\n".join(lines)

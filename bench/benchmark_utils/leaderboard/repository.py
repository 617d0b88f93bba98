"""Which runs in results/ are the repository's own; all others are somebody's, and have to fit these."""

from __future__ import annotations

from collections.abc import Iterable

# In the leaderboard's order; others follow by name.
OWN = ("quick", "uci", "images", "depth", "ablation", "uci-small", "snelson", "cifar10-jpeg-1k")
# What a reader sees first, the first that is there: the headline is of this run, and the page opens on it.
CHIEF = ("uci", "quick")


def is_own(run: str) -> bool:
    """Return whether a run is the repository's, whole or in part (NAME-partial), by its folder's name."""
    return run.removesuffix("-partial") in OWN


def chief_runs(runs: Iterable[str]) -> list[str]:
    """Return those of CHIEF that are among the runs, the preferred one first."""
    there = set(runs)
    return [run for run in CHIEF if run in there]


def place(run: str) -> int:
    """Return the place of a run in the leaderboard: own runs first; sorting keeps the order of the others."""
    name = run.removesuffix("-partial")
    return OWN.index(name) if name in OWN else len(OWN)

"""The runs in results/ that the leaderboard is made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark_utils.leaderboard.check import problems_of
from benchmark_utils.leaderboard.repository import is_own, place
from benchmark_utils.report.read_rows import read_rows
from benchmark_utils.report.refusals import RowsError
from benchmark_utils.rows.row import SUITE_VERSION

Runs = dict[str, pd.DataFrame]


def find_runs(results: Path, names: Sequence[str] = ()) -> tuple[Runs, list[str]]:
    """Return the rows of each run that can be on the leaderboard, by its folder's name, and why others are not.

    The repository's own runs come first; every other must fit these and those before it by name.

    Args:
        results: the folder that holds a folder a run, with rows.parquet in it.
        names: the runs to take; all that are there if empty, but for parts (NAME-partial).

    Raises:
        ValueError: if a run that is named is not there, or cannot be taken.
    """
    found = {path.parent.name: path for path in sorted(results.glob("*/rows.parquet"))}
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"there are no rows of {', '.join(missing)} in {results}; there are {', '.join(found)}")
    whole = [name for name in found if not name.endswith("-partial")]
    wanted = set(names or whole)
    # A run of somebody else is held against the repository's own even where these are not asked for.
    foreign = any(not is_own(name) for name in wanted)
    read = wanted | ({name for name in whole if is_own(name)} if foreign else set())
    runs: Runs = {}
    notes = []
    for name in sorted(sorted(read), key=place):
        rows, why = _rows(found[name], {} if is_own(name) else runs)
        if rows is not None:
            runs[name] = rows
        elif name in names:
            raise ValueError(why)
        elif name in wanted:
            notes.append(f"{name} is left out: {why}")
    return {name: rows for name, rows in runs.items() if name in wanted}, notes


def _rows(path: Path, others: Runs) -> tuple[pd.DataFrame | None, str]:
    """The rows of one run, which must fit the others; None and the reason if they cannot be on the leaderboard."""
    try:
        rows = read_rows(path)
    except RowsError as error:
        return None, str(error)
    versions = {version for version in rows.get("suite_version", []) if version}
    if versions != {SUITE_VERSION}:
        return None, f"suite version {', '.join(map(str, sorted(versions)))}, not {SUITE_VERSION}: run it again"
    if problems := problems_of(rows, others):
        return None, f"{len(problems)} problems, the first: {problems[0].what}; see --check {path}"
    return rows, ""

"""Checks rows before they join the leaderboard: everything that is wrong at once, with how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark_utils.leaderboard.repository import OWN
from benchmark_utils.leaderboard.rules import RULES, comparable
from benchmark_utils.leaderboard.violations import Problem, records, violations
from benchmark_utils.report.read_rows import read_plain
from benchmark_utils.report.refusals import RowsError
from benchmark_utils.tasks.known import known_tasks

MOST_SHOWN = 8  # row numbers of a problem


def problems_of(rows: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> list[Problem]:
    """Return all that is wrong with rows.

    Args:
        rows: as read_plain gives them.
        runs: the repository's rows by run, with which they must not collide and must be comparable; may be empty.
    """
    plain, tasks = comparable(rows), known_tasks()
    return [*violations(records(rows)), *(problem for rule in RULES for problem in rule(plain, tasks, runs))]


def check(files: Iterable[Path], runs: Mapping[str, pd.DataFrame], folder: Path) -> tuple[bool, str]:
    """Return whether files of rows can join the leaderboard, and what to say about each.

    Args:
        files: Parquet or CSV; those that are read must not collide with each other either.
        runs: the repository's rows by run.
        folder: where these are. Its rows.parquet of a run of the repository's own are held against nothing, those of
            another run against all but themselves.
    """
    texts, good = [], True
    others = dict(runs)
    for path in files:
        run = run_of(path, folder)
        try:
            rows = read_plain(path)
        except RowsError as error:
            texts.append(str(error))
            good = False
            continue
        if run in OWN:  # whole: a part of one lacks seeds
            problems = problems_of(rows, {})
        else:
            problems = problems_of(rows, {name: other for name, other in others.items() if name != run})
        texts.append(report(path, rows, problems))
        good = good and not problems
        if not problems and run is None:
            others[f"{path} (given before)"] = rows_typed(rows)
    return good, "\n\n".join(texts)


def run_of(path: Path, folder: Path) -> str | None:
    """Return the run whose rows.parquet in the results' folder a file is; None if it is another file."""
    place = path.resolve()
    return place.parent.name if place == folder.resolve() / place.parent.name / "rows.parquet" else None


def rows_typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows that passed as the repository's are: text without gaps, numbers as numbers."""
    cleaned = pd.DataFrame(records(rows))
    return cleaned.assign(**{name: comparable(rows)[name] for name in ("task", "method", "settings", "seed")})


def report(path: Path, rows: pd.DataFrame, problems: Sequence[Problem]) -> str:
    """Return what to print about a file."""
    if not problems:
        return f"{path}: {len(rows)} rows, nothing to mend"
    lines = [f"{path}: {len(rows)} rows, {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    for number, problem in enumerate(problems, start=1):
        shown = ", ".join(map(str, problem.rows[:MOST_SHOWN]))
        more = f" and {len(problem.rows) - MOST_SHOWN} more" if len(problem.rows) > MOST_SHOWN else ""
        where = f"row{'s' if len(problem.rows) > 1 else ''} {shown}{more}: " if problem.rows else ""
        lines += [f"{number:3}. {where}{problem.what}", f"     To mend it: {problem.mend}."]
    return "\n".join(lines)

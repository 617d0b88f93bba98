"""Checks rows before they join the leaderboard: everything that is wrong at once, with how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark_utils.leaderboard.row_file import UnreadableRowsError, read_rows
from benchmark_utils.leaderboard.rules import RULES, comparable
from benchmark_utils.leaderboard.violations import Problem, records, violations
from benchmark_utils.tasks import known_tasks

MOST_SHOWN = 8  # row numbers of a problem


def problems_of(rows: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> list[Problem]:
    """Return all that is wrong with rows.

    Args:
        rows: as row_file.read_rows gives them.
        runs: the repository's rows by run, with which they must not collide and must be comparable; may be empty.
    """
    plain, tasks = comparable(rows), known_tasks()
    return [*violations(records(rows)), *(problem for rule in RULES for problem in rule(plain, tasks, runs))]


def check(files: Iterable[Path], runs: Mapping[str, pd.DataFrame], folder: Path) -> tuple[bool, str]:
    """Return whether files of rows can join the leaderboard, and what to say about each.

    Args:
        files: Parquet or CSV; those that are read must not collide with each other either.
        runs: the repository's rows by run.
        folder: where these are; a run of the repository is not held against itself or its other runs.
    """
    texts, good = [], True
    others = dict(runs)
    for path in files:
        own = path.resolve().is_relative_to(folder.resolve())
        try:
            rows = read_rows(path)
        except UnreadableRowsError as error:
            texts.append(str(error))
            good = False
            continue
        problems = problems_of(rows, {} if own else others)
        texts.append(report(path, rows, problems))
        good = good and not problems
        if not problems and not own:
            others[f"{path} (given before)"] = rows_typed(rows)
    return good, "\n\n".join(texts)


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

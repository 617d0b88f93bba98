"""Which rows of a fresh run and of the baseline may be compared, and what is missing, failed or of another suite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmark_utils.gate.check import Check
from benchmark_utils.report.rows import KEY
from benchmark_utils.report.table import method_labels

ADVICE = "update the baseline (--update REASON) if this is meant"
NEEDED = [*KEY, "suite_version", "status", "reason", "kind", "dataset_sha256", "nll"]


class GateError(ValueError):
    """The gate cannot do its work; the message says what to change."""


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet file.

    Raises:
        GateError: if the file is missing, cannot be read, lacks columns, or has a run twice.
    """
    if not path.is_file():
        raise GateError(f"there is no {path}: run `nox -s bench -- quick` first, or name the folder of a run")
    try:
        rows = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises a dozen kinds
        raise GateError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in NEEDED if name not in rows]:
        raise GateError(f"{path} has no column {', '.join(missing)}: it was not written by bench/run.py")
    if len(twice := rows[rows.duplicated(KEY)]):
        raise GateError(f"{path} has some runs twice, the first of them {_words(twice.iloc[0])}")
    return rows


def compared(baseline: pd.DataFrame, fresh: pd.DataFrame, *, partial: bool = False) -> tuple[pd.DataFrame, list[Check]]:
    """Return what can be compared, and what is to be said of the rest.

    Args:
        baseline: rows.
        fresh: rows.
        partial: whether runs that the fresh rows lack are no failure.

    Returns:
        A line for each run that is done in both, indexed by KEY, with the columns of both, those of the baseline with
        the ending "_baseline" and a "label" of method and settings; and checks.
    """
    checks = _missing(baseline, fresh, partial) + _failed(baseline, fresh) + _new(baseline, fresh)
    before, after = (rows[rows["status"] == "done"].set_index(KEY) for rows in (baseline, fresh))
    both = after.join(before.add_suffix("_baseline"), how="inner")
    labels = method_labels(baseline)
    both["label"] = [labels[method, settings] for _, method, settings, _ in both.index]
    for column, name in (("suite_version", "version of the suite"), ("dataset_sha256", "content of the data")):
        differs = both[column] != both[f"{column}_baseline"]
        for task in dict.fromkeys(both.index.get_level_values("task")[differs]):
            # From the fresh run's own rows: a version is the same for a whole run, a content for a task.
            one = both[differs].xs(task, level="task").iloc[0]
            found, known = (str(one[name])[:12] for name in (column, f"{column}_baseline"))
            remark = f"{found}, in the baseline {known}: cannot be compared, {ADVICE}"
            checks.append(Check("runs", f"{name}: {task}", "incomparable", remark=remark))
        both = both[~differs]
    return both, checks


def _missing(baseline: pd.DataFrame, fresh: pd.DataFrame, partial: bool) -> list[Check]:
    """Runs that the baseline has and the fresh rows do not."""
    gone = _without(baseline, fresh)
    if gone.empty or partial:
        return []
    return [Check("runs", what, "fail", remark=f"missing: the baseline has it; {ADVICE}") for what in _grouped(gone)]


def _failed(baseline: pd.DataFrame, fresh: pd.DataFrame) -> list[Check]:
    """Runs that went wrong, or are skipped where the baseline has a result."""
    done = baseline[baseline["status"] == "done"].set_index(KEY).index
    was_done = fresh.set_index(KEY).index.isin(done)
    wrong = fresh[fresh["status"].isin(["failed", "diverged"]) | (was_done & (fresh["status"] != "done"))]
    return [
        Check("runs", what, "fail", remark=f"{status}: {reason or 'no reason given'}")
        for (status, reason), group in wrong.groupby(["status", "reason"])
        for what in _grouped(group)
    ]


def _new(baseline: pd.DataFrame, fresh: pd.DataFrame) -> list[Check]:
    """Runs that the baseline does not know."""
    remark = "new: not in the baseline, so not compared"
    return [Check("runs", what, "note", remark=remark) for what in _grouped(_without(fresh, baseline))]


def _without(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The rows whose runs are not among the others."""
    return rows[~rows.set_index(KEY).index.isin(others.set_index(KEY).index)]


def _grouped(rows: pd.DataFrame) -> Iterable[str]:
    """A line a method and task, with the seeds."""
    labels = method_labels(rows)
    for (task, method, settings), group in rows.groupby(["task", "method", "settings"]):
        seeds = ", ".join(map(str, sorted(group["seed"])))
        yield f"{labels[method, settings]} on {task}, seed {seeds}"


def _words(row: pd.Series) -> str:
    return f"{row['method']}[{row['settings']}] on {row['task']}, seed {row['seed']}"

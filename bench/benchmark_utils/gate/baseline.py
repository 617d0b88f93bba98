"""The baseline: rows of a quick run, and what the gate measured itself, with the history of why it was changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark_utils.gate.check import Check
from benchmark_utils.gate.pairs import GateError, read_rows
from benchmark_utils.report.rows import write_rows, write_text
from benchmark_utils.rows import provenance

FORMAT = 1
ROWS, MEASURED, HISTORY = "rows.parquet", "baseline.json", "HISTORY.md"
HEADING = (
    "# Why the baseline is what it is\n\nWritten by `python bench/gate.py --update REASON`; the latest comes first.\n"
)


@dataclass(frozen=True)
class Measured:
    """What the gate measures itself, beside the rows.

    Attributes:
        definitions: as `definitions.values` gives them.
        step_sizes: as `step_size.measured` does.
        speed: as `speed.record` does; {} if it was not measured.
        memory: as `memory.measured` does.
    """

    definitions: dict[str, dict[str, Any]]
    step_sizes: dict[str, float] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


def read(folder: Path) -> tuple[pd.DataFrame, Measured]:
    """Return the rows and what was measured.

    Raises:
        GateError: if there is no baseline, it is of another format, or its files are not of one update.
    """
    path = folder / MEASURED
    if not path.is_file():
        raise GateError(f"there is no baseline in {folder}: make one with `python bench/gate.py --update REASON`")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known, stored = found["format"], found["rows_sha256"]
        measured = Measured(**found["measured"]) if known == FORMAT else None
    except (ValueError, KeyError, TypeError) as error:
        raise GateError(f"{path} is damaged ({type(error).__name__}: {error}): make the baseline again") from error
    if measured is None:
        raise GateError(f"{path} has format {known}, this code reads {FORMAT}: make the baseline again")
    rows = read_rows(folder / ROWS)
    if _digest(folder / ROWS) != stored:
        raise GateError(f"{path} was written with other rows than {ROWS} holds: make the baseline again")
    return rows, measured


def checked(rows: Path, reason: str) -> pd.DataFrame:
    """Return the rows of a run that is to become the baseline.

    Raises:
        GateError: if the reason is empty, or the run has failed rows or none that is done.
    """
    if not reason.strip():
        raise GateError("say why the baseline changes: --update 'REASON'")
    frame = read_rows(rows)
    wrong = frame[frame["status"].isin(["failed", "diverged"])]
    if len(wrong):
        first = wrong.iloc[0]
        raise GateError(
            f"{rows} has {len(wrong)} runs that failed, the first {first['method']} on {first['task']} "
            f"({first['reason']:.100}): mend them first"
        )
    if not (frame["status"] == "done").any():
        raise GateError(f"{rows} has no run that is done")
    return frame


def write(folder: Path, rows: pd.DataFrame, measured: Measured, reason: str, changes: list[Check]) -> None:
    """Write a baseline and why it is one; every file is renamed into place, and baseline.json, which vouches, last.

    Args:
        folder: of the baseline.
        rows: of a run, as `checked` gives them.
        measured: what the gate measured just now.
        reason: in words, for whoever wonders later.
        changes: how all this differs from the baseline before, if there was one.
    """
    reason = " ".join(reason.split())
    write_rows(rows, folder / ROWS)
    _write_history(folder / HISTORY, rows, reason, changes)
    about = {
        "format": FORMAT,
        "reason": reason,
        "rows_sha256": _digest(folder / ROWS),
        "commit": provenance.commit(),
        "versions": json.loads(provenance.versions()),
        "measured": asdict(measured),
    }
    write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", folder / MEASURED)


def _write_history(path: Path, rows: pd.DataFrame, reason: str, changes: list[Check]) -> None:
    """Put an entry before the others."""
    before = path.read_text(encoding="utf-8").removeprefix(HEADING) if path.is_file() else ""
    done = int((rows["status"] == "done").sum())
    commits = ", ".join(sorted({commit for commit in rows.get("commit", []) if commit})) or "unknown"
    told = [f"- {check.what}: {_number(check.baseline)} to {_number(check.fresh)} {check.remark}" for check in changes]
    entry = "\n".join([
        f"\n## {datetime.now(UTC):%Y-%m-%d}, commit {provenance.commit()}\n",
        f"{reason}\n",
        f"{done} runs done, made by commit {commits}.",
        *(["\nWhat changed by more than its limit:\n", *told] if told else []),
    ])  # fmt: skip
    write_text(f"{HEADING}{entry}\n{before}", path)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4g}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

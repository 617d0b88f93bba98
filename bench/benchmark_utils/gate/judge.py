"""All checks of the gate together, and the update of the baseline."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmark_utils.gate import baseline, definitions, memory, speed, step_size
from benchmark_utils.gate.baseline import ROWS, Measured
from benchmark_utils.gate.calibration import calibration_checks
from benchmark_utils.gate.check import Check
from benchmark_utils.gate.cost import cost_checks
from benchmark_utils.gate.pairs import GateError, compared, read_rows
from benchmark_utils.gate.workloads import workloads


def checks(folder: Path, fresh: Path, console: Console, *, partial: bool = False, measure: bool = True) -> list[Check]:
    """Return every check of a fresh run, and of the present code, against a baseline.

    Args:
        folder: of the baseline.
        fresh: of the run, with rows.parquet.
        console: where progress is told.
        partial: whether the fresh rows may lack runs.
        measure: whether speed, memory and step size of the present code are measured, a minute or so.

    Raises:
        GateError: if either cannot be read.
    """
    rows, before = baseline.read(folder)
    frame = read_rows(fresh / ROWS)
    after = measured(console, before) if measure else Measured(definitions.values())
    return compare(rows, before, frame, after, partial=partial)


def compare(
    rows: pd.DataFrame, before: Measured, fresh: pd.DataFrame, after: Measured, *, partial: bool = False
) -> list[Check]:
    """Return every check of rows and of what was measured, against those of a baseline."""
    both, found = compared(rows, fresh, partial=partial)
    found += definitions.definition_checks(before.definitions, after.definitions)
    changed = definitions.columns_of_other_ids(before.definitions, after.definitions)
    both = both.drop(columns=[name for name in both if name.removesuffix("_baseline") in changed])
    found += calibration_checks(both) + cost_checks(both)
    found += step_size.step_size_checks(before.step_sizes, after.step_sizes)
    found += speed.speed_checks(before.speed, after.speed)
    return found + memory.memory_checks(before.memory, after.memory)


def measured(console: Console, before: Measured | None = None) -> Measured:
    """Return what the gate measures itself; timings that are open against an earlier baseline take longer."""
    console.print("Measuring memory, step size and speed ...", style="dim")
    # Memory first: what the timings leave behind in the allocator would hide a rise.
    rises, sizes = memory.measured(), step_size.measured()
    ratios = speed.measured(workloads(), before.speed if before else None)
    return Measured(definitions.values(), sizes, speed.record(ratios), rises)


def update(folder: Path, fresh: Path, reason: str, console: Console) -> None:
    """Make a run, and what is measured now, the baseline.

    Raises:
        GateError: if the reason is empty or the run is none to hold others against.
    """
    frame = baseline.checked(fresh / ROWS, reason)
    after, changes = measured(console), []
    try:
        rows, before = baseline.read(folder)
    except GateError as error:
        console.print(f"Before this: {error}", style="dim", markup=False, highlight=False)
    else:
        found = compare(rows, before, frame, after)
        changes = [check for check in found if check.verdict in ("fail", "incomparable", "note") or check.remark]
    baseline.write(folder, frame, after, reason, changes)
    console.print(f"Written to {folder}; {baseline.HISTORY} tells why, and {len(changes)} changes", highlight=False)

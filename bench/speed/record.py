"""Everything that a run has measured, kept in a file that is whole at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bench.speed.ceilings import Ceilings, Work


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


class Record:
    """The rows of a run.

    Args:
        machine: as `machine.machine` describes it.
        ceilings: of the device.
        path: a JSON file that is written anew with every row; None for no file.
    """

    def __init__(self, machine: dict[str, Any], ceilings: Ceilings, path: Path | None) -> None:
        self.machine, self.ceilings, self.path = machine, ceilings, path
        self.rows: list[dict[str, Any]] = []
        self.missing: list[dict[str, str]] = []

    def add(self, group: str, method: str, stats: Any, calls: int, work: Work, **more: Any) -> None:
        """Add a row: pytest-benchmark's statistics of a method, the work, and what else is to be kept."""
        floor, bound = self.ceilings.floor(work)
        self.rows.append(
            {
                "group": group,
                "method": method,
                "median_s": stats.median,
                "iqr_s": stats.iqr,
                "min_s": stats.min,
                "rounds": stats.rounds,
                "calls": calls,
                **work._asdict(),
                "floor_s": floor,
                "bound": bound,
                **more,
            }
        )
        self.write()

    def miss(self, name: str, reason: str) -> None:
        """Add a benchmark that has no time, with the reason."""
        self.missing.append({"name": name, "reason": reason})

    def as_dict(self) -> dict[str, Any]:
        """Return all of it; see `table.page`."""
        ceilings = self.ceilings.as_dict()
        return {"machine": self.machine, "ceilings": ceilings, "rows": self.rows, "missing": self.missing}

    def write(self) -> None:
        """Write the file, if there is one."""
        if self.path is not None:
            write_whole(self.path, json.dumps(self.as_dict(), indent=1) + "\n")

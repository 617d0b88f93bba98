"""The history of the speed suite: pytest-benchmark's JSON files, and its own comparison of the last two.

They hold seconds, so what they say is of one machine; on another it is only told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark_utils.gate.check import Check
from benchmark_utils.gate.pairs import GateError

MOST = 1.5  # median seconds over those before; suites minutes or days apart have nothing interleaved
# What must be alike in two descriptions of a machine for its seconds to be compared.
ALIKE = ("device", "processor", "cores", "threads", "python", "torch", "triton", "clock")


def speed_history(folder: Path, console: Console) -> list[Check]:
    """Return notes on the last two runs of the speed suite that a storage holds, after pytest-benchmark's own table.

    Nothing here fails: what is judged was measured in turns.

    Raises:
        GateError: if there are not two runs, or one cannot be read.
    """
    # A run is NUMBER_COMMIT_TIME.json in a folder a machine.
    files = sorted(folder.glob("*/[0-9]*.json"), key=lambda path: path.name)[-2:]
    if len(files) < 2:
        raise GateError(
            f"{folder} holds no two runs of the speed suite: "
            f"nox -s speed -- --benchmark-storage {folder} --benchmark-autosave"
        )
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, files)]
    table = subprocess.run(
        [*command, "--group-by=group", "--columns=median,iqr,rounds"], capture_output=True, text=True, check=False
    )
    console.print(table.stdout if table.returncode == 0 else table.stderr, markup=False, highlight=False)
    before, after = map(_read, files)
    if differs := [name for name in ALIKE if before["machine_info"].get(name) != after["machine_info"].get(name)]:
        remark = f"not judged: the two runs differ in {', '.join(differs)}"
        return [Check("speed", f"history: {files[0].name} and {files[1].name}", "note", remark=remark)]
    medians = [{one["fullname"]: float(one["stats"]["median"]) for one in run["benchmarks"]} for run in (before, after)]
    return [
        Check(
            "speed", f"history: {name}", "note", medians[0][name], medians[1][name],
            remark=f"{medians[1][name] / medians[0][name]:.2f} times the seconds of the run before, same machine",
        )
        for name in sorted(medians[0].keys() & medians[1].keys())
        if medians[1][name] > MOST * medians[0][name]
    ]  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"machine_info": dict(found["machine_info"]), "benchmarks": list(found["benchmarks"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GateError(f"{path} is none of pytest-benchmark's files ({type(error).__name__}: {error})") from error

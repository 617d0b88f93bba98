"""The record of a GPU machine: what is in it, and the page that is made of it."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench.speed.machine import machine
from bench.speed.record import write_whole
from bench.speed.table import body

ROOT = Path(__file__).resolve().parents[2]


def new_record(device: torch.device, dry_run: bool, commit: str | None) -> dict[str, Any]:
    """Return a record without parts; the commit is git's, or where git knows none the one that is given."""
    versions: dict[str, str | None] = {}
    for name in ("numpy", "pytest", "pytest-benchmark"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "dry_run": dry_run,
        "commit": git("rev-parse", "HEAD") or commit,
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(device) | versions,
        "seconds": 0.0,
        "parts": [],
    }


def git(*arguments: str) -> str | None:
    """Return what git says about this tree, None if there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def save(record: dict[str, Any], folder: Path) -> None:
    """Write record.json and table.md."""
    write_whole(folder / "record.json", json.dumps(record, indent=1) + "\n")
    write_whole(folder / "table.md", page(record))


def page(record: dict[str, Any]) -> str:
    """Return Markdown: outcomes of the parts, what failed, and the speed of what passed."""
    commit = record["commit"] or "unknown"
    lines = [
        "# On a GPU" + (": a dry run on the CPU, worth nothing but to see that it runs" if record["dry_run"] else ""),
        f"Made by `python bench/speed/gpu.py` on {record['date']}, commit {commit}"
        f"{' with changes' if record['changed'] else ''}, in {record['seconds']:.0f} s. "
        f"Machine: {json.dumps(record['machine'])}",
        outcomes(record["parts"]),
    ]
    failed = [test for part in record["parts"] for test in part.get("tests", []) if test["outcome"] == "failed"]
    if failed:
        lines.append("Failed:\n\n" + "\n".join(f"- `{test['name']}`: {last_line(test['message'])}" for test in failed))
    for part in record["parts"]:
        if cases := part.get("result", {}).get("cases"):
            head = "| walk of | runs | same bits | finite | undone steps |\n| --- | ---: | --- | --- | ---: |\n"
            rows = (
                f"| {'-'.join(map(str, case['widths']))} | {case['runs']} | {'yes' if case['same'] else 'NO'} | "
                f"{'yes' if case['finite'] else 'NO'} | {case['undone']:.1%} |"
                for case in cases
            )
            lines.append(head + "\n".join(rows))
        if speed := part.get("speed"):
            lines += body(speed)
    return "\n\n".join(lines) + "\n"


def outcomes(parts: list[dict[str, Any]]) -> str:
    """Return Markdown: a line for each part."""
    lines = ["| part | outcome | seconds | at most | what |", "| --- | --- | ---: | ---: | --- |"]
    for part in parts:
        seconds, limit = f"{part['seconds']:.0f}", f"{part['limit_s']:.0f}"
        lines.append(f"| {part['name']} | {part['outcome']} | {seconds} | {limit} | {part['summary']} |")
    return "\n".join(lines)


def last_line(message: str) -> str:
    """Return the line that says what went wrong: the last that pytest marks as the error."""
    marked = [line[1:].strip() for line in message.splitlines() if line.startswith("E ")]
    return (marked or message.splitlines() or [""])[-1][:300]

"""One check of the gate: what was looked at, the numbers, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# From the worst to the best.
Verdict = Literal["fail", "incomparable", "inconclusive", "pass", "note"]
VERDICTS: tuple[Verdict, ...] = ("fail", "incomparable", "inconclusive", "pass", "note")
Part = Literal["runs", "definitions", "calibration", "cost", "walk", "speed", "memory"]


@dataclass(frozen=True)
class Check:
    """What one comparison found.

    Attributes:
        part: of the gate.
        what: the quantity and whose it is.
        verdict: "fail"; "incomparable": baseline and fresh run do not measure the same; "inconclusive": the interval
            reaches over the limit; "pass"; "note": worth knowing, and not judged.
        baseline: value of the baseline, in the quantity's own unit; NaN if it has none.
        fresh: value of the fresh run.
        low: lower end of the interval of the difference, or of the ratio where the limit is one.
        high: its upper end.
        limit: what the interval is held against, in words.
        remark: what else to know.
    """

    part: Part
    what: str
    verdict: Verdict
    baseline: float = math.nan
    fresh: float = math.nan
    low: float = math.nan
    high: float = math.nan
    limit: str = ""
    remark: str = ""


def judged(low: float, high: float, most: float, least: float = -math.inf) -> Verdict:
    """Return whether an interval lies within [least, most], wholly outside on one side, or neither."""
    if low > most or high < least:
        return "fail"
    return "pass" if least <= low and high <= most else "inconclusive"


def exit_code(checks: Iterable[Check]) -> int:
    """Return 1 if a check fails; else 2 if something cannot be compared; else 0."""
    verdicts = {check.verdict for check in checks}
    return 1 if "fail" in verdicts else 2 if "incomparable" in verdicts else 0

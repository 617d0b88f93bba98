"""Speed: how long the library takes beside plain torch, in turns, against the same ratio in the baseline.

Seconds of different machines, or of one that does something else meanwhile, cannot be compared. A ratio of two times
taken one after the other can: what slows the machine slows both. Two clocks are read at once: that of the wall sees a
walk that waits; that of the process sees one that computes more, even where others take most of the processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bench.speed.machine import processor
from bench.speed.timing import CLOCKS
from benchmark_utils.gate.bootstrap import ratio_of_medians_interval
from benchmark_utils.gate.check import VERDICTS, Check, Verdict, judged
from benchmark_utils.gate.workloads import Workload

# Ratios of ours over plain by clock, [turns] each; and those of all workloads by name.
Ratios = dict[str, list[float]]

MOST = 1.25  # fresh ratio over the baseline's
TURNS = 11
SECONDS = 14.0  # most of one workload, further turns of what is not decided included
ROUND_SECONDS = 0.05  # of one side of a turn, at least: a clock's tick and an interruption are small against it


def record(found: dict[str, Ratios]) -> dict[str, Any]:
    """Return what the baseline keeps: the processor, the version that decides, and all ratios."""
    short = {
        name: {clock: [float(f"{value:.5g}") for value in values] for clock, values in ratios.items()}
        for name, ratios in found.items()
    }
    return {"processor": processor(), "torch": torch.__version__, "ratios": short}


def measured(
    workloads: Sequence[Workload],
    baseline: dict[str, Any] | None = None,
    clocks: Mapping[str, Callable[[], float]] = CLOCKS,
) -> dict[str, Ratios]:
    """Return for each workload the ratios of its turns, ours over plain, by clock.

    All workloads are gone through before any has its next turn, so that a bad minute does not fall on one alone.

    Args:
        workloads: what to time, on one thread.
        baseline: what `record` returned: workloads whose verdict is open after TURNS have further turns.
        clocks: seconds, by name; "wall" decides how many calls and turns there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timers = [_Timer(work, clocks) for work in workloads]
        for _ in range(TURNS):
            for timer in timers:
                timer.turn()
        for timer in timers if baseline else ():
            before = (baseline or {})["ratios"].get(timer.work.name)
            while before and timer.spent < SECONDS and _decided(before, timer.ratios)[0] == "inconclusive":
                for _ in range(5):
                    timer.turn()
    finally:
        torch.set_num_threads(threads)
    return {timer.work.name: timer.ratios for timer in timers}


def speed_checks(baseline: dict[str, Any], fresh: dict[str, Any]) -> list[Check]:
    """Return a check for each workload, from what `record` returned then and now; none if either is empty."""
    if not baseline or not fresh:
        return []
    before, after = baseline["ratios"], fresh["ratios"]
    checks = [
        Check("speed", name, "fail", remark="no longer timed: the baseline has it") for name in before.keys() - after
    ]
    other = "" if baseline["processor"] == fresh["processor"] else f"baseline: {baseline['processor']}"
    for name, ratios in after.items():
        if name not in before:
            now = float(np.median(ratios["wall"]))
            checks.append(Check("speed", name, "note", fresh=now, remark="new: not in the baseline"))
            continue
        verdict, clock, low, high = _decided(before[name], ratios)
        better = "faster: record it in the baseline, or it may be lost again unseen" if high < 1 / MOST else ""
        then, now = (float(np.median(one[clock])) for one in (before[name], ratios))
        limit = f"at most {MOST} of the baseline's"
        remark = "; ".join(filter(None, [f"by the clock of the {clock}", better, other]))
        told = remark if verdict != "pass" or better or other else ""
        checks.append(Check("speed", name, verdict, then, now, low, high, limit, told))
    return checks


def _decided(before: Ratios, after: Ratios) -> tuple[Verdict, str, float, float]:
    """The worse of both clocks' verdicts, the clock that gave it, and its interval."""
    found = []
    for clock in sorted(before.keys() & after.keys()):  # "process" comes before "wall": where both agree, it is told
        low, high = ratio_of_medians_interval(np.array(after[clock]), np.array(before[clock]))
        found.append((judged(low, high, MOST), clock, low, high))
    return min(found, key=lambda one: VERDICTS.index(one[0]))


class _Timer:
    """A workload, the calls of a round of each side, and the ratios so far."""

    def __init__(self, work: Workload, clocks: Mapping[str, Callable[[], float]]) -> None:
        self.work, self.clocks = work, clocks
        self.calls = {side: self._enough(side) for side in (work.ours, work.plain)}
        self.ratios: Ratios = {name: [] for name in clocks}
        self.turns, self.spent = 0, 0.0

    def turn(self) -> None:
        """Time both sides once, the order changing from turn to turn, and add the ratios."""
        ours, plain = self.work.ours, self.work.plain
        sides = (plain, ours) if self.turns % 2 else (ours, plain)
        seconds = {side: self._seconds(side, self.calls[side]) for side in sides}
        for name, ratios in self.ratios.items():
            ratios.append(seconds[ours][name] / max(seconds[plain][name], 1e-9))
        self.turns += 1
        self.spent += sum(self.calls[side] * seconds[side]["wall"] for side in sides)

    def _enough(self, side: Callable[[], object]) -> int:
        """How many calls fill a round; the first, which makes what is made once, is not timed."""
        side()
        return max(1, math.ceil(ROUND_SECONDS / max(self._seconds(side, 1)["wall"], 1e-6)))

    def _seconds(self, side: Callable[[], object], calls: int) -> dict[str, float]:
        """Seconds of a call, by clock."""
        starts = {name: clock() for name, clock in self.clocks.items()}
        for _ in range(calls):
            side()
        return {name: (clock() - starts[name]) / calls for name, clock in self.clocks.items()}

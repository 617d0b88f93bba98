"""Speed: how long the library takes beside plain torch, in turns, against the same ratio in the baseline.

Seconds of different machines, or of one that does something else meanwhile, cannot be compared. A ratio of two times
taken one after the other can: what slows the machine slows both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bench.speed.machine import processor
from benchmark_utils.gate.bootstrap import median_interval, ratio_of_medians_interval
from benchmark_utils.gate.check import Check, judged
from benchmark_utils.gate.workloads import Workload

MOST = 1.25  # fresh ratio over the baseline's
TURNS = 11
SECONDS = 14.0  # most of one workload, further turns of what is not decided included
ROUND_SECONDS = 0.05  # of one side of a turn, at least: a clock's tick and an interruption are small against it


def record(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what the baseline keeps: the processor, the versions that decide, and all ratios."""
    ratios = {name: [float(f"{value:.5g}") for value in values] for name, values in found.items()}
    return {"processor": processor(), "torch": torch.__version__, "ratios": ratios}


def measured(
    workloads: Sequence[Workload],
    baseline: dict[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Return for each workload the ratios of its turns, ours over plain, [turns].

    All workloads are gone through before any has its next turn, so that a bad minute does not fall on one alone.

    Args:
        workloads: what to time, on one thread.
        baseline: what `record` returned: workloads whose verdict is open after TURNS have further turns.
        clock: seconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = {work.name: (_calls(work.ours, clock), _calls(work.plain, clock)) for work in workloads}
        found: dict[str, list[float]] = {work.name: [] for work in workloads}
        spent = dict.fromkeys(found, 0.0)
        for _ in range(TURNS):
            for work in workloads:
                _turn(work, calls[work.name], found[work.name], spent, clock)
        for work in workloads if baseline else ():
            while spent[work.name] < SECONDS and _open(baseline or {}, work.name, found[work.name]):
                for _ in range(5):
                    _turn(work, calls[work.name], found[work.name], spent, clock)
    finally:
        torch.set_num_threads(threads)
    return {name: np.array(ratios) for name, ratios in found.items()}


def speed_checks(baseline: dict[str, Any], fresh: dict[str, Any]) -> list[Check]:
    """Return a check for each workload, from what `record` returned then and now; none if either is empty."""
    if not baseline or not fresh:
        return []
    before, after = ({name: np.array(v) for name, v in one["ratios"].items()} for one in (baseline, fresh))
    checks = [
        Check("speed", name, "fail", remark="no longer timed: the baseline has it") for name in before.keys() - after
    ]
    other = "" if baseline["processor"] == fresh["processor"] else f"baseline: {baseline['processor']}"
    for name, ratios in after.items():
        now = float(np.median(ratios))
        if name not in before:
            checks.append(Check("speed", name, "note", fresh=now, remark="new: not in the baseline"))
            continue
        low, high = ratio_of_medians_interval(ratios, before[name])
        better = "faster: record it in the baseline, or it may be lost again unseen"
        remark = "; ".join(filter(None, [better if high < 1 / MOST else "", other]))
        numbers = float(np.median(before[name])), now, low, high
        checks.append(
            Check("speed", name, judged(low, high, MOST), *numbers, f"at most {MOST} of the baseline's", remark)
        )
    return checks


def _calls(function: Callable[[], object], clock: Callable[[], float]) -> int:
    """How many calls fill a round; the first, which makes what is made once, is not timed."""
    function()
    start = clock()
    function()
    return max(1, math.ceil(ROUND_SECONDS / max(clock() - start, 1e-6)))


def _turn(
    work: Workload, calls: tuple[int, int], ratios: list[float], spent: dict[str, float], clock: Callable[[], float]
) -> None:
    """Time both once, the order changing from turn to turn, and add the ratio."""
    sides = [(work.ours, calls[0]), (work.plain, calls[1])]
    backwards = len(ratios) % 2
    seconds = [_seconds(*side, clock) for side in (sides[::-1] if backwards else sides)]
    ours, plain = seconds[::-1] if backwards else seconds
    ratios.append(ours / plain)
    spent[work.name] += ours * calls[0] + plain * calls[1]


def _seconds(function: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    """Seconds of a call."""
    start = clock()
    for _ in range(calls):
        function()
    return (clock() - start) / calls


def _open(baseline: dict[str, Any], name: str, ratios: list[float]) -> bool:
    """Whether the verdict of a workload is still open."""
    if name not in baseline["ratios"]:
        low, high = median_interval(np.array(ratios))
        return high > MOST * low
    return (
        judged(*ratio_of_medians_interval(np.array(ratios), np.array(baseline["ratios"][name])), MOST) == "inconclusive"
    )

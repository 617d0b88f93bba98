"""How calls are timed.

A round is as many calls as take `ROUND_SECONDS`, the clock read around them. On a GPU it ends with one
synchronisation, so that launching a call overlaps with running the one before, as it does in use: an operation takes
the time of its kernels or of its launches, whichever is longer, and the synchronisation counts one percent or less.

The clock is that of the wall. On a CPU with one thread it may be that of the process: the same on an idle machine, and
on a busy one without the time that others had.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch

CLOCKS = {"wall": perf_counter, "process": process_time}
ROUND_SECONDS = {"cpu": 1e-3, "cuda": 4e-3}
MOST_CALLS, LEAST_ROUNDS, MOST_ROUNDS = 1000, 5, 200


class Calls:
    """A function that waits for the GPU after every so many calls.

    Args:
        function: what is called.
        device: where it runs.
        count: of the calls of a round.
        clock: for rounds that are read here.
    """

    def __init__(
        self, function: Callable[[], Any], device: torch.device, count: int, clock: Callable[[], float] = perf_counter
    ) -> None:
        self.function, self.device, self.count, self.clock, self.done = function, device, count, clock, 0

    def __call__(self) -> None:
        """Call it once."""
        self.function()
        if self.device.type == "cuda":
            self.done += 1
            if self.done % self.count == 0:
                torch.cuda.synchronize(self.device)

    def round(self) -> float:
        """Return the seconds of a call, from a round of them."""
        start = self.clock()
        for _ in range(self.count):
            self()
        return (self.clock() - start) / self.count


def paced(
    function: Callable[[], Any], device: torch.device, seconds: float, clock: Callable[[], float] = perf_counter
) -> tuple[Calls, int]:
    """Return the function with the calls of a round, and how many rounds fill the seconds.

    It is called a few times, so what is made at a first call is made here and not timed.
    """
    once = Calls(function, device, 1, clock)
    once.round()
    each, enough = max(once.round(), 1e-9), ROUND_SECONDS[device.type]
    if each < enough:  # One call alone counts the wait for the GPU.
        each = max(Calls(function, device, min(20, math.ceil(enough / each)), clock).round(), 1e-9)
    count = min(MOST_CALLS, math.ceil(enough / each))
    return Calls(function, device, count, clock), min(MOST_ROUNDS, max(LEAST_ROUNDS, int(seconds / (each * count))))


def seconds_of(
    function: Callable[[], Any], device: torch.device, clock: Callable[[], float] = perf_counter, seconds: float = 0.2
) -> float:
    """Return the median seconds of a call."""
    calls, rounds = paced(function, device, seconds, clock)
    return median(calls.round() for _ in range(rounds))

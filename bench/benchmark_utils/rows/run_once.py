"""Runs every method once, measures its memory, and keeps the reason when it fails.

benchopt calls a run that raises "error", prints the traceback, goes on with the rest, and forgets why. It
does hand each solver to the stopping criterion that the objective sets for all of them: the one public place
from which an objective can see a solver's calls. So the reason is written down there, and the error goes on
to benchopt unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from benchopt import BaseObjective, BaseSolver
from benchopt.stopping_criterion import SingleRunCriterion

from benchmark_utils.rows.cost import Meter

FAILURE_FILE = "failure.json"
RESULT = ("predict", "sample_weights", "cost", "info")  # what a solver's get_result has to give


class RunOnce(SingleRunCriterion):
    """Stop after one run, as `sampling_strategy = "run_once"` asks, and watch that run."""

    def get_runner_instance(
        self, max_runs: int = 1, *, solver: BaseSolver | None = None, **kwargs: Any
    ) -> SingleRunCriterion:
        """Return the criterion of one run; from here on its solver is watched."""
        if solver is not None:
            watch(solver)
        return super().get_runner_instance(max_runs, solver=solver, **kwargs)


class Passing(dict):
    """A result that is used and let go: benchopt's cache would keep the whole posterior beside its row."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Passing, ()


def watch(solver: BaseSolver) -> None:
    """Wrap what benchopt calls from here on: failures are noted, memory goes into the result's `cost`."""
    if hasattr(solver, "_meter"):  # in a run without workers one instance serves several datasets
        return
    solver._meter = Meter()
    run, get_result = solver.run, solver.get_result

    def metered_run(stop_val: Any) -> None:
        with solver._meter:
            run(stop_val)

    def result_with_memory() -> Passing:
        result = get_result()
        if missing := [name for name in RESULT if name not in result]:
            raise ValueError(f"the solver's get_result gives no {', '.join(missing)}")
        memory = {"peak_mib": solver._meter.peak_mib, "peak_rise_mib": solver._meter.peak_rise_mib}
        cost = dict(result["cost"])
        # Trainings that methods share are charged to each of them.
        fit_s = solver._meter.seconds + cost.pop("shared_s", 0.0)
        return Passing(result, cost={**cost, **memory, "fit_s": fit_s})

    watched = {
        "warm_up": solver.warm_up,
        "pre_run_hook": solver.pre_run_hook,
        "run": metered_run,
        "get_result": result_with_memory,
    }
    for name, function in watched.items():
        setattr(solver, name, _noting(solver, function))


def _noting(solver: BaseSolver, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which notes an exception before it goes on."""

    @wraps(function)
    def noted(*args: Any) -> Any:
        with failure_noted(solver):
            return function(*args)

    return noted


@contextmanager
def failure_noted(component: BaseSolver | BaseObjective) -> Iterator[None]:
    """Write an exception of the block to the run's own output folder, and let it go on."""
    try:
        yield
    except Exception as error:
        try:
            folder = component.get_run_output_path()
        except RuntimeError:
            raise error from None  # `benchopt test` runs without an output folder
        (folder / FAILURE_FILE).write_text(json.dumps(describe(error)))
        raise


def describe(error: BaseException) -> dict[str, str]:
    """Return status ("diverged" or "failed") and reason of an exception, in one line."""
    kind = type(error).__name__
    status = "diverged" if "diverg" in kind.lower() or isinstance(error, FloatingPointError) else "failed"
    return {"status": status, "reason": " ".join(f"{kind}: {error}".split())}


def read_failures(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return status and reason by (dataset, solver), both as benchopt makes folder names of them."""
    return {
        (path.parents[3].name, path.parents[1].name): json.loads(path.read_text())
        for path in folder.glob(f"*/*/*/rep_*/{FAILURE_FILE}")
    }

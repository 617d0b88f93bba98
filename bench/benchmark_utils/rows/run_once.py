"""Runs every method once, measures its memory, and keeps the reason when it fails or diverges.

A method that diverges in its timed run, in get_result or when it predicts has a result, which is a row and kept like
any other: it would diverge again. When anything else is raised, or anywhere else (the MAP may diverge, too), benchopt
calls the run "error", prints the traceback, goes on with the rest, and forgets why. It does hand each solver to the
stopping criterion that the objective sets for all of them: the one public place from which an objective can see a
solver's calls. So the reason is written down there, and the error goes on to benchopt unchanged.
"""

from __future__ import annotations

import json
import logging
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
    solver._meter, solver._divergence = Meter(), None
    run, get_result = solver.run, solver.get_result

    def metered_run(stop_val: Any) -> None:
        solver._divergence = None
        try:
            with solver._meter:
                run(stop_val)
        except Exception as error:
            if not diverged(error):
                raise
            solver._divergence = error

    def result_with_memory() -> Passing:
        try:
            result = get_result() if solver._divergence is None else result_of_divergence(solver._divergence)
        except Exception as error:
            if not diverged(error):
                raise
            result = result_of_divergence(error)
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


def result_of_divergence(error: Exception) -> dict[str, Any]:
    """Return the result of a run that diverged: to ask it for a prediction raises what the run raised."""

    def predict(x: Any) -> Any:
        raise error

    return {"predict": predict, "sample_weights": lambda n: None, "cost": {}, "info": {}}


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
        (folder / FAILURE_FILE).write_text(json.dumps({"status": "failed", "reason": reason_of(error)}))
        raise


def diverged(error: BaseException) -> bool:
    """Return whether an exception says that a method diverged: a FloatingPointError, or "Diverg" in its name."""
    return "diverg" in type(error).__name__.lower() or isinstance(error, FloatingPointError)


def reason_of(error: BaseException) -> str:
    """Return what an exception says, with its name, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def read_failures(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return status and reason by (dataset, solver), both as benchopt makes folder names of them."""
    return {
        (path.parents[3].name, path.parents[1].name): json.loads(path.read_text())
        for path in folder.glob(f"*/*/*/rep_*/{FAILURE_FILE}")
    }


def say_torn_files_in_one_line() -> None:
    """Make joblib say that a file of its cache cannot be read without arguments and traceback, in this process."""
    logging.getLogger("joblib").addFilter(_in_one_line)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Change the one record that is meant; all others stay as they are."""
    if "Exception while loading results" in str(record.msg):
        record.msg, record.args = "A file of a finished run is torn, by a power cut perhaps: it is run again.", ()
    return True

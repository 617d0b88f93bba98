"""Parallel configurations: which workers share the runs, on this machine or on several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from benchmark_utils.report.refusals import ConfigurationError
from benchmark_utils.rows.provenance import TIMING, timing_of

# What a configuration may say, by back end; submitit's further options, slurm_*, are its own.
OPTIONS = {
    "loky": ("n_jobs", "batch_size"),
    "dask": ("n_jobs", "batch_size", "dask_address", "dask_scheduler_file", "dask_memory_limit"),
    "submitit": ("n_jobs",),
}
NEEDS = {"dask": ("dask", "distributed"), "submitit": ("submitit",)}


def check_parallel(options: Any, where: str) -> dict[str, Any]:
    """Return a parallel configuration as it is, if its back end and all its options are known.

    Args:
        options: what the YAML file holds.
        where: the file, for messages.

    Raises:
        ConfigurationError: if it is none.
    """
    backend = options.get("backend", "loky") if isinstance(options, dict) else None
    if not isinstance(backend, str) or backend not in OPTIONS:
        raise ConfigurationError(f"{where}: needs `backend:` with one of {', '.join(OPTIONS)}")
    for name, value in options.items():
        if name == "backend" or (backend == "submitit" and str(name).startswith("slurm_")):
            continue
        if name not in OPTIONS[backend]:
            more = " and slurm_*" if backend == "submitit" else ""
            raise ConfigurationError(
                f"{where}: unknown option {name!r}; for {backend} there are {', '.join(OPTIONS[backend])}{more}"
            )
        number = name in ("n_jobs", "batch_size")
        if number and (not isinstance(value, int) or isinstance(value, bool) or not (value >= 1 or value == -1)):
            raise ConfigurationError(f"{where}: {name} must be a whole number from 1, or -1 for all cores")
        if not number and not isinstance(value, str):
            raise ConfigurationError(f"{where}: {name} must be text")
    if not isinstance(options.get("slurm_time", ""), str):
        raise ConfigurationError(f'{where}: slurm_time must stand in quotes, "02:00:00": YAML reads it as a number')
    return options


@contextmanager
def workers(options: dict[str, Any], folder: Path, variables: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Start or reach the workers of a parallel configuration; yield benchopt's own, which uses them.

    Every row that is measured in the block says so in its column `timing`.

    Args:
        options: as `check_parallel` returns them.
        folder: one that all workers must see.
        variables: of the environment, for workers elsewhere.

    Raises:
        ConfigurationError: if the back end is not installed, or its workers cannot be reached or used.
    """
    backend = options.get("backend", "loky")
    n_jobs = joblib.effective_n_jobs(options.get("n_jobs", 1))
    os.environ[TIMING] = timing_of(backend, n_jobs)
    with ExitStack() as stack:
        try:
            if backend == "dask":
                from benchmark_utils.report.dask_workers import dask_workers

                ready = stack.enter_context(dask_workers(options, n_jobs, folder, variables))
            elif backend == "submitit":
                os.environ[TIMING] = "shared: submitit"
                ready = _submitit(options)
            else:
                ready = {"backend": backend, "batch_size": options.get("batch_size", 1), "n_jobs": n_jobs}
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in NEEDS.get(backend, ()):
                raise
            raise ConfigurationError(
                f"the back end {backend} needs packages: pip install {' '.join(NEEDS[backend])}"
            ) from error
        yield ready


def _submitit(options: dict[str, Any]) -> dict[str, Any]:
    """Return benchopt's configuration for submitit, after submitit itself has checked the options."""
    from submitit import AutoExecutor

    slurm = {name: value for name, value in options.items() if name.startswith("slurm_")}
    if "n_jobs" in options:
        slurm["slurm_array_parallelism"] = options["n_jobs"]
    try:
        AutoExecutor("benchopt_run", cluster="debug").update_parameters(**slurm)
    except (NameError, AssertionError) as error:
        raise ConfigurationError(f"submitit: {str(error).splitlines()[0]}") from error
    return {"backend": "submitit", **slurm}


def losses(backend: str) -> tuple[type[BaseException], ...]:
    """Return the exceptions by which a back end says that workers, or it itself, are gone."""
    found: list[type[BaseException]] = [BrokenProcessPool]
    if backend == "dask":
        import asyncio
        import concurrent.futures

        from distributed.comm.core import CommClosedError

        # A lost scheduler cancels all that it was asked for.
        found += [asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError]
    if backend == "submitit":
        from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

        found += [UncompletedJobError, FailedJobError, FailedSubmissionError]
    return tuple(found)

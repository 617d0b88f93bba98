"""A campaign: all runs of one configuration, by benchopt; each of them ends as a result or an outcome."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import benchopt.runner
import pandas as pd
from benchopt import BaseDataset, BaseSolver
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from benchopt.results import read_results
from rich.console import Console

from benchmark_utils.report.configuration import chosen_of, read_configuration
from benchmark_utils.report.names import unknown_name
from benchmark_utils.report.parallel import losses, workers
from benchmark_utils.report.progress import Board, Display
from benchmark_utils.report.refusals import ConfigurationError
from benchmark_utils.report.rows import Outcome
from benchmark_utils.report.storage import Workspace
from benchmark_utils.report.values import unknown_value
from benchmark_utils.rows import provenance
from benchmark_utils.rows.run_once import read_failures, reason_of

CACHE = "__cache__"  # in the benchmark's folder, where benchopt keeps finished runs


@dataclass(frozen=True)
class Campaign:
    """What is to be run.

    Attributes:
        benchmark: benchopt's view of the benchmark folder.
        datasets: the tasks and seeds that could be loaded.
        solvers: the methods, (class, parameters) by name as benchopt prints it; each once, however many
            patterns name it.
        broken: tasks and seeds that could not be loaded, with the reason.
        parallel: the parallel configuration, see `benchmark_utils.report.parallel`.
    """

    benchmark: Benchmark
    datasets: list[BaseDataset]
    solvers: dict[str, tuple[type[BaseSolver], dict[str, list[Any]]]]
    broken: dict[str, str]
    parallel: dict[str, Any]


def plan(
    config: Path,
    folder: Path,
    datasets: Sequence[str] | None = None,
    solvers: Sequence[str] | None = None,
    jobs: int | None = None,
    parallel: dict[str, Any] | None = None,
) -> Campaign:
    """Return the campaign of a configuration, after loading every task once.

    A task that cannot be loaded would end benchopt's whole run, so it is found out here.

    Args:
        config: a YAML file with the options of `benchopt run`.
        folder: the benchmark's folder.
        datasets: names to take instead of the configuration's, see chosen_of.
        solvers: likewise.
        jobs: worker processes, instead of the configuration's.
        parallel: a parallel configuration, instead of the configuration's.

    Raises:
        ConfigurationError: if the configuration cannot be used, or names something that there is not.
    """
    # benchopt's cache does not know what solvers import: each state of that code gets a cache of its own.
    os.environ["BENCHOPT_CACHE"] = str(folder.absolute() / CACHE / provenance.fingerprint())
    options = read_configuration(config)
    chosen = parallel or options["parallel-config"]
    with contextlib.redirect_stdout(io.StringIO()):  # benchopt prints the traceback of a file that cannot be imported
        benchmark = Benchmark(folder, seed=0)
        names = chosen_of(datasets, options["dataset"])
        with _names_refused("dataset", names, benchmark, "--dataset" if datasets else config):
            tasks = benchmark.check_dataset_patterns(names)
            found = list(_list_parametrized_classes(*tasks))
            _values_refused("dataset", found)
        names, methods = chosen_of(solvers, options["solver"]), {}
        with _names_refused("solver", names, benchmark, "--solver" if solvers else config):
            for cls, parameters in benchmark.check_solver_patterns(names):
                listed = list(_list_parametrized_classes((cls, parameters)))
                _values_refused("solver", listed)
                for solver, is_installed in listed:
                    methods[str(solver)] = _exactly(solver) if is_installed else (cls, {})
        loaded, broken = [], {}
        for dataset, is_installed in found:
            try:
                if not is_installed:
                    raise next(cls._exc for cls, _ in tasks if cls.name == dataset)
                dataset.get_data()
                loaded.append(dataset)
            except Exception as error:
                broken[str(dataset)] = reason_of(error)
    return Campaign(benchmark, loaded, methods, broken, chosen | ({"n_jobs": jobs} if jobs else {}))


@contextlib.contextmanager
def _names_refused(kind: str, names: list[Any], benchmark: Benchmark, where: str | Path) -> Iterator[None]:
    """Say in one line what is wrong with a name, its parameters or their values: benchopt has many errors for it."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    except Exception as error:
        said = " ".join(str(getattr(error, "message", None) or error or type(error).__name__).split())
        known = benchmark.get_datasets() if kind == "dataset" else benchmark.get_solvers()
        unknown = unknown_name(kind, names, known, benchmark.benchmark_dir.absolute())
        raise ConfigurationError(f"{where}: {unknown or f'{kind}: {said[:1000]}'}") from error


def _values_refused(kind: str, listed: Iterable[tuple[Any, bool]]) -> None:
    """Refuse the first value that a task or method cannot have; one whose file could not be imported tells none."""
    for component, is_installed in listed:
        if is_installed and (words := unknown_value(kind, component)):
            raise ConfigurationError(words)


def run(
    campaign: Campaign, console: Console, workspace: Workspace, variables: dict[str, str] | None = None
) -> tuple[pd.DataFrame, list[Outcome]]:
    """Return benchopt's results, one line a finished run, and the outcomes of all other runs.

    Args:
        campaign: what is to be run.
        console: where progress is shown.
        workspace: for temporary files; it is checked after every run.
        variables: of the environment, for workers that were not started from here.

    Raises:
        KeyboardInterrupt: if the user stops it; what is finished is in the cache.
        StorageError: if results can no longer be written; what is finished is in the cache.
        ConfigurationError: if the workers cannot be started or reached.
    """
    n_runs = len(campaign.datasets) * len(campaign.solvers)
    outcomes = [
        Outcome(dataset, solver, "failed", f"the task could not be loaded: {reason}")
        for dataset, reason in campaign.broken.items()
        for solver in campaign.solvers
    ]
    output, cause = workspace.path / "runs.parquet", ""
    here = {name: value for name, value in os.environ.items() if name.startswith("BENCHOPT_")}
    with (
        workers(campaign.parallel, workspace.path, here | (variables or {})) as parallel,
        Board(console, n_runs, workspace.check) as board,
    ):
        try:
            _benchopt(campaign, parallel, output, board)
        except losses(campaign.parallel.get("backend", "loky")) as error:
            cause = f"a worker process died, for lack of memory perhaps ({reason_of(error):.150})"
    if cause:
        console.print(f"{cause}; what is finished is kept", style="red", markup=False)
        with Board(console, n_runs) as board:
            _benchopt(campaign, {"n_jobs": 1}, output, board, collect=True)
    reasons = read_failures(output.with_suffix(""))
    imports = {cls.name: _import_failure(cls._exc) for cls, _ in campaign.solvers.values() if hasattr(cls, "_exc")}
    for outcome in board.outcomes:
        known = reasons.get((outcome.dataset, outcome.solver)) or imports.get(outcome.solver) or {}
        unknown = cause or "it ended before it ran, in skip or set_objective: the traceback was printed"
        outcomes.append(replace(outcome, **{"reason": outcome.reason or unknown, **known}))
    results = read_results(output) if output.exists() else pd.DataFrame()
    console.print(f"{n_runs} runs, {board.n_cached} of them finished before, {len(outcomes)} without a result")
    return results, outcomes


def _exactly(component: BaseDataset | BaseSolver) -> tuple[type, dict[str, list[Any]]]:
    """Select this one instance, as benchopt does."""
    return type(component), {name: [value] for name, value in component._parameters.items()}


def _import_failure(error: Exception) -> dict[str, str]:
    """Status and reason of a solver whose file cannot be imported: skipped if it only lacks a package."""
    return {"status": "skipped" if isinstance(error, ImportError) else "failed", "reason": reason_of(error)}


def _benchopt(campaign: Campaign, parallel: dict[str, Any], output: Path, board: Board, collect: bool = False) -> None:
    """Let benchopt run everything, or only collect what is cached, into one file; a board hears of it."""
    # benchopt makes its display itself, and only that hears of runs which end without a result.
    plain, benchopt.runner.TerminalOutput = benchopt.runner.TerminalOutput, partial(Display, board)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            benchopt.runner._run_benchmark(
                campaign.benchmark,
                solvers=list(campaign.solvers.values()),
                forced_solvers=[],
                datasets=[_exactly(dataset) for dataset in campaign.datasets],
                objectives=campaign.benchmark.check_objective_filters(None),
                max_runs=1,
                timeout=None,
                plot_result=False,
                output_file=str(output),
                parallel_config=dict(parallel),
                collect=collect,
            )
    finally:
        benchopt.runner.TerminalOutput = plain

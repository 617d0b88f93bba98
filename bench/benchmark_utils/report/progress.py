"""A live count of the runs in the place of benchopt's lines, and a record of those that left no row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from benchopt.utils.terminal_output import TerminalOutput
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmark_utils.report.rows import Outcome, split_name

STATUS = {"error": "failed", "skip": "skipped", "not installed": "skipped", "diverged": "diverged"}
STATUS["not run yet"] = "failed"  # said only when finished runs are collected after a worker died
SAID = STATUS | {"done": "finished"}  # with a result, which may be that the method diverged


class Board:
    """A progress bar over all runs; `outcomes` are the runs that gave no result, in the order they ended.

    `check` is called after each run that came back, and ends the command by an exception.
    """

    def __init__(self, console: Console, n_runs: int, check: Callable[[], None] = lambda: None) -> None:
        self.check = check
        self.outcomes: list[Outcome] = []
        self.n_cached = 0
        self._ended, self._total = 0, n_runs
        text = TextColumn("{task.description:<42}", markup=False)  # brackets of a name are no markup
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._bar = self._progress.add_task("starting", total=n_runs)
        self._lock = threading.Lock()

    def __enter__(self) -> Board:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def ended(self, dataset: str, solver: str, status: str, reason: str | None = None, cached: bool = False) -> None:
        """Count one run; if it left no result, note it. A log, which shows no bar, gets a line a run."""
        console, said = self._progress.console, SAID.get(status, status)
        with self._lock:
            self._ended += 1
            self.n_cached += cached
            if status in STATUS:
                self.outcomes.append(Outcome(dataset, solver, STATUS[status], reason or ""))
            if status in STATUS or not console.is_terminal:
                count = f"{self._ended:>{len(str(self._total))}}/{self._total}"
                line = f"{count} {dataset} {solver}: {said}{' before' if cached else ''} {reason or ''}"
                console.print(line.rstrip(), markup=False, highlight=False)
            name = f"{dataset} {split_name(solver)[0]}"
            self._progress.update(self._bar, description=name[:42], advance=1)


class Display(TerminalOutput):
    """What benchopt reports to: passes the end of each run on to a board.

    benchopt sends out runs and takes results in at the same time, from threads that change. While it sends
    out, it names dataset and solver in separate calls, and reports what need not be sent; a result is named
    in one call.
    """

    def __init__(self, board: Board, n_repetitions: int | None = None, show_progress: bool | None = None) -> None:
        self.board = board
        self._sending = self._result = ("", "")  # dataset and solver
        super().__init__(n_repetitions, show_progress)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send workers a plain display; the board stays here."""
        return TerminalOutput, (self.n_repetitions, False)

    def set(self, solver: Any = None, dataset: Any = None, objective: Any = None, **_: Any) -> None:
        """Take note of which run the next report is about."""
        if dataset is not None and solver is not None:
            self._result = (str(dataset), str(solver))
        elif dataset is not None:
            self._sending = (str(dataset), "")
        elif solver is not None:
            self._sending = (self._sending[0], str(solver))

    def skip(self, reason: str | None = None, objective: bool = False) -> None:
        """The objective skipped a task, which is asked again for each solver before it is sent out."""
        self.board.ended(*self._sending, "skip", reason)

    def show_status(
        self,
        status: str,
        reason: str | None = None,
        dataset: bool = False,
        objective: bool = False,
        cached: bool = False,
    ) -> None:
        """A run ended, or its solver could not be imported.

        Raises:
            KeyboardInterrupt: if benchopt says that the user stops it, which it does for no run, or for the last again.
        """
        if status == "interrupted":
            raise KeyboardInterrupt
        run = self._sending if status == "not installed" else self._result
        self.board.ended(*run, status, reason, cached)
        if status != "not installed" and not cached:  # said where results are taken in, which may end the command
            self.board.check()

    def display_dataset(self) -> None:
        """Say nothing: the bar names the runs."""

    def display_objective(self) -> None:
        """Say nothing: there is one objective."""

"""A plugin of pytest: each test's outcome goes to a file at once, and after some time the tests left are skipped.

What a run that was stopped from outside has found by then is thereby known.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic

import pytest

OUT_OF_TIME = "out of time"
STARTED = monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the file, and the seconds after which no test starts."""
    parser.addoption("--outcomes", type=Path, required=True, help="file for a line of JSON per test")
    parser.addoption("--stop-after", type=float, required=True, help="seconds")


class Outcomes:
    """Writes the lines."""

    def __init__(self, path: Path, stop_after: float) -> None:
        self.path, self.stop_after = path, stop_after

    def pytest_runtest_setup(self) -> None:
        """Let no test start late."""
        if monotonic() - STARTED > self.stop_after:
            pytest.skip(OUT_OF_TIME)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported is a test that failed."""
        if report.failed:
            self.line(report.nodeid, "failed", 0.0, str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test came to, or why it has not."""
        if report.when != "call" and report.passed:
            return
        message = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            message = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            message = str(report.longrepr)
        self.line(report.nodeid, report.outcome, report.duration, message)

    def line(self, name: str, outcome: str, seconds: float, message: str) -> None:
        """Add a line."""
        found = {"name": name, "outcome": outcome, "seconds": round(seconds, 3), "message": message[-2000:]}
        with self.path.open("a") as file:
            file.write(json.dumps(found) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Start writing."""
    config.pluginmanager.register(Outcomes(config.getoption("--outcomes"), config.getoption("--stop-after")))

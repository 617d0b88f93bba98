"""What all timings share: threads, device, the gate before the clock, and the record of a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.speed.ceilings import Ceilings, Work
from bench.speed.machine import file_stem, machine
from bench.speed.record import Record, write_whole
from bench.speed.table import page
from bench.speed.timing import CLOCKS, paced

RECORD = pytest.StashKey[Record]()
# The files of a run under way, and of one that has left something out, are called so.
PARTIAL = "-partial"


@dataclass
class Whole:
    """Whether a run is one of the whole suite: what it was told to leave out, and how many benchmarks are still to run.

    Attributes:
        reasons: in words.
        to_run: a number.
    """

    reasons: list[str]
    to_run: int = 0

    def left_out(self) -> str:
        """Return what a run that has ended has left out; nothing if it is whole."""
        return "; ".join([*self.reasons, *([f"stopped with {self.to_run} to run"] if self.to_run else [])])


WHOLE = pytest.StashKey[Whole]()
NO_SUCH_SIZE = "there are not so many sizes for this device"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add where to run, for how long, and where the results go."""
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where operations run")
    parser.addoption("--threads", type=int, default=1, help="of torch on the CPU; default 1")
    parser.addoption("--seconds", type=float, default=0.5, help="that rounds of one method fill; default 0.5")
    parser.addoption("--clock", choices=sorted(CLOCKS), default="wall", help="process: for one thread on a busy CPU")
    parser.addoption("--small", action="store_true", help="only the first size of every operation")
    parser.addoption("--results", type=Path, default=None, help="folder for DEVICE.json and DEVICE.md")


def pytest_configure(config: pytest.Config) -> None:
    """Take the threads that were asked for, and full float32, before anything runs."""
    torch.set_num_threads(config.getoption("--threads"))
    torch.set_float32_matmul_precision("highest")
    place = torch.device(config.getoption("--device"))
    name = config.getoption("--clock")
    if name == "process" and (place.type != "cpu" or torch.get_num_threads() > 1):
        raise pytest.UsageError("--clock process says something of a CPU with --threads 1 only")
    about = machine(place) | {"clock": name}
    config.stash[RECORD] = Record(about, Ceilings(place, CLOCKS[name]), _file(config))
    config.stash[WHOLE] = Whole(["only the first sizes"] if config.getoption("--small") else [])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have all read the clock that was asked for."""
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=CLOCKS[config.getoption("--clock")]))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember that benchmarks were left out."""
    if items:
        items[0].config.stash[WHOLE].reasons.append(f"{len(items)} benchmarks deselected")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember which files were left out, whole or in part, and how many benchmarks there are."""
    whole = session.config.stash[WHOLE]
    whole.to_run = len(session.items)
    files = {path.name for path in Path(__file__).parent.glob("bench_*.py")}
    if missing := sorted(files - {item.path.name for item in session.items}):
        whole.reasons.append("without " + ", ".join(missing))
    if some := [argument for argument in session.config.args if "::" in argument]:
        whole.reasons.append("of some files only " + ", ".join(some))


def _file(config: pytest.Config) -> Path | None:
    folder = config.getoption("--results")
    return folder and folder / f"{file_stem(torch.device(config.getoption('--device')))}{PARTIAL}.json"


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that operations run on."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def sizes(request: pytest.FixtureRequest, device: torch.device) -> Callable[[dict[str, tuple], int], Any]:
    """Return the size of a number on this device; skip the benchmark if it has no such one."""

    def size(by_device: dict[str, tuple], number: int) -> Any:
        found = by_device[device.type]
        if number >= len(found):
            pytest.skip(NO_SUCH_SIZE)
        if number and request.config.getoption("--small"):
            pytest.skip("only the first size was asked for")
        return found[number]

    return size


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, device: torch.device) -> Callable[..., None]:
    """Return what times a function of no arguments.

    It is called with the group, the name of the method, the function, its `Work`, and a check: a function of the
    result, called once before, that raises if the result is wrong. Then nothing is timed.
    """
    record, config = request.config.stash[RECORD], request.config

    def run(
        group: str, method: str, function: Callable[[], Any], work: Work, check: Callable[[Any], None], **more: Any
    ) -> None:
        check(function())
        calls, rounds = paced(function, device, config.getoption("--seconds"), record.ceilings.clock)
        benchmark.group = group
        benchmark.pedantic(calls, rounds=rounds, iterations=calls.count)
        if benchmark.stats is not None:  # timing is not switched off
            record.add(group, method, benchmark.stats.stats, calls.count, work, **more)

    return run


@pytest.fixture(autouse=True)
def _empty_memory(device: torch.device) -> Iterator[None]:
    yield
    if device.type == "cuda":
        torch.cuda.empty_cache()


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Describe the machine by what decides about speed, and leave out what names it."""
    machine_info.clear()
    machine_info.update(config.stash[RECORD].machine)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember why a benchmark has no time."""
    report = yield
    if report.when == "teardown":
        item.config.stash[WHOLE].to_run -= 1
    if report.failed:
        item.config.stash[RECORD].miss(item.name, "failed")
    elif report.skipped and isinstance(report.longrepr, tuple) and NO_SUCH_SIZE not in report.longrepr[2]:
        item.config.stash[RECORD].miss(item.name, report.longrepr[2].removeprefix("Skipped: "))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the tables, and write them if a folder was named.

    Only a run of the whole suite replaces an earlier one's.
    """
    record, whole = config.stash[RECORD], config.stash[WHOLE]
    record.write()
    if not record.rows:
        return
    text = page(record.as_dict())
    terminalreporter.write_line(f"\n{text}")
    if record.path is None:
        return
    write_whole(record.path.with_suffix(".md"), text)
    name = file_stem(torch.device(config.getoption("--device")))
    if left_out := whole.left_out():
        terminalreporter.write_line(f"{name}.json and .md are as they were, see {name + PARTIAL}.json: {left_out}")
        return
    for ending in (".json", ".md"):
        record.path.with_suffix(ending).replace(record.path.with_name(name + ending))

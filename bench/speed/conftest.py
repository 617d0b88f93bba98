"""What all timings share: threads, device, what is written about the machine, and the table of ratios."""

from __future__ import annotations

import json
import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.speed.ratios import table


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add where to run, and where the table goes."""
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where operations run")
    parser.addoption("--threads", type=int, default=1, help="of torch on the CPU; default 1")
    parser.addoption("--table", type=Path, default=None, help="a Markdown file for the table of ratios")


def pytest_configure(config: pytest.Config) -> None:
    """Take the threads that were asked for, before anything runs."""
    torch.set_num_threads(config.getoption("--threads"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that operations run on."""
    return torch.device(request.config.getoption("--device"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Describe the machine by what decides about speed, and leave out what names it."""
    machine_info.clear()
    machine_info.update(machine(config))


def machine(config: pytest.Config) -> dict[str, Any]:
    """Return processor, threads, GPU and versions."""
    place = torch.device(config.getoption("--device"))
    found = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": None,
        "device": "cpu" if place.type == "cpu" else torch.cuda.get_device_name(place),
    }
    if find_spec("triton") is not None:
        import triton

        found["triton"] = triton.__version__
    return found


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of ratios, and write it if a file was named."""
    session = getattr(config, "_benchmarksession", None)
    done = [one for one in session.benchmarks if one] if session else []
    if not done:
        return
    rows = [{"group": one.group, "name": one.params["method"], "stats": one.stats.as_dict()} for one in done]
    text = f"{json.dumps(machine(config))}\n\n{table(rows)}"
    terminalreporter.write_line(f"\n{text}")
    if path := config.getoption("--table"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Speed\n\nMade by `nox -s speed`. Machine: {text}\n")

"""The parts of `gpu.py`: what each runs, for how long, and what it came to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

from bench.speed.outcomes import OUT_OF_TIME

ROOT = Path(__file__).resolve().parents[2]
# What all noise comes from and what there are predictions for: if time runs out, the others are left.
FIRST = ("philox", "langevin_step", "mlp_walk", "predictive", "linear_act", "optimizer_step")
# Of fiberbnn beyond torch and numpy.
LIBRARY_NEEDS = ("tqdm", "safetensors")
# Beside the tests of fused kernels, those with something to say on a GPU.
MORE_KERNEL_TESTS = ("tests/kernels/test_philox_dispatch.py", "tests/kernels/test_langevin_step_variants.py")
# A part stops starting tests this much before it is stopped itself.
MARGIN = 15.0
COMPILED = "compiled"


@dataclass(frozen=True)
class Part:
    """A process and its limit.

    Attributes:
        name: of the part.
        limit: seconds after which it is killed.
        command: arguments of Python; FOLDER in them is replaced by a folder of the part's own.
        environment: variables that are set for it.
        needs: modules without which it is skipped.
    """

    name: str
    limit: float
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def run(self, folder: Path) -> dict[str, Any]:
        """Run it and return what it came to; no path in it is absolute."""
        if missing := [name for name in self.needs if find_spec(name) is None]:
            why = f"not installed: {', '.join(missing)}"
            return {"name": self.name, "limit_s": self.limit, "seconds": 0.0, "outcome": "skipped", "summary": why}
        folder.mkdir()
        paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "kernels", ROOT / "bench"))
        command = [sys.executable, *(argument.replace("FOLDER", str(folder)) for argument in self.command)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_INTERPRET"))}
        # Beside the parts' folders and theirs together: a run finds nothing that was compiled before it.
        environment |= {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(folder.parent / COMPILED), **self.environment}
        start = perf_counter()
        with (folder / "output").open("wb") as output:
            # A group of its own, so that whatever it starts ends with it.
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                code: int | None = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                code = None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        found = {"name": self.name, "limit_s": self.limit, "seconds": round(perf_counter() - start, 1), "code": code}
        found |= self.read(folder, code)
        if found["outcome"] not in ("passed", "skipped"):
            found["output"] = (folder / "output").read_text(errors="replace")[-4000:]
        return json.loads(relative(json.dumps(found), folder))

    def read(self, folder: Path, code: int | None) -> dict[str, Any]:
        """Return what the process has left in its folder, and its outcome."""
        found: dict[str, Any] = {}
        outcome = "out of time" if code is None else "failed" if code else "passed"
        if (result := folder / "result.json").exists():
            found["result"] = json.loads(result.read_text())
            if code is not None:
                outcome = found["result"]["outcome"]
            kept = ((k, v) for k, v in found["result"].items() if k not in ("outcome", "cases"))
            details = (f"{k.replace('_', ' ')} {v:.3g}" if isinstance(v, float) else str(v) for k, v in kept)
            found["summary"] = ", ".join(details) or f"{len(found['result']['cases'])} walks"
        if (lines := folder / "outcomes").exists():
            tests = [json.loads(line) for line in lines.read_text().splitlines()]
            counts = Counter(OUT_OF_TIME if test["message"] == OUT_OF_TIME else test["outcome"] for test in tests)
            found |= {"tests": tests, "summary": ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))}
            if counts["failed"]:
                outcome = "failed"
            elif counts[OUT_OF_TIME]:
                outcome = "out of time"
            elif outcome == "passed" and not counts["passed"]:
                outcome = "skipped"
        for speed in folder.glob("speed/*.json"):
            found["speed"] = json.loads(speed.read_text())
        return {"summary": "no result", **found, "outcome": outcome}


def relative(text: str, folder: Path) -> str:
    """Return JSON without the paths of this machine."""
    known = {
        str(folder): "SCRATCH",
        str(folder.parent / COMPILED): "COMPILED",
        str(ROOT): ".",
        sys.prefix: "PYTHON",
        sys.base_prefix: "PYTHON",
    }
    for path in sorted(known, key=len, reverse=True):
        text = text.replace(path, known[path])
    return text.replace(str(Path.home()), "HOME") if len(str(Path.home())) > 1 else text


def pytest_part(
    name: str,
    limit: float,
    *arguments: str,
    needs: tuple[str, ...] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Part:
    """Return a part that runs pytest, whose outcomes are kept one by one."""
    # No plugins but those named, whatever else is installed; and what others warn of is not our failure.
    command = (
        "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", "-p", "bench.speed.outcomes",
        "--outcomes=FOLDER/outcomes", f"--stop-after={limit - MARGIN}", *arguments,
    )  # fmt: skip
    return Part(name, limit, command, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}, needs)


def in_order(folder: str, pattern: str) -> list[str]:
    """Return the files of a folder, those of `FIRST` before the others."""

    def place(name: str) -> int:
        return next((i for i, operation in enumerate(FIRST) if operation in name), len(FIRST))

    found = sorted(path.name for path in (ROOT / folder).glob(pattern))
    return [f"{folder}/{name}" for name in sorted(found, key=place)]


def parts(dry_run: bool) -> list[Part]:
    """Return the parts in the order in which they run; their limits add up to less than eight minutes."""
    kernels = [*in_order("tests/kernels", "test_*_fused.py"), *MORE_KERNEL_TESTS]
    files = in_order("bench/speed", "bench_*.py")
    timing = ("-p", "pytest_benchmark.plugin", "-o", "python_files=bench_*.py", "--results=FOLDER/speed")
    quiet = "--benchmark-quiet"
    library = ("tests/fiberbnn/test_cuda.py", "-m", "gpu")
    result = ("--result", "FOLDER/result.json")
    if not dry_run:
        return [
            pytest_part("kernels against their definitions", 150, *kernels, "-m", "not slow"),
            pytest_part("speed", 210, *files, *timing, quiet, "--device=cuda", "--seconds=0.2"),
            Part("same bits", 35, ("bench/speed/same_bits.py", *result)),
            Part("small fit", 35, ("bench/speed/small_fit.py", *result), needs=LIBRARY_NEEDS),
            pytest_part("library on CUDA", 40, *library, needs=LIBRARY_NEEDS),
        ]
    one_thread = {"OMP_NUM_THREADS": "1"}
    interpreted = {"TRITON_INTERPRET": "1"} | one_thread
    few = ("tests/kernels/test_philox_fused.py", "-k", "uniforms or nothing_is_written")
    tiny = ("--tiny", "--device=cpu", *result)
    small = ("bench/speed/bench_philox.py", *timing, quiet, "--device=cpu", "--small", "--seconds=0.01")
    return [
        pytest_part("kernels against their definitions", 300, *few, environment=interpreted),
        pytest_part("speed", 300, *small, environment=one_thread),
        Part("same bits", 300, ("bench/speed/same_bits.py", *tiny), interpreted),
        Part("small fit", 300, ("bench/speed/small_fit.py", *tiny), one_thread, LIBRARY_NEEDS),
        pytest_part("library on CUDA", 300, *library, needs=LIBRARY_NEEDS),
    ]

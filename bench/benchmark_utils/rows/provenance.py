"""What a number was made with: commit, versions, device; and a fingerprint of all code it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "torch",
    "numpy",
    "benchopt",
    "laplace-torch",
    "curvlinops-for-pytorch",
    "jax",
    "blackjax",
    "arviz",
    "posteriors",
    "torchopt",
    "torchdiffeq",
    "scipy",
)
# Everything that a row's numbers come from. What is made of the rows afterwards (benchmark_utils/report,
# plots) is left out, so that a new column in a table does not run the methods again. Solver and dataset files
# are in benchopt's own cache key.
SOURCES = (
    "fiberbnn/**/*.py",
    "kernels/fiberbnn_kernels/**/*.py",
    "bench/objective.py",
    *(f"bench/benchmark_utils/{folder}/*.py" for folder in ("data", "tasks", "methods", "metrics", "rows")),
)
STORED = ("results/reference/**/*",)
TIMING = "FIBERBNN_BENCH_TIMING"  # a command tells its workers by this variable with whom they share the machine


@lru_cache
def versions() -> str:
    """Return the versions of the packages that matter, as JSON; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)


@lru_cache
def commit() -> str:
    """Return the commit, with a "+" if the code differs from it; "unknown" outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", *_TRACKED) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


_TRACKED = ("fiberbnn", "kernels", "bench")


def timing() -> str:
    """Return beside what seconds are measured: "one process", or "shared: " with the back end and its workers."""
    return os.environ.get(TIMING, "not recorded")


def timing_of(backend: str, n_workers: int) -> str:
    """Return `timing` for the workers of a back end."""
    if n_workers == 1 and backend == "loky":
        return "one process"
    return f"shared: {backend}, {n_workers} worker{'s' if n_workers != 1 else ''}"


@lru_cache
def device() -> str:
    """Return the processor's name and the number of threads that torch uses in this process."""
    import torch

    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"cpu: {name}, {torch.get_num_threads()} thread(s)"


def fingerprint(root: Path = ROOT) -> str:
    """Return 16 digits that change with the code, a stored reference, a package version or the data folder.

    benchopt's cache knows the files of solver, dataset and objective, but not what they import: finished runs
    are kept in a folder with this name, so that rows of two states of the code are never mixed.
    """
    digest = hashlib.sha256(f"{versions()} {os.environ.get('FIBERBNN_DATA', '')}".encode())
    for path in sorted(path for pattern in (*SOURCES, *STORED) for path in root.glob(pattern) if path.is_file()):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

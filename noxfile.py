"""The project's commands: `nox -s bench`, `gate`, `export`, `speed`, `tests`, `lint`, `typecheck`, `kernels`, ...

Everything that needs torch shares one environment, made by the session `env` (its CUDA libraries take
gigabytes); `lint` needs ruff alone. Dependencies are those of pyproject.toml. Arguments after `--` are passed
on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = "bench,hmc,dask,slurm"
GROUPS = ("test", "typecheck")


@nox.session(reuse_venv=True)
def env(session: nox.Session) -> None:
    """Make the environment of all sessions that need torch, anew when its packages change."""
    folder = Path(session.virtualenv.location)
    stamp = folder / "installed.sha256"
    # Of pyproject.toml only what decides about packages, not the settings of tools.
    decides = [PYPROJECT[part] for part in ("build-system", "project", "dependency-groups")]
    wanted = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        session.log(f"{folder} is up to date")
        return
    session.install("-e", f".[{EXTRAS}]", *nox.project.dependency_groups(PYPROJECT, *GROUPS))
    stamp.write_text(wanted)


def run(session: nox.Session, *command: str, **variables: str) -> None:
    """Run `python COMMAND` in the environment of the session `env`, with more variables set."""
    folder = Path(session._runner.global_config.envdir) / "env"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    session.run(str(python), *command, external=True, env=variables)


@nox.session(venv_backend="none", requires=["env"])
def tests(session: nox.Session) -> None:
    """Run the tests, a process a core; `nox -s tests -- -m "not slow"` leaves out the long ones."""
    # A file stays in one process, which makes its fixtures once; one thread each, or the processes fight for cores.
    run(session, "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs, OMP_NUM_THREADS="1")


@nox.session(venv_backend="none", requires=["env"])
def bench(session: nox.Session) -> None:
    """Run a benchmark and make its table and figures; `nox -s bench -- --help` lists the configurations."""
    run(session, "bench/run.py", *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def gate(session: nox.Session) -> None:
    """Compare the quick benchmark's results with the baseline; fails where speed or calibration has become worse."""
    run(session, "bench/gate.py", *session.posargs, OMP_NUM_THREADS="1")


@nox.session(venv_backend="none", requires=["env"])
def export(session: nox.Session) -> None:
    """Make the leaderboard of all results; `nox -s export -- --check FILE` checks rows of your own."""
    run(session, "bench/export.py", *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def speed(session: nox.Session) -> None:
    """Time the operations against other ways of doing the same, one thread; results/speed/ gets DEVICE.json and .md."""
    options = ("-o", "python_files=bench_*.py", "--benchmark-quiet", "--results=results/speed")
    run(session, "-m", "pytest", "bench/speed", "-q", *options, *session.posargs, OMP_NUM_THREADS="1")


@nox.session(venv_backend="none", requires=["env"])
def reference(session: nox.Session) -> None:
    """Make the long HMC runs under results/reference/ that every method is compared with."""
    run(session, "bench/reference.py", *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def typecheck(session: nox.Session) -> None:
    """Check the types of the two packages and of the benchmark's shared code."""
    run(session, "-m", "mypy", *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def kernels(session: nox.Session) -> None:
    """Compile the GPU kernels without a GPU and check what the compiler made of them."""
    run(session, "kernels/offline_check.py", *session.posargs)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style and formatting; `nox -s lint -- --fix` mends what it can."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *(() if "--fix" in session.posargs else ("--check",)), ".")

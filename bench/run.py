"""Run a benchmark and make its rows, table, figures and page: `nox -s bench -- [CONFIG]`.

Results go to results/CONFIG/: rows.parquet, arrays.npz, table.md, benchopt.html and PNG figures. Finished
runs are cached, so an interrupted command goes on where it stopped when it is given again; failed runs are
tried again. --parallel-config shares the runs among the machines of a cluster: see docs/cluster.md. The
configurations in bench/configs/ are benchopt's own, so `benchopt run bench --config bench/configs/quick.yml`
works too.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

BENCH = Path(__file__).resolve().parent
CONFIGS = BENCH / "configs"
RESULTS = BENCH.parent / "results"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
ONE_THREAD["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
# laplace-torch's dependencies still use torch.jit, which torch announces the end of at every import.
QUIET = {"PYTHONWARNINGS": "ignore::FutureWarning:torch.jit._script"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's settings."""
    # Files that say where to run, not what, stand there too.
    names = sorted(path.stem for path in CONFIGS.glob("*.yml") if not _is_parallel(path))
    parser = argparse.ArgumentParser(
        prog="nox -s bench --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "config", nargs="?", default="quick", help=f"one of {', '.join(names)}, or a YAML file; default quick"
    )
    parser.add_argument(
        "-d",
        "--dataset",
        action="append",
        metavar="NAME",
        help="only this task, with the configuration's seeds, or a part of it: 'banana[seed=0]'",
    )
    parser.add_argument(
        "-s",
        "--solver",
        action="append",
        metavar="NAME",
        help="only this method, as the configuration has it; 'laplace[structure=kron]' takes the rest from its file",
    )
    parser.add_argument("-j", "--jobs", type=_workers, metavar="N", help="worker processes of one thread each")
    parser.add_argument(
        "--parallel-config",
        type=Path,
        metavar="FILE",
        help="a YAML file that says on which workers to run, such as bench/configs/dask.yml or slurm.yml",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where results go; default results/CONFIG, or results/CONFIG-partial with -d or -s",
    )
    parser.add_argument(
        "--bench", type=Path, default=BENCH, metavar="FOLDER", help="another benchmark folder: docs/leaderboard.md"
    )
    settings = parser.parse_args(arguments)
    path = Path(settings.config)
    settings.config = path if path.suffix in (".yml", ".yaml") else CONFIGS / f"{settings.config}.yml"
    if not settings.config.is_file():
        close = difflib.get_close_matches(path.stem, names, n=1)
        near = f"the nearest is {close[0]}, " if close else ""
        parser.exit(2, f"error: there is no configuration {path}; {near}there are {', '.join(names)}\n")
    if settings.parallel_config and not settings.parallel_config.is_file():
        parser.exit(2, f"error: there is no file {settings.parallel_config} for --parallel-config\n")
    partial = "-partial" if settings.dataset or settings.solver else ""  # never over the whole run's results
    settings.output = settings.output or RESULTS / f"{settings.config.stem}{partial}"
    return settings


def _is_parallel(path: Path) -> bool:
    """Whether a configuration says on which workers to run."""
    return any(line.startswith("backend:") for line in path.read_text(encoding="utf-8").splitlines())


def _workers(text: str) -> int:
    """A number of workers from the command line."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, from 1")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    0, though runs diverged, which is a result, or were skipped; 1 if a run failed, or none gave a result; 2 if the
    configuration, the workers or the disk do not allow it; 130 if interrupted.
    """
    settings = parse(arguments)
    # Set before torch, jax and the workers start: one thread a worker makes times comparable whatever runs
    # beside.
    os.environ.update(ONE_THREAD | QUIET, MPLBACKEND="Agg")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")  # as QUIET does in workers
    # joblib renews a worker that has grown, which importing jax and laplace-torch is enough for.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    if str(BENCH) not in sys.path:
        sys.path.insert(0, str(BENCH))
    from rich.console import Console

    from benchmark_utils.report.refusals import Refusal

    # Bound to the terminal as it is now: benchopt's own lines are taken away from sys.stdout while it runs.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    try:
        return run(settings, console)
    except KeyboardInterrupt:
        console.print("[yellow]Interrupted.[/] What is finished is kept: the same command goes on from here.")
        return 130
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(settings: argparse.Namespace, console: Console) -> int:
    """Run the campaign, write its results, and return 0, or 1 if a run failed, or none gave a result."""
    with console.status("Loading methods"):  # seconds, for torch and JAX
        from benchmark_utils.report import campaign
        from benchmark_utils.report.configuration import read_parallel
        from benchmark_utils.report.output import write_results
        from benchmark_utils.report.storage import Workspace

    parallel = read_parallel(settings.parallel_config) if settings.parallel_config else None
    with Workspace(settings.output, settings.bench / campaign.CACHE) as workspace:
        with console.status("Loading methods and tasks"):
            planned = campaign.plan(
                settings.config, settings.bench, settings.dataset, settings.solver, settings.jobs, parallel
            )
        results, outcomes = campaign.run(planned, console, workspace, ONE_THREAD | QUIET)
        with workspace.replacing() as folder:
            rows = write_results(results, outcomes, folder, planned.benchmark, console)
            written = ", ".join(sorted(path.name for path in folder.iterdir()))
    console.print(f"Written to {settings.output}: {written}", highlight=False)
    code, last = ending(rows["status"], settings.output)
    if last:
        console.print(last, style="red" if code else "yellow", markup=False, highlight=False)
    return code


def ending(status: pd.Series, output: Path) -> tuple[int, str]:
    """Return the exit code of a run whose rows have this status, and its last line; "" if all of them are done."""
    counts = {name: int((status == name).sum()) for name in ("failed", "diverged", "skipped")}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    code = 1 if counts["failed"] or counts["skipped"] == len(status) else 0
    return code, f"Of {len(status)} runs {', '.join(parts)}: reasons in {output / 'table.md'}" if parts else ""


if __name__ == "__main__":
    raise SystemExit(main())

"""Compare a fresh quick run with the baseline, and the library's speed and memory with the baseline's.

`nox -s gate` or `python bench/gate.py [FOLDER]`. Exit code: 0 if nothing fails, 1 if a check does, 2 if something
cannot be compared or the command was wrong. docs/gate.md says what is checked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = ROOT / "results"
# One thread, set before torch starts: timings of several depend on what runs beside.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
sys.path[:0] = [str(path) for path in (BENCH, ROOT / "kernels", ROOT) if str(path) not in sys.path]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(
        prog="nox -s gate --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "fresh",
        nargs="?",
        type=Path,
        default=RESULTS / "quick",
        help="folder of the run to judge; default results/quick",
    )
    parser.add_argument("--run", action="store_true", help="run `bench/run.py quick` into that folder first")
    parser.add_argument("--partial", action="store_true", help="runs that only the baseline has are no failure")
    parser.add_argument("--rows-only", action="store_true", help="judge the rows; time and measure nothing")
    parser.add_argument("--baseline", type=Path, default=RESULTS / "baseline" / "quick", metavar="FOLDER")
    parser.add_argument("--update", metavar="REASON", help="make the run the baseline, and record why")
    parser.add_argument(
        "--summary", type=Path, default=RESULTS / "gate" / "summary.md", metavar="FILE", help="where the Markdown goes"
    )
    parser.add_argument(
        "--speed-history",
        type=Path,
        metavar="FOLDER",
        help="tell how the last two runs of the speed suite differ that pytest-benchmark has kept there",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    settings = parse(arguments)
    from rich.console import Console

    from benchmark_utils.gate import judge
    from benchmark_utils.gate.check import exit_code
    from benchmark_utils.gate.history import speed_history
    from benchmark_utils.gate.pairs import GateError
    from benchmark_utils.gate.summary import markdown, print_summary
    from benchmark_utils.report.rows import write_text

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    if settings.run:
        # In a process of its own; failed runs are rows, and judged below.
        command = [sys.executable, str(BENCH / "run.py"), "quick", "--output", str(settings.fresh)]
        if (code := subprocess.run(command, check=False).returncode) not in (0, 1):
            console.print("gate: the run did not end; what an earlier one left is not judged", style="red")
            return 130 if code == 130 else 2
    try:
        if settings.update is not None:
            judge.update(settings.baseline, settings.fresh, settings.update, console)
            return 0
        checks = judge.checks(
            settings.baseline, settings.fresh, console, partial=settings.partial, measure=not settings.rows_only
        )
        if settings.speed_history:
            checks += speed_history(settings.speed_history, console)
    except GateError as error:
        console.print(f"gate: {error}", style="red", markup=False, highlight=False)
        return 2
    print_summary(checks, console)
    text = markdown(checks)
    write_text(text, settings.summary)
    console.print(f"Written to {settings.summary}", highlight=False)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(text)
    return exit_code(checks)


if __name__ == "__main__":
    raise SystemExit(main())

"""Make the leaderboard of the runs in results/, or check rows that are to join it: `nox -s export`.

nox -s export                          results/leaderboard/ of all runs of the present suite version
nox -s export -- quick images          of these
nox -s export -- --check FILE...       whether rows (Parquet or CSV) can join, and what to mend
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH.parent / "results"
HUB_ID = "fiberbnn/leaderboard"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(
        prog="nox -s export --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders in results/; default all that can take part")
    parser.add_argument("--check", nargs="+", type=Path, metavar="FILE", help="check these rows and write nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the runs are")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default RESULTS/leaderboard")
    parser.add_argument(
        "--hub-id",
        default=HUB_ID,
        metavar="OWNER/NAME",
        help=f"the dataset's name on Hugging Face's hub; default {HUB_ID}",
    )
    settings = parser.parse_args(arguments)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", settings.hub_id):
        parser.error(f"--hub-id is OWNER/NAME, got {settings.hub_id!r}")
    settings.output = settings.output or settings.results / "leaderboard"
    return settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 1 if rows are refused or the leaderboard cannot be made."""
    settings = parse(arguments)
    os.environ["MPLBACKEND"] = "Agg"
    if str(BENCH) not in sys.path:
        sys.path.insert(0, str(BENCH))
    from benchmark_utils.leaderboard.check import check
    from benchmark_utils.leaderboard.folder import write_leaderboard
    from benchmark_utils.leaderboard.runs import find_runs

    try:
        runs, notes = find_runs(settings.results, settings.runs)
        if settings.check:
            good, said = check(settings.check, runs, settings.results)
            print(said)
            return 0 if good else 1
        for note in notes:
            print(note)
        written = write_leaderboard(runs, settings.output, settings.hub_id)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Leaderboard of {', '.join(runs)} written to {settings.output}: {', '.join(written)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

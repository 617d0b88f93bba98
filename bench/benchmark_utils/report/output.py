"""Everything that a campaign leaves behind: rows, arrays, table, figures and benchopt's page."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchopt.benchmark import Benchmark
from benchopt.plotting import plot_benchmark
from benchopt.results import save_results
from matplotlib.figure import Figure
from rich.console import Console

from benchmark_utils.report.figures import panels
from benchmark_utils.report.rows import (
    OBJECTIVE,
    Outcome,
    rows_from_results,
    write_arrays,
    write_rows,
    write_text,
)
from benchmark_utils.report.table import COLUMNS, markdown, print_tables
from benchmark_utils.report.targets import EXPLANATION as TARGETS_EXPLANATION
from benchmark_utils.report.targets import targets_table

PAGE = "benchopt.html"
ON_PAGE = ["task", "seed", "kind", "status", "map_s", "arrays", *(column.name for column in COLUMNS)]


def write_results(
    results: pd.DataFrame, outcomes: Sequence[Outcome], folder: Path, benchmark: Benchmark, console: Console
) -> pd.DataFrame:
    """Write a campaign's files to `folder`, print its tables, and return its rows.

    Args:
        results: benchopt's frame, one line a finished run.
        outcomes: the runs that left no result.
        folder: where rows.parquet, arrays.npz, table.md, the figures and benchopt.html go.
        benchmark: for benchopt's page.
        console: where the tables are printed.
    """
    rows, arrays = rows_from_results(results, outcomes)
    write_rows(rows, folder / "rows.parquet")
    write_arrays(arrays, folder / "arrays.npz")
    write_text(markdown(rows, f"Results of {folder.name}"), folder / "table.md")
    print_tables(rows, console)
    table = targets_table(rows)
    if table:
        write_text(f"# What MetricBNN is meant to reach\n\n{table}\n\n{TARGETS_EXPLANATION}\n", folder / "targets.md")
    written = [
        "rows.parquet",
        "arrays.npz",
        "table.md",
        *(["targets.md"] if table else []),
        *write_figures(rows, arrays, folder),
    ]
    if len(results):
        write_page(results, folder, benchmark)
        written.append(PAGE)
    console.print(f"Written to {folder}: {', '.join(written)}", highlight=False)
    return rows


def write_figures(rows: pd.DataFrame, arrays: Mapping[str, np.ndarray], folder: Path) -> list[str]:
    """Draw every figure for which there is something to draw, and return their file names."""
    # A benchmark's plots folder has no package: benchopt takes every file in it for a plot.
    from plots import nll_against_cost, predictive_bands, uncertainty_maps

    written = []
    if (rows["status"] == "done").any():
        written.append(_save(nll_against_cost.draw(rows), folder / "nll_against_cost.png"))
    for plot in (predictive_bands, uncertainty_maps):
        if found := panels(rows, arrays, plot.METHODS, plot.NEEDS):
            written.append(_save(plot.draw(found), folder / f"{plot.__name__.rpartition('.')[2]}.png"))
    return written


def _save(figure: Figure, path: Path) -> str:
    """Save and close a figure, renamed into place; return its file name."""
    beside = path.with_suffix(".part.png")
    figure.savefig(beside)
    plt.close(figure)
    beside.replace(path)
    return path.name


def write_page(results: pd.DataFrame, folder: Path, benchmark: Benchmark) -> None:
    """Write benchopt's HTML page of these results to `folder`.

    benchopt takes each seed for a dataset of its own; on the page the seeds are repetitions of one dataset.
    """
    shown = [f"{OBJECTIVE}{name}" for name in ON_PAGE]
    dropped = [name for name in results if name.startswith(OBJECTIVE) and name not in (*shown, "objective_name")]
    frame = results.drop(columns=dropped).assign(
        dataset_name=results[f"{OBJECTIVE}task"], idx_rep=results[f"{OBJECTIVE}seed"].astype(int)
    )
    # benchopt makes pages only of files in its own output folder.
    source = benchmark.get_output_folder() / f"{folder.name}.parquet"
    source.unlink(missing_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        plot_benchmark(save_results(frame, source), benchmark, display=False)
    shutil.copyfile(source.with_name(f"{benchmark.name}_{source.stem}.html"), folder / PAGE)

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

from benchmark_utils.report.ablation import Defaults, ablation_markdown, ablations, without_variants
from benchmark_utils.report.depth import depth_markdown, depth_rows
from benchmark_utils.report.figures import panels
from benchmark_utils.report.images import shift_columns
from benchmark_utils.report.ood_table import ood_markdown
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
from benchmark_utils.report.targets_images import image_targets

FEW_ABLATIONS = 3
PAGE = "benchopt.html"
ON_PAGE = [
    "task", "seed", "kind", "status", "map_s", "arrays", "ood_near", "ood_far", "shift_units",
    "nll_unshifted", "accuracy_unshifted",
    *(column.name for column in COLUMNS),
]  # fmt: skip


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
    defaults = defaults_of(benchmark)
    texts = {
        "ood.md": ood_markdown(rows, f"Out-of-distribution detection of {folder.name}"),
        "targets.md": targets(rows),
        "ablation.md": ablation_markdown(ablations(rows, defaults), f"Ablations of {folder.name}"),
        "depth.md": depth_markdown(rows, "Quality and cost against depth"),
    }
    for name, text in texts.items():
        if text:
            write_text(text, folder / name)
    write_figures(rows, arrays, folder, defaults)
    if len(results):
        write_page(results, folder, benchmark)
    return rows


def targets(rows: pd.DataFrame) -> str:
    """Return the Markdown of targets.md; "" if nothing that has a target was measured."""
    images, table = image_targets(rows), targets_table(without_variants(rows))
    parts = [f"{table}\n\n{TARGETS_EXPLANATION}" if table else "", images]
    return "\n\n".join(["# What MetricBNN is meant to reach", *filter(None, parts)]) + "\n" if any(parts) else ""


def defaults_of(benchmark: Benchmark) -> Defaults:
    """Return by solver the first values of its settings, which ablations put all others beside."""
    solvers = benchmark.get_solvers()
    return {solver.name: {name: values[0] for name, values in solver.parameters.items()} for solver in solvers}


def write_figures(
    rows: pd.DataFrame, arrays: Mapping[str, np.ndarray], folder: Path, defaults: Defaults | None = None
) -> list[str]:
    """Draw every figure for which there is something to draw, and return their file names."""
    # A benchmark's plots folder has no package: benchopt takes every file in it for a plot.
    from plots import (
        ablation,
        depth,
        nll_against_cost,
        ood_roc,
        predictive_bands,
        reliability,
        shift,
        uncertainty_maps,
    )

    written, studied = [], ablations(rows, defaults)
    if (rows["status"] == "done").any():
        # Many variants have figures of their own; a legend that names them all is longer than the plot.
        shown = without_variants(rows) if len(studied) > FEW_ABLATIONS else rows
        written.append(_save(nll_against_cost.draw(shown), folder / "nll_against_cost.png"))
    for plot in (predictive_bands, uncertainty_maps, reliability, ood_roc):
        if found := panels(rows, arrays, plot.METHODS, plot.NEEDS):
            written.append(_save(plot.draw(found), folder / f"{plot.__name__.rpartition('.')[2]}.png"))
    if len(points := shift.points(rows)):
        written.append(_save(shift.draw(points), folder / "shift.png"))
    for one in studied:
        written.append(_save(ablation.draw(one), folder / f"ablation_{one.name}.png"))
    if ((by_depth := depth_rows(rows))["status"] == "done").any():
        written.append(_save(depth.draw(by_depth), folder / "depth.png"))
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
    rows, _ = rows_from_results(results, [])
    shown = [f"{OBJECTIVE}{name}" for name in (*ON_PAGE, *(column.name for column in shift_columns(rows)))]
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

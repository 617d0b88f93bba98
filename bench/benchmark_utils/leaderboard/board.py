"""The leaderboard as one JSON-able value, from which its files and its page are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from benchmark_utils.leaderboard.entries import make_entries, rows_file
from benchmark_utils.leaderboard.quantities import COSTS, Quantity, metric_quantities
from benchmark_utils.leaderboard.ranks import make_ranks
from benchmark_utils.rows.row import SUITE_VERSION

Board = dict[str, Any]


def make_board(rows_by_run: Mapping[str, pd.DataFrame]) -> Board:
    """Return the leaderboard of these runs.

    Args:
        rows_by_run: the rows of each run by its name, the folder in results/; one suite version.

    Returns:
        JSON-able, without NaN or infinity: suite_version; made_from (run, rows, n_rows, commit); metrics and costs
        (column, id, name, direction, better, unit, formula, kinds); tasks; methods; entries (run, task, method,
        settings, label, seeds, status, reasons, values and cost as mean, sd and n by column, pareto, the columns in
        which it is among_best, rows); and ranks.

    Raises:
        ValueError: if there is no run.
    """
    if not rows_by_run:
        raise ValueError("there are no runs to make a leaderboard of")
    columns = list(dict.fromkeys(column for rows in rows_by_run.values() for column in rows.columns))
    metrics = metric_quantities(columns)
    entries = [entry for run, rows in rows_by_run.items() for entry in make_entries(run, rows, metrics)]
    return {
        "suite_version": SUITE_VERSION,
        "made_from": [
            {
                "run": run,
                "rows": rows_file(run),
                "n_rows": len(rows),
                "commit": ", ".join(sorted({commit for commit in rows["commit"] if commit})),
            }
            for run, rows in rows_by_run.items()
        ],
        "metrics": [_described(metric) for metric in metrics],
        "costs": [_described(cost) for cost in COSTS],
        "tasks": _tasks(rows_by_run),
        "methods": sorted({entry["method"] for entry in entries}),
        "entries": entries,
        "ranks": make_ranks(rows_by_run, metrics),
    }


def _described(quantity: Quantity) -> dict[str, Any]:
    """A quantity as JSON has it, with its direction in words too."""
    return asdict(quantity) | {"kinds": list(quantity.kinds), "better": quantity.better}


def _tasks(rows_by_run: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Every task with a finished run: its sizes, its content, and the runs that have it."""
    every = pd.concat([rows.assign(run=run) for run, rows in rows_by_run.items()], ignore_index=True)
    tasks = []
    for name, rows in every[every["status"] == "done"].groupby("task"):
        one = rows.iloc[0]
        tasks.append(
            {
                "name": name,
                "kind": one["kind"],
                **{column: int(one[column]) for column in ("n_train", "n_test", "n_params")},
                "runs": list(dict.fromkeys(rows["run"])),
                "dataset_sha256": one["dataset_sha256"],
                "dataset_matches": bool((rows["dataset_matches"] == 1).all()),
            }
        )
    return tasks


def without_single_sets(board: Board) -> Board:
    """Return the board without the numbers of single out-of-distribution sets, which ood.md has."""
    single = {metric["column"] for metric in board["metrics"] if metric["of_one_set"]}
    return board | {
        "metrics": [metric for metric in board["metrics"] if metric["column"] not in single],
        "entries": [
            entry
            | {
                "values": {name: value for name, value in entry["values"].items() if name not in single},
                "among_best": [name for name in entry["among_best"] if name not in single],
            }
            for entry in board["entries"]
        ],
    }

"""Among the best: told apart by paired differences over the seeds, on numbers with a known answer and on real rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from benchmark_utils.leaderboard.among_best import among_best, is_told_worse
from benchmark_utils.leaderboard.board import make_board
from benchmark_utils.leaderboard.quantities import metric_quantities
from benchmark_utils.report.read_rows import read_rows

ROWS = Path(__file__).resolve().parents[2] / "results" / "quick" / "rows.parquet"
SPLITS = np.array([0.2, 0.9, 0.5, 1.4, 0.7])  # what the splits do to every method alike


def marks(*losses: object) -> list[bool]:
    """Return whether each method, given by its losses over the seeds, is among the best."""
    return among_best(np.array(losses, dtype=float).T).tolist()


def scores(rows: pd.DataFrame, entry: dict[str, Any], column: str) -> pd.Series:
    """Return an entry's numbers by seed."""
    return rows[(rows["method"] == entry["method"]) & (rows["settings"] == entry["settings"])].set_index("seed")[column]


def test_a_small_constant_advantage_is_told_apart_under_a_strong_effect_of_the_splits():
    assert np.std(SPLITS, ddof=1) > 40 * 0.01
    noise = np.array([0.001, -0.002, 0.0, 0.001, 0.0])
    assert marks(SPLITS, SPLITS + 0.01 + noise, SPLITS + 0.01) == [True, False, False]


def test_a_difference_that_changes_its_sign_is_not_told_apart():
    assert marks(SPLITS, SPLITS + np.array([0.1, -0.1, 0.1, -0.1, 0.01])) == [True, True]


def test_the_interval_is_students():
    # t of 2 degrees of freedom at 0.975 is 4.3027: reaches of 0.2484 and 0.1242 around means of 0.2 and 0.15.
    assert not is_told_worse(np.array([0.1, 0.2, 0.3]))
    assert is_told_worse(np.array([0.1, 0.15, 0.2]))


def test_identical_rows_are_all_best_of_any_number_of_seeds():
    assert marks(SPLITS, SPLITS, SPLITS + 1) == [True, True, False]
    assert marks([0.5], [0.5], [0.6]) == [True, True, False]


def test_below_three_seeds_only_the_best_is_marked():
    assert marks([0.5, 0.9], [0.6, 0.8000001]) == [True, False]
    assert marks([0.5, 0.9, 0.7], [0.6, 0.8000001, 0.7]) == [True, True]
    # Three seeds, of which one method has two.
    assert marks([0.5, 0.9, 0.7], [0.5000001, 0.9, math.nan]) == [True, False]


def test_a_method_that_lost_a_seed_is_neither_the_best_nor_marked():
    assert marks(SPLITS, [0.0, 0.0, math.inf, 0.0, 0.0], SPLITS + 0.1) == [True, False, False]
    assert marks([math.inf] * 3, [math.inf, 0.0, 0.0]) == [False, False]


def test_the_best_is_of_those_with_most_seeds_and_the_others_are_compared_on_the_seeds_of_both():
    part = np.where(np.arange(5) < 3, SPLITS, math.nan)  # without the worst splits: the lowest mean
    assert marks(SPLITS + 0.01, part, SPLITS + 0.1) == [True, True, False]
    assert marks(SPLITS, part + 0.01) == [True, False]


def test_one_alone_is_not_the_best():
    assert marks(SPLITS) == [False]
    assert marks(SPLITS, [math.nan] * 5) == [False, False]


def test_entries_are_marked_as_a_paired_test_tells_them_apart():
    rows = read_rows(ROWS)
    rows = rows[rows["task"] == "vehicle"]
    metrics = {metric.column: metric for metric in metric_quantities(rows.columns)}
    entries = [entry for entry in make_board({"quick": rows})["entries"] if entry["values"]]
    seen = set()
    for column in ("nll", "accuracy", "energy_ratio"):
        own = {e["label"]: e for e in entries if column in e["values"]}
        losses = pd.DataFrame({label: metrics[column].loss(scores(rows, e, column)) for label, e in own.items()})
        best = losses.mean().idxmin()
        for label, entry in own.items():
            equal = losses[label].equals(losses[best])
            is_near = equal or ttest_rel(losses[label], losses[best]).pvalue > 0.05
            assert (column in entry["among_best"]) == is_near, (column, label)
            seen.add(is_near)
    assert all(len(set(entry["among_best"])) == len(entry["among_best"]) for entry in entries)
    assert seen == {True, False}


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_an_entry_with_a_lost_row_is_never_marked(status):
    rows = read_rows(ROWS)
    rows = rows[rows["task"] == "vehicle"].reset_index(drop=True)
    winner = next(e for e in make_board({"quick": rows})["entries"] if "nll" in e["among_best"])
    first = rows.index[(rows["method"] == winner["method"]) & (rows["settings"] == winner["settings"])][0]
    rows.loc[first, ["status", "reason", "nll"]] = [status, "no luck", math.nan]
    marked = {e["label"]: e["among_best"] for e in make_board({"quick": rows})["entries"]}
    assert marked[winner["label"]] == []
    assert any("nll" in columns for columns in marked.values())


def test_a_number_that_no_direction_orders_marks_nobody():
    (spread,) = [m for m in metric_quantities(["sd_gap"]) if m.column == "sd_gap"]
    assert spread.loss(pd.Series([1.0, 2.0])).isna().all()
    (coverage,) = metric_quantities(["coverage90"])
    assert coverage.loss(pd.Series([0.8, 0.95])).tolist() == pytest.approx([0.1, 0.05])

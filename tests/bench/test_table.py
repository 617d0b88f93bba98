"""The table: what is written, in which order, and what is said about runs that did not finish."""

from __future__ import annotations

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from benchmark_utils.report.remarks import remarks
from benchmark_utils.report.rows import COLUMNS, Outcome, rows_from_results
from benchmark_utils.report.table import mean_and_spread, method_labels, print_tables, task_table


def make_rows(*lines: dict) -> pd.DataFrame:
    """Rows of a task "banana"; status is done unless said."""
    common = {
        "task": "banana",
        "settings": "",
        "seed": 0,
        "status": "done",
        "reason": "",
        "dataset_matches": 1.0,
    }
    rows = pd.DataFrame([common | line for line in lines])
    return rows.reindex(columns=[*COLUMNS, *(name for name in rows if name not in COLUMNS)])


@pytest.mark.parametrize(
    ("values", "digits", "expected"),
    [
        ([0.4, 0.5, 0.6], 3, "0.500 ± 0.100"),
        ([0.4, None], 3, "0.400"),
        ([None, None], 3, "-"),
        ([9000.0, 9002.0], 0, "9,001 ± 1"),
        ([0.041, 0.043], None, "0.042 ± 0.001"),
        ([0.0000034], None, "0.000"),
        ([123.4, 125.4], None, "124 ± 1"),
        ([0.0], None, "0"),
        ([-0.0004], 2, "0.00"),
        ([0.0004, 0.0006], 3, "0.001 ± 0.000"),
        ([-0.4, -0.6], 1, "-0.5 ± 0.1"),
    ],
)
def test_mean_and_spread(values, digits, expected):
    assert mean_and_spread(pd.Series(values, dtype=float), digits) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0004, 0.0006], "0.00050 ± 0.00014"),
        ([0.00000312], "0.0000031"),
        ([0.0412], "0.041"),
        ([12.3456], "12.346"),
        ([0.0], "0.000"),
        ([-0.0005], "-0.00050"),
        ([math.inf], "inf"),
    ],
)
def test_small_numbers_keep_significant_digits_where_a_column_asks_for_them(values, expected):
    assert mean_and_spread(pd.Series(values, dtype=float), 3, significant=2) == expected


def test_labels_name_only_the_settings_that_differ():
    rows = make_rows(
        {"method": "walk", "settings": "friction=0.1,steps=300"},
        {"method": "walk", "settings": "friction=0.5,steps=300"},
        {"method": "laplace", "settings": "predictive=glm,structure=last_layer,tuned=True"},
        {"method": "laplace", "settings": "predictive=glm,structure=kron,tuned=False"},
        {"method": "hmc", "settings": "n_draws=300"},
    )
    assert set(method_labels(rows).values()) == {
        "hmc",
        "walk[friction=0.1]",
        "walk[friction=0.5]",
        "laplace[last_layer]",
        "laplace[kron]",
    }


def test_a_switch_is_left_out_where_a_word_says_the_same():
    def labels(*settings):
        rows = make_rows(*({"method": "laplace", "settings": text} for text in settings))
        return [method_labels(rows)["laplace", text].removeprefix("laplace") for text in settings]

    implied = ("fast=True,predictive=glm,rank=5", "fast=True,predictive=glm,rank=9", "fast=False,predictive=map,rank=5")
    assert labels(*implied) == ["[glm, rank=5]", "[glm, rank=9]", "[map, rank=5]"]
    free = ("fast=True,predictive=glm", "fast=False,predictive=glm", "fast=False,predictive=map")
    assert labels(*free) == ["[fast=True, glm]", "[fast=False, glm]", "[fast=False, map]"]
    # Not of a number, which says how much; nor where a setting is not given at all.
    assert labels("predictive=glm,rank=5", "predictive=map,rank=9") == ["[glm, rank=5]", "[map, rank=9]"]
    assert labels("fast=True", "predictive=glm", "") == ["[fast=True]", "[glm]", ""]


def test_a_task_table_is_sorted_by_nll_counts_seeds_and_leaves_out_empty_columns():
    rows = make_rows(
        {"method": "map", "seed": 0, "nll": 0.5, "accuracy": 0.9},
        {"method": "map", "seed": 1, "nll": 0.7, "accuracy": 0.7},
        {"method": "walk", "seed": 0, "nll": 0.2},
        {"method": "walk", "seed": 1, "status": "failed", "reason": "boom"},
        {"method": "swag", "seed": 0, "status": "skipped", "reason": "too large"},
    )
    headings, lines = task_table(rows, method_labels(rows))
    assert headings == ["method", "seeds", "NLL", "acc."]
    assert lines == [
        ["walk", "1 of 2", "0.200", "-"],
        ["map", "2", "0.600 ± 0.141", "0.800 ± 0.141"],
        ["swag", "0 of 1", "-", "-"],
    ]


def test_the_reference_run_is_the_last_line():
    rows = make_rows(
        {
            "method": "map",
            "seed": 0,
            "nll": 0.5,
            "nll_hmc": 0.25,
            "gradients": 0.0,
            "gradients_hmc": 5000.0,
        },
        {
            "method": "walk",
            "seed": 0,
            "nll": 0.3,
            "nll_hmc": 0.25,
            "gradients": 10.0,
            "gradients_hmc": 5000.0,
        },
        {
            "method": "walk",
            "seed": 1,
            "nll": 0.3,
            "nll_hmc": 0.35,
            "gradients": 10.0,
            "gradients_hmc": 7000.0,
        },
    )
    _, lines = task_table(rows, method_labels(rows))
    assert lines[-1] == ["(long HMC reference)", "2", "0.300 ± 0.071", "6,000 ± 1,414"]


def test_remarks_join_seeds_of_one_reason_and_methods_with_the_same_seeds():
    rows = make_rows(
        {"method": "map", "nll": 0.5},
        {"method": "hmc", "seed": 0, "status": "skipped", "reason": "too large"},
        {"method": "vi", "seed": 0, "status": "skipped", "reason": "too large"},
        {"method": "walk", "seed": 1, "status": "failed", "reason": "boom"},
        {"method": "walk", "seed": 0, "status": "failed", "reason": "boom"},
        {"method": "swag", "seed": 0, "status": "failed", "reason": "boom"},
    )
    assert remarks(rows, method_labels(rows)) == [
        "walk: failed (seed 0, 1): boom",
        "swag: failed (seed 0): boom",
        "hmc, vi: skipped (seed 0): too large",
    ]


def test_remarks_join_reasons_that_differ_in_numbers_only_and_seeds_without_a_gap():
    orders = {0: 28, 1: 31, 2: 28, 3: 7}
    lines = [{"seed": s, "status": "failed", "reason": f"order {order} of 50"} for s, order in orders.items()]
    rows = make_rows({"method": "map", "nll": 0.5}, *({"method": "laplace"} | line for line in lines))
    said = "order 28 of 50 (numbers differ between splits)"
    assert remarks(rows, method_labels(rows)) == [f"laplace: failed (seed 0 to 3): {said}"]


def test_content_that_is_not_the_expected_one_is_said():
    rows = make_rows({"method": "map", "nll": 0.5, "dataset_matches": 0.0})
    assert "not the expected one" in remarks(rows, method_labels(rows))[0]


def test_brackets_of_a_label_survive_in_the_terminal():
    rows = make_rows(
        {"method": "laplace", "settings": "structure=kron", "nll": 0.3},
        {"method": "laplace", "settings": "structure=diag", "nll": 0.4},
    )
    text = io.StringIO()
    print_tables(rows, Console(file=text, width=160))
    assert "laplace[kron]" in text.getvalue()
    assert "laplace[diag]" in text.getvalue()
    blank, legend = text.getvalue().splitlines()[-2:]  # the long one is in table.md
    assert not blank.strip()
    assert legend.startswith("Mean±standard deviation")


def test_runs_without_results_are_rows_and_nothing_else_is_needed():
    outcomes = [
        Outcome("banana[seed=3]", "walk[friction=0.1]", "failed", "boom"),
        Outcome("gone", "map", "skipped", "no data"),
    ]
    rows, arrays = rows_from_results(pd.DataFrame(), outcomes)
    assert not arrays
    assert rows[["task", "method", "settings", "seed", "status", "reason"]].to_numpy().tolist() == [
        ["banana", "walk", "friction=0.1", 3, "failed", "boom"],
        ["gone", "map", "", 0, "skipped", "no data"],
    ]
    print_tables(rows, Console(file=io.StringIO()))

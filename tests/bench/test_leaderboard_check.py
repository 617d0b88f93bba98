"""Rows that somebody else wrote: what is wrong with them is said in words, all at once, and never by a traceback."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from benchmark_utils.leaderboard.check import check, problems_of
from benchmark_utils.leaderboard.schema import row_schema
from tests.bench.submitted_rows import CURVE, QUICK, RESULTS, RUNS, TABLE, submitted


def said(rows: pd.DataFrame) -> str:
    return "\n".join(f"{p.rows} {p.what} | {p.mend}" for p in problems_of(rows, RUNS))


def change(column: str, value: object, task: str = TABLE, n: int = 1) -> str:
    """What is said about good rows after one change; n rows of the task get it."""
    rows = submitted()
    rows[column] = rows[column].astype(object)
    rows.loc[rows.index[rows["task"] == task][:n], column] = value
    return said(rows)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/rows.parquet")), ids=lambda path: path.parent.name)
def test_the_repositorys_own_rows_pass(path):
    good, text = check([path], RUNS, RESULTS)
    assert good, text


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_good_rows_pass_in_both_formats(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    rows = submitted()
    rows.to_parquet(path) if suffix == ".parquet" else rows.to_csv(path, index=False)
    assert check([path], RUNS, RESULTS) == (True, f"{path}: 6 rows, nothing to mend")


def test_the_schema_is_one():
    Draft202012Validator.check_schema(row_schema())


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("nll", -0.1, "nll is -0.1, below 0"),
        ("nll", math.nan, "nll is missing"),
        ("nll", math.inf, "nll is infinite"),
        ("nll", "low", "nll is 'low', not a number"),
        ("nll", 1e-6, "every error costs at least log 2"),
        ("nll", 9.0, "nll is above nll_single"),
        ("brier", 2.5, "brier is 2.5, above 2"),
        ("ece", 1.01, "ece is 1.01, above 1"),
        ("ece", -0.01, "ece is -0.01, below 0"),
        ("accuracy", 1.2, "accuracy is 1.2, above 1"),
        ("accuracy", 0.8012345, "not a share of n_test"),
        ("tv_hmc", 1.5, "tv_hmc is 1.5, above 1"),
        ("fit_s", -1.0, "fit_s is -1, below 0"),
        ("predict_s", math.nan, "predict_s is missing"),
        ("n_samples", 0.0, "n_samples is 0, below 1"),
        ("n_samples", 2.5, "not a whole number"),
        ("n_test", 100.0, "n_test of vehicle is 100, where it is 254"),
        ("seed", -1, "seed is -1, below 0"),
        ("seed", 7, "lacks seed 0"),
        ("status", "finished", "not one of 'done', 'skipped'"),
        ("status", "failed", "reason is empty"),
        ("kind", "regression", "vehicle is of kind classification"),
        ("task", "vehicles", "there is no task 'vehicles'"),
        ("task", "=cmd()", "which does not fit"),
        ("method", "<script>", "which does not fit"),
        ("reason", "a\nb", "line break"),
        ("suite_version", "0", "suite versions are mixed"),
        ("dataset_sha256", "0" * 64, "dataset_sha256 is not that of vehicle"),
        ("dataset_sha256", "f00", "which does not fit"),
        ("dataset_matches", 0.0, "dataset_matches is false"),
        ("starts_from_map", -1000.0, "starts_from_map is -1000, not one of True, False"),
        ("starts_from_map", "maybe", "starts_from_map is 'maybe', not one of"),
        ("gradients", 0.0, "gradients is not grad_evals + 2 hvp_evals + energy_evals / 3"),
    ],
)
def test_each_mistake_is_named(column, value, words):
    assert words in change(column, value)


@pytest.mark.parametrize("value", [True, False, 1.0, 0.0, "False", None])
def test_whether_a_method_starts_from_the_map_may_be_told_in_any_way(value):
    assert change("starts_from_map", value, n=6) == ""


def test_a_regressions_density_may_have_a_negative_nll_but_no_other_range():
    assert submitted()["nll"].min() < 0
    assert "coverage90 is 1.5, above 1" in change("coverage90", 1.5, CURVE)
    assert "rmse is -1, below 0" in change("rmse", -1.0, CURVE)


def test_all_rows_of_another_suite_are_told_to_run_again():
    text = said(submitted().assign(suite_version="2"))
    assert "suite_version is '2'" in text
    assert "run again with the present code" in text


def test_a_missing_column_is_named_with_the_one_that_it_may_be():
    text = said(submitted().rename(columns={"accuracy": "acuracy"}))
    assert "accuracy is missing" in text
    assert "is it the column 'acuracy'? Rename it" in text
    assert "method is missing" in said(submitted().drop(columns="method"))


def test_duplicates_are_found_here_and_in_the_repository(tmp_path):
    rows = submitted()
    assert "comes 2 times" in said(pd.concat([rows, rows.iloc[:1]], ignore_index=True))
    assert "the leaderboard has 6 of these rows already, in results/quick" in said(rows.assign(method="swag"))
    first, second = tmp_path / "a.parquet", tmp_path / "b.csv"
    rows.to_parquet(first)
    rows.to_csv(second, index=False)
    good, text = check([first, second], RUNS, RESULTS)
    assert not good
    assert "6 of these rows already, in results/" in text
    assert "a.parquet (given before)" in text


def test_all_problems_are_listed_at_once_with_their_rows(tmp_path):
    rows = submitted()
    rows.loc[0, "ece"], rows.loc[4, "ece"], rows.loc[5, "fit_s"] = 3.0, 4.0, -2.0
    rows.to_csv(tmp_path / "rows.csv", index=False)
    good, text = check([tmp_path / "rows.csv", tmp_path / "none.csv"], RUNS, RESULTS)
    assert not good
    assert "rows 1, 5: ece is 3, above 1" in text
    assert "row 6: fit_s is -2, below 0" in text
    assert "none.csv: there is no such file" in text


def test_a_run_that_was_skipped_needs_no_score(tmp_path):
    rows = submitted()
    rows.loc[rows["task"] == CURVE, rows.columns.difference(["task", "method", "settings", "seed"])] = np.nan
    rows[["status", "reason"]] = rows[["status", "reason"]].fillna("skipped")
    text = ["suite_version", "kind", "device", "backend", "versions", "commit", "dataset_sha256", "dataset_source"]
    rows[text] = rows[text].fillna("")
    assert said(rows) == ""


NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["", "nan", "1e999", "-inf", "0x1", "１", "done", "[1]", "{", "\x00", "é", 2**70, -(2**63)]),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([*row_schema()["properties"], "nll", "ece", "x"]), NASTY),
        min_size=1, max_size=6,
    ),
    st.lists(st.sampled_from(list(QUICK.columns)), max_size=4),
)  # fmt: skip
def test_mutated_rows_never_give_a_traceback(tmp_path_factory, changes, dropped):
    rows = submitted().astype(object)
    for row, column, value in changes:
        if column not in rows:
            rows[column] = None
        rows.at[row, column] = value
    rows = rows.drop(columns=dropped)
    assert isinstance(problems_of(rows, RUNS), list)
    path = tmp_path_factory.mktemp("mutated") / "rows.csv"
    rows.to_csv(path, index=False, escapechar="\\", errors="replace")
    good, text = check([path], RUNS, RESULTS)
    assert good or text


def test_the_command_tells_good_rows_from_bad_by_its_exit_code(tmp_path, capsys):
    from export import main

    results = tmp_path / "results"
    (results / "quick").mkdir(parents=True)
    QUICK.to_parquet(results / "quick" / "rows.parquet")
    submitted().to_csv(tmp_path / "good.csv", index=False)
    submitted().assign(ece=7.0).to_csv(tmp_path / "bad.csv", index=False)
    assert main(["--results", str(results), "--check", str(tmp_path / "good.csv")]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    assert main(["--results", str(results), "--check", str(tmp_path / "good.csv"), str(tmp_path / "bad.csv")]) == 1
    assert "ece is 7, above 1" in capsys.readouterr().out
    assert [path.name for path in results.iterdir()] == ["quick"]


def test_the_command_ends_in_one_line_where_it_cannot_write(tmp_path, capsys):
    from export import main

    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert main(["images", "-o", str(in_the_way / "leaderboard")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1

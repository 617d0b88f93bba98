"""The gate on rows: quiet on clean repetitions, loud on planted changes, and clear about what cannot be compared."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmark_utils.gate import baseline, definitions, judge, memory, step_size
from benchmark_utils.gate.bootstrap import mean_interval
from benchmark_utils.gate.calibration import calibration_checks
from benchmark_utils.gate.check import Check, exit_code, judged
from benchmark_utils.gate.cost import cost_checks
from benchmark_utils.gate.pairs import GateError, compared
from benchmark_utils.report.rows import write_rows

BASELINE = Path(__file__).resolve().parents[2] / "results" / "baseline" / "quick"


@pytest.fixture(scope="module")
def every_row() -> pd.DataFrame:
    return baseline.read(BASELINE)[0]


@pytest.fixture(scope="module")
def rows(every_row) -> pd.DataFrame:
    """Those of three methods: enough for what is asked here."""
    return every_row[every_row["method"].isin(["walk", "metricbnn", "map"])].reset_index(drop=True)


def checks_of(rows: pd.DataFrame, fresh: pd.DataFrame, **options: bool) -> list[Check]:
    both, found = compared(rows, fresh, **options)
    return found + calibration_checks(both) + cost_checks(both)


def failures(checks: list[Check]) -> set[str]:
    return {check.what for check in checks if check.verdict == "fail"}


def of(rows: pd.DataFrame, method: str, task: str | None = None) -> pd.Series:
    chosen = rows["method"] == method
    return chosen & (rows["task"] == task) if task else chosen


def changed(rows: pd.DataFrame, where: pd.Series, **changes: float) -> pd.DataFrame:
    fresh = rows.copy()
    for column, change in changes.items():
        fresh.loc[where, column] = fresh.loc[where, column] + change
    return fresh


def test_the_same_rows_pass_every_check(every_row):
    checks = checks_of(every_row, every_row)
    assert {check.verdict for check in checks} == {"pass"}
    assert len(checks) > 300
    assert exit_code(checks) == 0


def test_ten_clean_repetitions_are_quiet(every_row):
    # Real runs with other sampling seeds, see benchmark_utils/gate/repeats.py.
    repeats = pd.read_parquet(BASELINE / "repeats.parquet")
    numbers = sorted(set(repeats["repetition"]))
    assert len(numbers) == 10
    for number in numbers:
        checks = checks_of(every_row, repeats[repeats["repetition"] == number], partial=True)
        assert len(checks) > 60
        assert failures(checks) == set()
        assert sum(check.verdict == "pass" for check in checks) > 0.8 * len(checks)


def test_one_task_does_not_drown_in_the_mean(rows):
    fresh = changed(rows, of(rows, "walk", "breast"), nll=0.03)
    assert failures(checks_of(rows, fresh)) == {"nll: walk on breast"}


def test_a_small_change_everywhere_is_seen_over_all_tasks(rows):
    fresh = changed(rows, of(rows, "walk"), ece=0.018)
    assert failures(checks_of(rows, fresh)) == {"ece: walk, all 4 tasks"}


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_the_energy_ratio_may_neither_rise_nor_fall(rows, factor):
    fresh = rows.copy()
    fresh.loc[of(rows, "walk", "vehicle"), "energy_ratio"] *= factor
    assert failures(checks_of(rows, fresh)) == {"energy_ratio: walk on vehicle"}


def test_an_improvement_passes_with_a_word(rows):
    checks = checks_of(rows, changed(rows, of(rows, "walk", "breast"), nll=-0.05))
    (better,) = [check for check in checks if check.remark.startswith("better")]
    assert (better.what, better.verdict) == ("nll: walk on breast", "pass")


def test_seeds_that_disagree_are_inconclusive(rows):
    where = of(rows, "walk", "breast") & (rows["seed"] == 0)
    checks = checks_of(rows, changed(rows, where, nll=0.05))
    assert {check.what for check in checks if check.verdict == "inconclusive"} == {"nll: walk on breast"}
    assert exit_code(checks) == 0


def test_one_seed_alone_never_fails(rows):
    one = rows[rows["seed"] == 0]
    checks = checks_of(one, changed(one, of(one, "walk", "breast"), nll=1.0))
    assert "nll: walk on breast" not in failures(checks)
    assert any(check.verdict == "inconclusive" and "run more seeds" in check.remark for check in checks)


def test_more_gradients_and_memory_fail(rows):
    fresh = rows.copy()
    fresh.loc[of(rows, "walk", "banana"), "gradients"] *= 1.5
    fresh.loc[of(rows, "map", "banana"), "peak_rise_mib"] += 200
    assert failures(checks_of(rows, fresh)) == {"gradients: walk on banana", "peak_rise_mib: map on banana"}


def test_missing_failed_and_new_runs_are_told(rows):
    gone = rows[~of(rows, "walk", "breast")]
    assert [line.split(" on ")[0] for line in failures(checks_of(rows, gone))] == ["walk"]
    assert failures(checks_of(rows, gone, partial=True)) == set()
    fresh = rows.copy()
    fresh.loc[of(rows, "walk", "breast"), ["status", "reason"]] = ["diverged", "the energy is infinite"]
    (failed,) = [check for check in checks_of(rows, fresh) if check.verdict == "fail"]
    assert failed.remark == "diverged: the energy is infinite"
    fresh.loc[of(rows, "walk", "breast"), ["status", "reason"]] = ["skipped", "not today"]
    assert failures(checks_of(rows, fresh))
    notes = [check for check in checks_of(gone, rows) if check.verdict == "note"]
    assert [check.what for check in notes] == ["walk on breast, seed 0, 1, 2"]


def test_a_value_that_is_gone_fails(rows):
    fresh = rows.copy()
    fresh.loc[of(rows, "walk", "breast"), "energy_ratio"] = np.nan
    assert failures(checks_of(rows, fresh)) == {"energy_ratio: walk on breast"}
    fresh = rows.copy()
    fresh.loc[of(rows, "walk", "breast"), "gradients"] = np.nan
    assert failures(checks_of(rows, fresh)) == {"gradients: walk on breast"}


@pytest.mark.parametrize("column", ["ece", "energy_ratio", "tv_hmc", "gradients"])
def test_a_column_that_is_gone_fails_for_every_method_that_had_it(rows, column):
    had = rows[(rows["status"] == "done") & rows[column].notna()]
    failed = failures(checks_of(rows, rows.drop(columns=column)))
    assert len(failed) >= len(had[["task", "method", "settings"]].drop_duplicates()) > 0
    assert all(what.startswith(f"{column}: ") for what in failed)


def test_a_step_size_or_memory_that_is_no_longer_measured_fails():
    before = {"first step size": 0.1, "settled step size": 0.2}
    found = step_size.step_size_checks(before, {"first step size": 0.1})
    assert [check.verdict for check in found] == ["pass", "fail"]
    lost = {"first step size": 0.1, "settled step size": math.nan}
    assert step_size.step_size_checks(before, lost)[1].verdict == "fail"
    assert [check.verdict for check in memory.memory_checks({"a": 1.0, "b": 2.0}, {"a": 1.0})] == ["fail", "pass"]


@pytest.mark.parametrize("column", ["suite_version", "dataset_sha256"])
def test_other_suites_and_data_cannot_be_compared(rows, column):
    fresh = rows.copy()
    fresh.loc[(rows["task"] == "breast") & (rows["status"] == "done"), column] = "other"
    checks = checks_of(rows, changed(fresh, rows["task"] == "breast", nll=1.0))
    assert exit_code(checks) == 2  # what cannot be compared does not fail as well
    (told,) = [check for check in checks if check.verdict == "incomparable"]
    assert "update the baseline" in told.remark


def test_a_metric_of_another_id_is_left_out(rows):
    measured = baseline.read(BASELINE)[1]
    other = {name: dict(entry) for name, entry in measured.definitions.items()}
    other["classification ece"]["id"] = "ece-10ew-top1/1"
    fresh = changed(rows, rows["kind"] == "classification", ece=0.5)
    now = baseline.Measured(other)
    checks = judge.compare(rows, measured, fresh, now)
    assert exit_code(checks) == 2
    assert not any(check.what.startswith("ece:") for check in checks)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(2, 3, "fail"), (-3, -2, "fail"), (0, 2, "inconclusive"), (-0.5, 1, "pass")]
)
def test_the_verdict_is_that_of_the_interval(low, high, verdict):
    assert judged(low, high, 1, -1) == verdict


def test_intervals_of_means_cover():
    generator = np.random.default_rng(1)
    assert mean_interval([np.array([3.0, 1.0, 2.0])]) == (1.0, 3.0)
    hits = 0
    for _ in range(200):
        tasks = [offset + generator.normal(size=5) for offset in generator.normal(size=8)]
        low, high = mean_interval(tasks)
        hits += low <= 0 <= high
    assert 170 <= hits <= 199  # of 95 %, a little less with eight tasks


def test_definitions_are_those_of_the_baseline():
    stored = baseline.read(BASELINE)[1].definitions
    assert {check.verdict for check in definitions.definition_checks(stored, definitions.values())} == {"pass"}


def test_the_update_writes_everything_and_says_why(tmp_path, rows):
    measured = baseline.Measured(definitions.values(), {"first step size": 0.1})
    baseline.write(tmp_path, rows, measured, "the first  one", [])
    again, known = baseline.read(tmp_path)
    assert known == measured
    pd.testing.assert_frame_equal(again, rows)
    change = Check("calibration", "nll: walk", "fail", 0.2, 0.3)
    baseline.write(tmp_path, rows, measured, "a better walk", [change])
    text = (tmp_path / "HISTORY.md").read_text()
    assert text.index("a better walk") < text.index("nll: walk: 0.2 to 0.3") < text.index("the first one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["HISTORY.md", "baseline.json", "rows.parquet"]


def test_the_update_refuses_no_reason_and_failed_runs(tmp_path, rows):
    write_rows(rows, tmp_path / "rows.parquet")
    with pytest.raises(GateError, match="say why"):
        baseline.checked(tmp_path / "rows.parquet", "  ")
    fresh = rows.copy()
    fresh.loc[3, ["status", "reason"]] = ["failed", "no luck"]
    write_rows(fresh, tmp_path / "rows.parquet")
    with pytest.raises(GateError, match=r"1 runs that failed.*no luck"):
        baseline.checked(tmp_path / "rows.parquet", "why not")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "baseline.json").unlink(), "there is no baseline"),
        (lambda folder: (folder / "baseline.json").write_text('{"format"'), "is damaged"),
        (lambda folder: (folder / "baseline.json").write_text('{"format": 9, "rows_sha256": ""}'), "has format 9"),
        (lambda folder: (folder / "rows.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda folder: (folder / "rows.parquet").unlink(), "there is no"),
        (lambda folder: write_rows(pd.DataFrame({"seed": [1]}), folder / "rows.parquet"), "has no column task"),
        (
            lambda folder: write_rows(pd.read_parquet(folder / "rows.parquet")[:9], folder / "rows.parquet"),
            "written with other rows",
        ),
        (
            lambda folder: write_rows(
                pd.concat([pd.read_parquet(folder / "rows.parquet")] * 2, ignore_index=True), folder / "rows.parquet"
            ),
            "some runs twice",
        ),
    ],
)
def test_a_baseline_that_cannot_be_read_is_refused_in_words(tmp_path, damage, message):
    folder = tmp_path / "baseline"
    shutil.copytree(BASELINE, folder)
    damage(folder)
    with pytest.raises(GateError, match=message):
        judge.checks(folder, BASELINE, Console(quiet=True), measure=False)

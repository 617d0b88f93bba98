"""Which runs, rows and settings the leaderboard takes: the repository's own, and somebody else's that fit them."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmark_utils.leaderboard.board import make_board
from benchmark_utils.leaderboard.check import check
from benchmark_utils.leaderboard.hub import dataset_card, reported
from benchmark_utils.leaderboard.ranks import standing_rows
from benchmark_utils.leaderboard.runs import find_runs
from benchmark_utils.leaderboard.standing import default_settings, stands_for
from benchmark_utils.leaderboard.texts import leaderboard_markdown
from benchmark_utils.report.read_rows import read_rows
from tests.bench.submitted_rows import RESULTS


@pytest.fixture(scope="module")
def runs() -> dict[str, pd.DataFrame]:
    """Real rows, tables and images."""
    return {name: read_rows(RESULTS / name / "rows.parquet") for name in ("quick", "images")}


def test_settings_are_chosen_without_looking_at_scores():
    files = default_settings()
    assert files["metricbnn"]["temperature"] == "1.0"
    settings = ["density=kde,temperature=0.5", "density=kde,temperature=1.0"]
    assert stands_for("metricbnn", settings, files) == settings[1]
    structures = [f"predictive=glm,prior=fixed,structure={name}" for name in ("diag", "last_layer", "kron")]
    assert stands_for("laplace", structures, files) == structures[2]
    assert stands_for("laplace", ["predictive=sampled,prior=fixed,structure=kron"], files) is None
    assert stands_for("somebody-elses", ["b=1", "a=1"], files) == "a=1"


def test_a_method_from_a_run_of_its_own_is_ranked_with_the_others_over_the_same_seeds(runs):
    mine = runs["quick"][runs["quick"]["method"] == "map"].assign(method="mine")
    rows = pd.concat([runs["quick"].assign(run="quick"), mine.assign(run="mine")], ignore_index=True)
    chosen = standing_rows(rows)
    assert set(chosen.loc[chosen["method"] == "mine", "task"]) == set(mine["task"])
    lacking = standing_rows(rows[(rows["run"] == "quick") | (rows["seed"] != 1)])
    assert "mine" not in set(lacking["method"])


def test_somebody_elses_run_does_not_decide_a_tasks_seeds(runs):
    own = runs["quick"][(runs["quick"]["task"] == "vehicle") & (runs["quick"]["settings"] == "")]
    # More methods, and one seed more.
    mine = pd.concat([own, own[own["method"] == "map"].assign(method="mine"), own.iloc[:1].assign(seed=9)])
    chosen = standing_rows(pd.concat([mine.assign(run="mine"), own.assign(run="quick")], ignore_index=True))
    assert set(chosen["seed"]) == set(own["seed"])
    assert set(chosen["method"]) == {*own["method"], "mine"}
    assert set(chosen.loc[chosen["method"] != "mine", "run"]) == {"quick"}


def test_runs_of_another_suite_or_torn_are_left_out_with_the_reason(tmp_path, runs):
    for name, rows in {"a": runs["images"], "old": runs["images"].assign(suite_version="0")}.items():
        (tmp_path / name).mkdir()
        rows.to_parquet(tmp_path / name / "rows.parquet")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "rows.parquet").write_bytes((tmp_path / "a" / "rows.parquet").read_bytes()[:5000])
    found, notes = find_runs(tmp_path)
    assert list(found) == ["a"]
    assert "suite version 0, not 1" in notes[0]
    assert "cannot be read" in notes[1]
    with pytest.raises(ValueError, match="suite version 0"):
        find_runs(tmp_path, ["old"])
    with pytest.raises(ValueError, match="no rows of none"):
        find_runs(tmp_path, ["none"])


def test_somebody_elses_run_must_fit_the_repositorys_own(tmp_path, runs):
    rows = runs["images"]
    other = rows[rows["method"] == "map"].assign(method="mine")
    parts = {"images": rows, "again": rows, "few": other[other["seed"] > 0], "good": other, "good-too": other}
    for name, part in parts.items():
        (tmp_path / name).mkdir()
        part.to_parquet(tmp_path / name / "rows.parquet")
    found, notes = find_runs(tmp_path)
    assert list(found) == ["images", "good"]
    assert [note.split(" is left out")[0] for note in notes] == ["again", "few", "good-too"]
    assert "in results/images" in notes[0]
    assert "lacks seed 0" in notes[1]
    assert "in results/good" in notes[2]
    assert list(find_runs(tmp_path, ["good"])[0]) == ["good"]
    with pytest.raises(ValueError, match="the leaderboard has"):
        find_runs(tmp_path, ["again"])
    good, said = check([tmp_path / name / "rows.parquet" for name in ("images", "good")], found, tmp_path)
    assert good, said
    good, said = check([tmp_path / "again" / "rows.parquet"], found, tmp_path)
    assert not good
    assert "in results/images" in said


def test_the_hub_gets_the_settings_of_the_ranks_and_only_if_all_seeds_are_done(runs):
    rows = runs["quick"][runs["quick"]["task"] == "vehicle"].copy()
    shown = {(entry["method"], entry["settings"]) for entry, *_ in reported(make_board({"quick": rows}))}
    (laplace,) = [settings for method, settings in shown if method == "laplace"]
    assert laplace in set(standing_rows(rows.assign(run="quick")).query("method == 'laplace'")["settings"])
    for which in (rows["settings"] == laplace, (rows["settings"] == laplace) & (rows["seed"] == 0)):
        failed = rows.copy()
        failed.loc[which & (rows["method"] == "laplace"), ["status", "reason"]] = ["failed", "no luck"]
        board = make_board({"quick": failed})
        assert {(entry["method"], entry["settings"]) for entry, *_ in reported(board)} == shown - {("laplace", laplace)}
    assert "headline.png" in dataset_card(board, "somebody/board")


def test_what_somebody_wrote_is_no_markdown(runs):
    rows = runs["quick"][runs["quick"]["task"] == "vehicle"].copy()
    rows.loc[rows["method"] == "swag", ["status", "reason"]] = ["failed", "<img src=x> | [a](b) `c`"]
    rows = rows.assign(commit="<b>")
    board = make_board({"my*run": rows})
    text = leaderboard_markdown(board)
    assert r"(\<img src=x> \| \[a](b) \`c\`)" in text
    assert r"[my\*run](../my%2Arun/rows.parquet)" in text
    assert r"of commit \<b>, in" in dataset_card(board, "somebody/board")

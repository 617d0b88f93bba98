import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from benchmark_utils.leaderboard.headline import draw_headline, headline_markdown, make_headline
from benchmark_utils.leaderboard.quantities import metric_quantities
from benchmark_utils.rows.provenance import ROOT

COLUMNS = ("nll", "ece", "crps")


def a_run():
    """Three data sets, two seeds: `good` lowers the NLL by 0.1 in three times the MAP's time, `own` needs no MAP."""
    rows = []
    for i, task in enumerate(("a", "b", "c")):
        for seed in (0, 1):
            for method, nll, fit_s, starts in (
                ("map", 0.5, 0.0, math.nan),
                ("good", 0.4, 2.0 * (i + 1), 1.0),
                ("own", 0.9, 5.0 * (i + 1), 0.0),
            ):
                rows.append(
                    {
                        "suite_version": "1",
                        "task": task,
                        "kind": "classification",
                        "method": method,
                        "settings": "",
                        "seed": seed,
                        "status": "done",
                        "nll": nll + 0.01 * seed + i,
                        "ece": nll / 10,
                        "crps": float("nan"),
                        "map_s": float(i + 1),
                        "fit_s": fit_s,
                        "starts_from_map": starts,
                        "dataset_sha256": task * 64,
                    }
                )
    return pd.DataFrame(rows)


def the_headline(rows):
    return make_headline({"uci": rows}, metric_quantities(COLUMNS))


def test_ranks_gains_and_times_are_those_of_a_run_with_known_ones():
    headline = the_headline(a_run())
    ranks = {each["method"]: each["mean_rank"] for each in headline.ranks["classification", "nll"]["methods"]}
    assert ranks == {"good": 1.0, "map": 2.0, "own": 3.0}
    assert headline.gain["classification"].to_dict() == pytest.approx({"good": -0.1, "map": 0.0, "own": 0.4})
    assert headline.time["classification"].to_dict() == pytest.approx(
        {"map": 1.0, "good": 3.0, "own": 5.0}
    )  # own pays for no MAP


def test_the_table_has_a_line_a_method_and_the_critical_difference():
    lines = headline_markdown(the_headline(a_run())).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["good", "map", "own", "*critical difference*"]
    assert "| good | 1.0 | 1.0 | -0.100 | 3.0 |" in lines


def test_a_method_that_diverged_on_a_seed_ranks_last_and_shows_what_finished():
    rows = a_run()
    lost = (rows["method"] == "good") & (rows["task"] == "a") & (rows["seed"] == 1)
    rows.loc[lost, ["status", "nll", "ece"]] = ["diverged", float("nan"), float("nan")]
    headline = the_headline(rows)
    ranks = {each["method"]: each["mean_rank"] for each in headline.ranks["classification", "nll"]["methods"]}
    assert ranks["good"] == pytest.approx((3 + 1 + 1) / 3)


def test_a_method_that_failed_everywhere_is_ranked_and_has_no_point():
    rows = a_run()
    lost = rows["method"] == "own"
    rows.loc[lost, ["status", "nll", "ece", "fit_s"]] = ["failed", float("nan"), float("nan"), float("nan")]
    headline = the_headline(rows)
    assert "| own | 3.0 | 3.0 | - | - |" in headline_markdown(headline)
    figure = draw_headline(headline)
    assert [text.get_text() for text in figure.axes[0].texts] == ["good", "map", "critical\ndifference"]
    plt.close(figure)


def test_gains_and_times_are_of_the_ranked_tasks_only():
    rows = a_run()
    skipped = (rows["method"] == "own") & (rows["task"] == "c")
    rows.loc[skipped, "status"] = "skipped"
    headline = the_headline(rows)
    ranked = headline.ranks["classification", "nll"]
    assert set(ranked["tasks"]) == {"a", "b"} or "own" in ranked["left_out"]["methods"]
    assert ("left out: c" in headline_markdown(headline)) == ("c" not in ranked["tasks"])
    assert ("left out: own" in headline_markdown(headline)) == ("own" in ranked["left_out"]["methods"])


def test_the_figure_has_a_panel_a_kind():
    figure = draw_headline(the_headline(a_run()))
    assert [axis.get_title() for axis in figure.axes] == ["classification, 3 data sets of the run uci"]
    plt.close(figure)


def test_it_says_which_run_it_is_of_and_that_other_ranks_are_of_all():
    rows, metrics = a_run(), metric_quantities(COLUMNS)
    assert "Ranks over the data sets of the run `uci`. " in headline_markdown(the_headline(rows))
    both = make_headline({"quick": rows, "uci": rows, "mine": rows}, metrics)
    assert "Ranks over the data sets of the run `uci` alone; those of ranks.png are over all runs. " in (
        headline_markdown(both)
    )
    assert make_headline({"quick": rows, "mine": rows}, metrics).run == "quick"


def test_without_a_run_that_has_ranks_there_is_no_headline():
    assert make_headline({"images": a_run()}, metric_quantities(COLUMNS)) is None
    assert the_headline(a_run().query("task == 'a'")) is None


def test_readme_shows_the_table_that_the_leaderboard_has():
    headline = (ROOT / "results/leaderboard/headline.md").read_text(encoding="utf-8").strip()
    assert headline in (ROOT / "README.md").read_text(encoding="utf-8")

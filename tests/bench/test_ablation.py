"""Ablations: which runs belong to which, what is put beside the default, and what comes out."""

import pandas as pd
import pytest
from plots import ablation as plot

from benchmark_utils.methods.changed_settings import ChangedSettings
from benchmark_utils.report.ablation import ablation_markdown, ablation_table, ablations, without_variants

DEFAULTS = {"walk": {"drift": "persistent", "steps": 290}}


def row(settings="", seed=0, method="walk", task="toy", **values):
    common = {"task": task, "method": method, "settings": settings, "seed": seed, "status": "done", "reason": ""}
    scores = {"nll": 0.5, "tv_hmc": 0.02, "energy_ratio": 0.9, "gradients": 3000.0, "fit_s": 2.0, "nll_hmc": 0.45}
    return common | scores | {"dataset_matches": 1.0} | values


def frame(*rows):
    return pd.DataFrame(list(rows))


@pytest.fixture
def rows():
    """Two seeds; the literal drift diverges for the second, and one run changes two settings at once."""
    return frame(
        row(nll=0.50), row(seed=1, nll=0.70),
        row("drift=literal", nll=0.60, fit_s=3.0),
        row("drift=literal", seed=1, nll=None, fit_s=None, status="diverged", reason="too far"),
        row("steps=60", nll=0.52), row("steps=60", seed=1, nll=0.76),
        row("steps=580", nll=0.49), row("steps=580", seed=1, nll=0.72),
        row("drift=literal,steps=60", nll=0.9),
        row(method="map"), row("structure=kron", method="laplace"),
    )  # fmt: skip


def test_a_run_belongs_to_the_one_setting_that_was_changed(rows):
    found = {one.name: one for one in ablations(rows, DEFAULTS)}
    assert set(found) == {"walk_drift", "walk_steps"}
    assert set(found["walk_drift"].rows["settings"]) == {"", "drift=literal"}
    assert found["walk_drift"].values == ["persistent (default)", "literal"]
    # Numbers stand by size, the default among them.
    assert found["walk_steps"].values == ["60", "290 (default)", "580"]


def test_without_the_solvers_the_default_is_called_so_and_comes_first(rows):
    assert {one.factor: one.values for one in ablations(rows)} == {
        "drift": ["default", "literal"],
        "steps": ["default", "60", "580"],
    }


def test_differences_are_taken_seed_by_seed(rows):
    steps = next(one for one in ablations(rows, DEFAULTS) if one.factor == "steps")
    headings, lines = ablation_table(steps)
    assert headings[:5] == ["task", "steps", "seeds", "NLL", "NLL − default's"]
    # 0.02 and 0.06, though the seeds themselves lie 0.2 apart.
    assert lines[0][:5] == ["toy", "60", "2", "0.640 ± 0.170", "+0.040 ± 0.028"]
    assert lines[1][:5] == ["toy", "290 (default)", "2", "0.600 ± 0.141", "-"]
    assert lines[2][4] == "+0.005 ± 0.021"
    assert lines[3][:4] == ["toy", "(long HMC reference)", "2", "0.450 ± 0.000"]
    assert lines[0][-1] == "1.00 ± 0.00"


def test_a_run_that_diverged_is_in_the_table_with_its_reason(rows):
    text = ablation_markdown(ablations(rows, DEFAULTS), "Ablations")
    assert "| toy | literal | 1 of 2 | 0.600 | +0.100 |" in text
    assert r"- walk\[literal]: diverged (seed 1): too far" in text
    assert text.count("\n## ") == 2
    assert "(ablation_walk_drift.png)" in text


def test_a_default_that_failed_leaves_no_difference():
    found = ablations(frame(row(status="failed", nll=None), row("steps=60")))
    _, lines = ablation_table(found[0])
    assert lines[1][:4] == ["toy", "60", "1", "0.500"]
    assert "nll_difference" not in found[0].rows.dropna(axis=1, how="all")


def test_a_task_without_the_variant_is_left_out():
    found = ablations(frame(row(), row("steps=60"), row(task="other")))
    assert set(found[0].rows["task"]) == {"toy"}


def test_targets_are_those_of_the_defaults(rows):
    found = without_variants(rows)
    assert list(zip(found["method"], found["settings"], strict=True)) == [
        ("walk", ""), ("walk", ""), ("map", ""), ("laplace", "structure=kron"),
    ]  # fmt: skip


def test_there_is_no_report_without_variants_or_without_their_default():
    assert ablation_markdown(ablations(frame(row())), "x") == ""
    assert ablations(frame(row("drift=a"), row("drift=b"))) == []


def test_the_figure_shows_each_value_and_crosses_for_what_did_not_finish(rows):
    lost = rows[rows["settings"] == "drift=literal"].assign(settings="drift=wild", status="diverged")
    rows = pd.concat([rows, lost], ignore_index=True)
    drift = next(one for one in ablations(rows, DEFAULTS) if one.factor == "drift")
    figure = plot.draw(drift)
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["persistent (default)", "literal", "wild"]
    difference = [line for line in first.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in difference] == [pytest.approx(0.1)]
    crosses = [line for line in first.lines if line.get_marker() == "x"]
    assert len(crosses) == 1
    hollow = [line for line in first.lines if line.get_markerfacecolor() == "white"]
    assert [float(line.get_ydata()[0]) for line in hollow] == [pytest.approx(1.0)]  # literal, of which one seed is lost
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "toy", "some seeds did not finish", "no seed finished"
    ]  # fmt: skip


def test_the_figure_of_runs_that_all_finished_says_nothing_of_others(rows):
    steps = next(one for one in ablations(rows, DEFAULTS) if one.factor == "steps")
    assert [text.get_text() for text in plot.draw(steps).legends[0].get_texts()] == ["toy"]


def test_no_marker_stands_at_the_edge_of_a_logarithmic_axis():
    found = ablations(frame(row(), row("rank=4", nll=1.5), row("rank=8", nll=0.45)))
    axis = plot.draw(found[0]).axes[0]
    assert axis.get_xscale() == "symlog"
    transform = axis.transData + axis.transAxes.inverted()
    places = [transform.transform((line.get_xdata()[0], 0.0))[0] for line in axis.lines if line.get_marker() == "o"]
    assert len(places) == 2
    assert all(0.05 < place < 0.95 for place in places)


def test_solvers_are_called_by_what_was_changed():
    class Walk(ChangedSettings):
        name, parameters = "walk", {"drift": ["persistent"], "steps": ["settled", 60], "metropolis": [False]}

        def __init__(self, **changes):
            self._parameters = {name: values[0] for name, values in self.parameters.items()} | changes

    assert str(Walk()) == "walk"
    assert str(Walk(steps="settled")) == "walk"
    assert str(Walk(steps=60, drift="literal")) == "walk[drift=literal,steps=60]"

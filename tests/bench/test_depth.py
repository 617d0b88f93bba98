"""Depth: exponents that are known, what belongs to a table, and the figure."""

import math

import numpy as np
import pandas as pd
import pytest
from plots import depth as plot
from scipy.stats import linregress

from benchmark_utils.report.depth import MEASURES, depth_markdown, depth_rows, depth_table, growth

SECONDS = next(measure for measure in MEASURES if measure.name == "fit_s")


def make_rows(exponents, *, depths=(1, 2, 4, 8), method="walk", settings="", price=2.0, **values):
    """Rows whose seconds grow as layers^b, with one b a seed."""
    common = {"method": method, "settings": settings, "status": "done", "reason": "", "nll": 0.3, "map_s": 1.0}
    common |= {"gradients": 900.0, "map_grad_evals": 100.0, "peak_rise_mib": 0.0, "dataset_matches": 1.0} | values
    return pd.DataFrame(
        [
            common | {"task": f"depth-{depth}", "seed": seed, "fit_s": price * depth**b}
            for seed, b in enumerate(exponents)
            for depth in depths
        ]
    )


def test_the_exponent_is_that_of_the_power_with_its_standard_error_over_seeds():
    found = growth(depth_rows(make_rows([1.4, 1.5, 1.9])), "fit_s")
    assert found.exponent == pytest.approx(1.6)
    assert found.error == pytest.approx(pd.Series([1.4, 1.5, 1.9]).std() / math.sqrt(3))
    assert (found.depths, found.n_seeds) == ((1, 2, 4, 8), 3)
    assert str(found) == "1.60 ± 0.15 (1, 2, 4, 8)"


def test_of_one_seed_the_standard_error_is_that_of_the_slope_from_its_residuals():
    rows = make_rows([0.5], depths=(1, 2, 3, 5, 8))
    assert str(growth(depth_rows(rows), "fit_s")) == "0.50 ± 0.00 (1, 2, 3, 5, 8)"
    rows["fit_s"] *= [1.1, 0.9, 1.2, 1.0, 0.8]
    found = growth(depth_rows(rows), "fit_s")
    expected = linregress(np.log([1, 2, 3, 5, 8]), np.log(rows["fit_s"]))
    assert (found.exponent, found.error) == (pytest.approx(expected.slope), pytest.approx(expected.stderr))


def test_one_seed_at_three_depths_has_no_standard_error():
    assert str(growth(depth_rows(make_rows([0.5], depths=(1, 2, 3))), "fit_s")) == "0.50 (1 to 3)"


def test_a_call_that_computes_nothing_is_no_cost():
    rows = depth_rows(make_rows([0.0], method="map", price=1e-6, gradients=0.0, peak_rise_mib=0.004))
    assert set(rows["fit_s"]) == set(rows["peak_rise_mib"]) == {0.0}
    assert growth(rows, "fit_s") is None
    assert (rows["total_s"] >= 1.0).all()
    walk = make_rows([1.0])
    figure = plot.draw(pd.concat([rows, depth_rows(walk)], ignore_index=True))
    seconds = next(axis for axis in figure.axes if axis.get_title() == SECONDS.heading)
    assert len(seconds.containers) == 1
    assert seconds.get_ylim()[0] > 1.0


def test_two_depths_are_not_enough_and_no_cost_has_no_exponent():
    assert growth(depth_rows(make_rows([1.0, 1.0], depths=(1, 2))), "fit_s") is None
    assert growth(depth_rows(make_rows([1.0, 1.0])), "peak_rise_mib") is None


def test_depths_that_a_seed_lacks_do_not_count():
    rows = depth_rows(make_rows([1.0, 2.0]))
    without = rows[~((rows["seed"] == 0) & (rows["depth"] == 4))]
    found = growth(without, "fit_s")
    assert found.depths == (1, 2, 8)
    assert found.exponent == pytest.approx(1.5)


def test_other_tasks_and_methods_that_need_no_map():
    rows = pd.concat(
        [
            make_rows([1.0]),
            make_rows([1.0], method="vi", starts_from_map=0.0),
            make_rows([1.0]).assign(task="banana"),
            make_rows([1.0]).assign(task="depth-1-wide"),
        ],
        ignore_index=True,
    )
    found = depth_rows(rows)
    assert sorted(found["depth"].unique()) == [1, 2, 4, 8]
    assert len(found) == 8
    assert found.groupby("label")["total_s"].min().to_dict() == {"vi": 2.0, "walk": 3.0}
    assert found.groupby("label")["total_gradients"].min().to_dict() == {"vi": 900.0, "walk": 1000.0}


def test_a_line_a_method_sorted_and_a_column_a_depth():
    rows = pd.concat(
        [make_rows([1.0], price=9.0, method="hmc"), make_rows([0.5], settings="steps=60"), make_rows([1.0])],
        ignore_index=True,
    )
    headings, lines = depth_table(depth_rows(rows), SECONDS)
    assert headings == ["method", "1", "2", "4", "8", "exponent (layers)"]
    assert [line[0] for line in lines] == ["walk[steps=60]", "walk", "hmc"]
    assert lines[1] == ["walk", "2.0", "4.0", "8.0", "16", "1.00 ± 0.00 (1, 2, 4, 8)"]


def test_the_report_has_a_section_a_measure_and_says_what_failed():
    rows = make_rows([1.0, 1.2])
    rows.loc[3, ["status", "reason"]] = ["failed", "out of memory"]
    text = depth_markdown(rows, "Depth")
    assert all(f"## {measure.heading}" in text for measure in MEASURES)
    assert "- depth-8: walk: failed (seed 0): out of memory" in text
    assert "1.10 ± 0.10 (1, 2, 4)" in text
    assert depth_markdown(rows.assign(task="banana"), "Depth") == ""


def test_the_figure_has_a_panel_a_measure_and_a_line_a_method():
    parts = [make_rows([1.0, 1.1]), make_rows([1.5], method="hmc", price=5.0)]
    rows = pd.concat(parts, ignore_index=True).assign(map_s=0.0)
    figure = plot.draw(depth_rows(rows))
    shown = [axis for axis in figure.axes if axis.get_visible()]
    # No memory was added, which a logarithmic axis has no place for.
    assert [axis.get_title() for axis in shown] == [measure.heading for measure in MEASURES[:-1]]
    assert all(len(axis.containers) == 2 for axis in shown)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"walk (1.05 ± 0.05)", "hmc (1.50 ± 0.00)"}

"""Reliability diagrams, ROC curves and curves under shift: what is drawn, and for which tasks."""

from __future__ import annotations

import numpy as np
import pytest
from plots import ood_roc, reliability, shift

from benchmark_utils.report.figures import as_image, legend_labels, panels
from tests.bench.image_rows import frame, image_row, reliability_arrays

LINE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=np.float32)


def test_bars_reach_the_accuracy_and_red_from_there_to_the_confidence():
    bins = reliability_arrays([np.nan, 0.45, 0.9], [np.nan, 0.6, 0.7], [0, 10, 30])
    figure = reliability.draw({"digits": {"map": bins}})
    axis, counts = figure.axes
    width = 1 / 3
    drawn = [(bar.get_x(), bar.get_y(), bar.get_height()) for bar in axis.patches]
    assert np.array(drawn) == pytest.approx(
        np.array([(width, 0, 0.6), (2 * width, 0, 0.7), (width, 0.6, -0.15), (2 * width, 0.7, 0.2)])
    )
    assert [bar.get_height() for bar in counts.patches] == [0, 10, 30]
    assert reliability.ece(bins) == pytest.approx((10 * 0.15 + 30 * 0.2) / 40)
    assert axis.texts[0].get_text() == f"ECE {(10 * 0.15 + 30 * 0.2) / 40:.3f}"
    as_image(figure)


def test_a_task_with_fewer_methods_leaves_its_places_empty():
    bins = reliability_arrays([0.3, 0.9], [0.2, 0.8], [5, 5])
    figure = reliability.draw({"digits": {"map": bins, "laplace[fixed, last_layer]": bins}, "letters": {"map": bins}})
    visible = [axis.get_visible() for axis in figure.axes]
    assert visible == [True, True, True, True, True, False, True, False]
    below = [axis.get_xlabel() for axis in figure.axes]
    assert below == ["", "", "", "confidence", "", "", "confidence", ""]


def test_each_set_has_a_panel_with_the_areas_of_all_methods_best_first():
    first = {"roc/letters": LINE, "auroc/letters": np.float32(0.75), "roc/noise": LINE, "auroc/noise": np.float32(0.9)}
    second = {"roc/letters": LINE, "auroc/letters": np.float32(0.95)}
    figure = ood_roc.draw({"digits": {"map": first, "walk[steps=3]": second}})
    letters, noise = figure.axes
    assert [axis.get_title() for axis in (letters, noise)] == ["letters", "noise"]
    assert [text.get_text() for text in letters.get_legend().get_texts()] == ["0.950", "0.750"]
    assert [text.get_text() for text in noise.get_legend().get_texts()] == ["0.900"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["map", "walk[steps=3]"]
    # A method has one colour in the panels and in the legend.
    shades = [line.get_color() for line in figure.legends[0].get_lines()]
    assert [line.get_color() for line in letters.get_legend().get_lines()] == shades[::-1]
    as_image(figure)


def test_a_run_has_a_panel_if_it_kept_arrays_of_that_family():
    rows = frame(image_row("map"), image_row("walk"))
    arrays = {"digits/map//roc/letters": LINE, "digits/walk//rocket": LINE, "digits/map//reliability/count": LINE}
    assert panels(rows, arrays, ("map", "walk"), "roc") == {
        "digits": {"map": {"roc/letters": LINE, "reliability/count": LINE}}
    }


def test_a_legend_names_the_variant_only_if_it_is_the_same_everywhere():
    assert legend_labels(["laplace[kron]", "map", "laplace[diag]", "walk[steps=3]", "walk[steps=3]"]) == {
        "laplace": "laplace (best of each task)",
        "map": "map",
        "walk": "walk[steps=3]",
    }


def test_curves_under_shift_start_at_the_same_examples_unshifted_and_are_means_over_seeds():
    rows = frame(
        image_row("map", seed=0),
        image_row("map", seed=1, nll=0.5, nll_unshifted=0.55, nll_rotation_30=0.7),
        image_row("laplace", "structure=kron", nll=0.25),
        image_row("laplace", "structure=diag", nll=0.6),
        image_row("walk", status="failed", nll=np.nan),
    )
    found = shift.points(rows)
    assert set(found["label"]) == {"map", "laplace[kron]"}
    one = found[(found["label"] == "map") & (found["score"] == "nll") & (found["shift"] == "rotation")]
    assert one["strength"].tolist() == [0, 15, 30]
    assert one["mean"].tolist() == pytest.approx([0.45, 0.4, 0.6])
    assert one["sd"].tolist() == pytest.approx([np.std([0.35, 0.55], ddof=1), 0, np.std([0.5, 0.7], ddof=1)])
    assert one["unit"].unique().tolist() == ["degrees"]
    assert set(found["score"]) == {"accuracy", "nll"}

    figure = shift.draw(found)
    assert [axis.get_title() for axis in figure.axes] == [
        f"{score}, {name}" for score in ("accuracy", "NLL") for name in ("rotation", "blur")
    ]
    assert figure.axes[0].get_xlabel() == "degrees"
    as_image(figure)


def test_a_method_that_explodes_under_shift_does_not_set_the_scale():
    rows = frame(*(image_row(method) for method in ("map", "walk", "ensemble")))
    rows.loc[2, "nll_rotation_30"] = 40.0
    rows.loc[1, "nll_blur_0.5"] = np.inf
    figure = shift.draw(shift.points(rows))
    assert 0.6 < figure.axes[2].get_ylim()[1] < 3
    as_image(figure)


def test_tasks_without_shifts_have_no_curves():
    rows = frame({"task": "banana", "method": "map", "settings": "", "seed": 0, "status": "done", "nll": 0.3})
    assert shift.points(rows).empty

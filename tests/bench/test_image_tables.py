"""Tables and targets of image tasks, and that other tasks' tables do not change for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmark_utils.report.images import ShiftColumn, mean_auroc, ood_sets, shift_columns
from benchmark_utils.report.ood_table import ood_markdown
from benchmark_utils.report.output import targets
from benchmark_utils.report.rows import rows_from_results
from benchmark_utils.report.table import markdown, markdown_table, method_labels, task_table
from benchmark_utils.report.targets_images import image_targets
from benchmark_utils.report.training_time import total_gradients
from tests.bench.image_rows import frame, image_row

PLAIN = {"task": "banana", "method": "map", "settings": "", "seed": 0, "status": "done", "nll": 0.3, "accuracy": 0.9}
PLAIN |= {
    "kind": "classification",
    "dataset_matches": 1.0,
    "ood_near": "",
    "ood_far": "",
    "ood_missing": "",
    "shift_units": "",
}


def test_sets_and_shifts_are_read_from_the_rows():
    rows = frame(image_row("map"), PLAIN)
    assert ood_sets(rows) == {"letters": "near", "fashion": "far", "noise": "far"}
    assert list(ood_sets(rows)) == ["letters", "fashion", "noise"]
    assert ood_sets(frame(PLAIN)) == ood_sets(pd.DataFrame()) == {}
    found = shift_columns(rows)
    assert len(found) == 9  # nll_shifted and the like have no strength
    assert ShiftColumn("nll_blur_0.5", "nll", "blur", 0.5, "pixels") in found
    assert [column.strength for column in found if column.score == "nll"] == [15, 30, 0.5]
    assert shift_columns(frame(PLAIN)) == []


def test_the_mean_auroc_is_over_all_sets_of_equal_weight_and_nan_if_one_is_missing():
    rows = frame(image_row("map", auroc_letters_entropy=0.6, auroc_fashion_entropy=0.9, auroc_noise_entropy=0.9))
    assert mean_auroc(rows).tolist() == pytest.approx([0.8])
    rows["auroc_noise_entropy"] = np.nan
    assert mean_auroc(rows).isna().all()


def test_a_table_has_image_columns_for_images_only_and_markdown_has_more_than_the_terminal():
    rows = frame(image_row("map", ood_missing="svhn: no network"), PLAIN)
    labels = method_labels(rows)
    headings, lines = task_table(rows[rows["task"] == "digits"], labels)
    assert headings[:9] == [
        "method", "seeds", "NLL", "ECE", "acc.", "AUROC near", "AUROC far", "FPR95 near", "FPR95 far",
    ]  # fmt: skip
    assert lines[0][5:7] == ["0.800", "0.800"]
    headings, _ = task_table(rows[rows["task"] == "banana"], labels)
    assert headings == ["method", "seeds", "NLL", "acc."]
    text = markdown(rows, "t")
    assert "- out-of-distribution sets that were not at hand: svhn: no network" in text
    assert text.count("not at hand") == 1


def test_the_detection_table_has_a_part_a_score_and_says_how_many_and_which():
    only_msp = {f"{metric}_{name}_mi": np.nan for metric in ("auroc", "fpr95", "aupr_in", "aupr_out")
                for name in ("letters", "fashion", "noise", "far")}  # fmt: skip
    rows = frame(image_row("map", **only_msp), image_row("walk", auroc_letters_mi=0.91, ood_missing="svhn"), PLAIN)
    text = ood_markdown(rows, "OOD")
    assert (
        "50 test examples against: letters (near, 100), fashion (far, 200), noise (far, 300). Not at hand: svhn."
        in text
    )
    assert "banana" not in text
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### digits: score msp, -max_c p(c | x)",
        "### digits: score entropy, H(p(. | x))",
        "### digits: score mi, H(p(. | x)) - mean_s H(p_s(. | x)), for two samples or more",
    ]
    last = [line for line in text.splitlines() if line.startswith("|")][-4:]
    assert last[0].startswith(
        "| method | seeds | AUROC letters | AUROC fashion | AUROC noise | AUROC far | FPR95 letters |"
    )
    assert last[2].startswith("| map | 1 | - | - |")
    assert last[3].startswith("| walk | 1 | 0.910 | 0.800 |")
    assert ood_markdown(frame(PLAIN), "OOD") == ""


def test_a_score_that_nobody_has_gets_no_table():
    rows = frame(image_row("map"))
    rows[[name for name in rows if name.endswith("_mi")]] = np.nan
    assert "score mi" not in ood_markdown(rows, "OOD")
    assert "score entropy" in ood_markdown(rows, "OOD")


def auroc(value: float) -> dict[str, float]:
    return {f"auroc_{name}_entropy": value for name in ("letters", "fashion", "noise")}


def cells(rows: pd.DataFrame, ours: str, rival: str) -> list[str]:
    lines = [line.strip("| ").split(" | ") for line in image_targets(rows).splitlines() if line.startswith("|")]
    (found,) = [line for line in lines if line[:2] == [ours, rival]]
    return found


def test_differences_are_paired_by_seed_and_judged():
    rows = frame(
        *(image_row("metricbnn", seed=s, nll=0.30 + s / 10, **auroc(0.9)) for s in (0, 1, 2)),
        *(image_row("map", seed=s, nll=0.32 + s / 10, **auroc(0.85)) for s in (0, 1)),  # its third seed is missing
        *(image_row("swag", seed=s, nll=0.29 + s / 10, **auroc(0.95)) for s in (0, 1, 2)),
    )
    assert cells(rows, "metricbnn", "MAP") == [
        "metricbnn", "MAP", "2", "-0.020 ± 0.000", "≤ 0: yes", "+0.050 ± 0.000", "≥ 0: yes", "150", "150",
    ]  # fmt: skip
    swag = cells(rows, "metricbnn", "SWAG")
    assert (swag[3], swag[4]) == ("+0.010 ± 0.000", "≤ 0: no !")
    assert (swag[5], swag[6]) == ("-0.050 ± 0.000", "≥ 0: no !")
    assert cells(rows, "metricbnn", "ensemble of 5")[2:] == ["-"] * 7


def test_the_best_last_layer_variant_counts_for_each_score_and_other_structures_do_not():
    rows = frame(
        image_row("walk", nll=0.30, **auroc(0.90)),
        image_row("laplace", "predictive=glm,prior=fixed,structure=last_layer", nll=0.28, **auroc(0.80)),
        image_row("laplace", "predictive=glm,prior=tuned,structure=last_layer", nll=0.35, **auroc(0.95)),
        image_row("laplace", "predictive=glm,prior=fixed,structure=kron", nll=0.10, **auroc(0.99)),
    )
    found = cells(rows, "walk", "last-layer Laplace")
    assert (found[3], found[5]) == ("+0.020", "-0.050")


def test_an_ensemble_may_be_a_little_better_but_not_cheaper():
    ensemble = image_row("ensemble", "members=5", nll=0.29, gradients=400.0, **auroc(0.905))
    near = image_row("walk", nll=0.30, gradients=400.0, **auroc(0.9))
    found = cells(frame(near, ensemble), "walk", "ensemble of 5")
    assert found[3:] == ["+0.010", "≤ 0.02: yes", "-0.005", "≥ -0.01: yes", "500", "500"]
    found = cells(frame(near | {"gradients": 401.0}, ensemble), "walk", "ensemble of 5")
    assert found[4] == "≤ 0.02: but at more gradients !"
    assert found[6] == "≥ -0.01: but at more gradients !"
    found = cells(frame(near | {"nll": 0.32}, ensemble), "walk", "ensemble of 5")
    assert found[4] == "≤ 0.02: no !"
    # One of three members is another method.
    three = frame(near, image_row("map"), ensemble | {"settings": "members=3"})
    assert cells(three, "walk", "ensemble of 5")[2] == "-"


def test_gradients_have_the_map_in_them_unless_a_method_says_otherwise():
    rows = frame(image_row("walk"), image_row("hmc", starts_from_map=0.0))
    assert total_gradients(rows).tolist() == [150, 50]
    assert total_gradients(frame(image_row("walk"))).tolist() == [150]


def test_targets_are_for_tasks_with_sets_and_finished_rows():
    assert image_targets(frame(PLAIN | {"method": "walk"})) == ""
    assert image_targets(frame(image_row("walk", status="failed"), image_row("map"))) == ""
    assert image_targets(frame(image_row("walk"), image_row("svd-gaussian"))) == ""  # nobody to compare with
    assert targets(frame(PLAIN)) == ""
    text = targets(frame(image_row("walk", energy_ratio=0.9), image_row("map")))
    assert text.startswith("# What MetricBNN is meant to reach\n")
    assert "walk: energy ratio" not in text  # that is a target of tables
    assert "## digits (against letters, fashion, noise)" in text


def test_a_table_without_lines_is_nothing():
    assert markdown_table(["a", "b"], []) == ""
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_text_of_image_rows_stays_text_and_numbers_numbers():
    row = image_row("map", ood_far="")
    results = pd.DataFrame(
        [{f"objective_{name}": value for name, value in row.items()} | {"solver_name": "map"}]
    )  # fmt: skip
    rows, _ = rows_from_results(results, [])
    assert rows.loc[0, "ood_far"] == ""
    assert rows.loc[0, "ood_near"] == "letters"
    assert rows["auroc_letters_entropy"].dtype == float
    assert ood_sets(rows) == {"letters": "near"}

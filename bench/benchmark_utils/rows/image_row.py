"""The part of a row that only tasks with out-of-distribution sets and shifted test sets have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor

from benchmark_utils.metrics.evaluation import evaluate
from benchmark_utils.metrics.ood import DETECTION, roc_points
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.metrics.predictive_scores import SCORES, foreign_scores
from benchmark_utils.tasks.task import Task

DISTANCES = ("near", "far")
SHIFTED = ("nll", "accuracy", "ece")  # columns that are computed again on each shifted test set
CURVE_SCORE = "entropy"  # whose ROC curve the figure shows

Columns = dict[str, float | str]


def detection(
    task: Task, predict: Callable[[Tensor], Prediction], prediction: Prediction
) -> tuple[Columns, dict[str, np.ndarray]]:
    """Return a task's out-of-distribution columns, and the ROC curves for the figure.

    Columns, for each set and score: auroc_, fpr95_, aupr_in_ and aupr_out_<set>_<score>, and n_<set> examples.
    As OpenOOD does, also the means over the near and over the far sets, such as auroc_near_entropy. Which sets
    are near and far stands in the columns ood_near and ood_far, those not at hand, with the reason, in ood_missing.

    Args:
        task: the task; one without sets gives no columns.
        predict: of the method.
        prediction: for the test set, so that it need not be made again.

    Returns:
        The columns; and by "roc/<set>" the points of its curve, by "auroc/<set>" the area under it.

    Raises:
        ValueError: if two sets have one name, or a set is called "near" or "far".
    """
    if not (task.ood or task.ood_missing):
        return {}, {}
    names = [column_name(each.name) for each in task.ood]
    if len({*names, *DISTANCES}) < len(names) + len(DISTANCES):
        raise ValueError(f"out-of-distribution sets need different names, and none of {DISTANCES}; got {names}")
    columns: Columns = {}
    curves = {}
    test = foreign_scores(prediction)
    for name, each in zip(names, task.ood, strict=True):
        found = foreign_scores(predict(each.load()))
        columns[f"n_{name}"] = float(len(found[CURVE_SCORE]))
        for score in SCORES:
            for measure, compute in DETECTION.items():
                columns[f"{measure}_{name}_{score}"] = compute(test[score], found[score])
        curves[f"roc/{name}"] = roc_points(test[CURVE_SCORE], found[CURVE_SCORE])
        curves[f"auroc/{name}"] = np.asarray(columns[f"auroc_{name}_{CURVE_SCORE}"])
    for distance in DISTANCES:
        chosen = [name for name, each in zip(names, task.ood, strict=True) if each.distance == distance]
        columns[f"ood_{distance}"] = ", ".join(chosen)
        for score in SCORES:
            for measure in DETECTION:
                values = [float(columns[f"{measure}_{name}_{score}"]) for name in chosen]
                columns[f"{measure}_{distance}_{score}"] = mean(values)
    columns["ood_missing"] = "; ".join(f"{name}: {reason}" for name, reason in task.ood_missing.items())
    return columns, curves


def shifted(task: Task, predict: Callable[[Tensor], Prediction], prediction: Prediction) -> Columns:
    """Return the columns of the shifted test sets.

    nll_<shift>_<strength>, accuracy_... and ece_... of the averaged predictive, the strength as a plain number;
    their means over all shifts and strengths as nll_shifted and so on; the same of the same test examples without
    a shift as nll_unshifted; n_shifted, the examples in each; and shift_units, the unit of each shift's strength, as
    JSON. A task without shifts gives nothing.

    Args:
        task: the task, whose shifted examples are the first ones of its test set.
        predict: of the method.
        prediction: for the test set.

    Raises:
        ValueError: if one shift and strength comes twice.
    """
    columns: Columns = {}
    units: dict[str, str] = {}
    n_shifted = 0
    for shift, x, y in task.shifted():
        place = f"{column_name(shift.name)}_{shift.strength:g}"
        if f"nll_{place}" in columns:
            raise ValueError(f"the shift {shift.name!r} comes twice with strength {shift.strength:g}")
        scores = evaluate(predict(x), y, columns=SHIFTED)
        columns |= {f"{column}_{place}": value for column, value in scores.items()}
        units[column_name(shift.name)] = shift.unit
        n_shifted = len(y)
    if not units:
        return {}
    same = Prediction(log_probs=prediction.class_log_probs[:, :n_shifted])
    plain = evaluate(same, task.y_test[:n_shifted], columns=SHIFTED)
    for column in SHIFTED:
        own = [float(value) for name, value in columns.items() if name.startswith(f"{column}_")]
        columns |= {f"{column}_shifted": mean(own), f"{column}_unshifted": plain[column]}
    return columns | {"n_shifted": float(n_shifted), "shift_units": json.dumps(units)}


def column_name(name: str) -> str:
    """Return a name as columns have it: Fashion-MNIST's "fashion-mnist" is "fashion_mnist"."""
    return name.replace("-", "_")


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN if there is nothing or a value is NaN."""
    values = list(values)
    return sum(values) / len(values) if values else math.nan

"""All metrics of the benchmark: their definitions by id, `METRICS`, and `evaluate`, which computes a row.

The definitions stand in classification.py, regression.py, reference.py and ood.py.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from benchmark_utils.metrics import classification, ood, regression
from benchmark_utils.metrics.metric import METRICS, Metric
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.metrics.reference import (
    agreement,
    energy_ratio,
    total_variation,
    total_variation_density,
)
from benchmark_utils.metrics.regression import gap_spread
from benchmark_utils.tasks.task import Task

__all__ = [
    "METRICS",
    "Metric",
    "agreement",
    "classification",
    "energy_ratio",
    "evaluate",
    "evaluate_task",
    "gap_spread",
    "ood",
    "regression",
    "total_variation",
    "total_variation_density",
]


def evaluate(
    prediction: Prediction, y: Tensor, reference: Prediction | None = None, columns: Collection[str] | None = None
) -> dict[str, float]:
    """Return every metric of labelled examples that applies, by its row column.

    Args:
        prediction: for N examples.
        y: labels, [N], int64; or targets, [N] or [N, 1].
        reference: a reference posterior's prediction for the same examples; None leaves its columns out.
        columns: the only ones to compute; all if None.

    Raises:
        ValueError: if y or the reference do not fit the prediction.
    """
    row = {}
    for entry in METRICS.values():
        if prediction.kind not in entry.kinds or (columns is not None and entry.column not in columns):
            continue
        if entry.reading in ("averaged predictive", "mean over single samples"):
            row[entry.column] = entry.compute(prediction, y)
        elif entry.reading == "against a reference" and reference is not None:
            row[entry.column] = entry.compute(prediction, reference)
    return row


def evaluate_task(task: Task, prediction: Prediction, reference: Prediction | None = None) -> dict[str, float]:
    """Return every metric of a task's test part that applies, in the units of the data: see `evaluate`.

    The one place where standardised predictions and targets go back to the data's units.

    Args:
        task: the task at one seed.
        prediction: for its test inputs, on the scale of y_train.
        reference: a reference posterior's, likewise.
    """
    if task.kind == "classification":
        return evaluate(prediction, task.y_test, reference)
    units = task.y_units
    original = None if reference is None else reference.in_units(units.mean, units.scale)
    return evaluate(prediction.in_units(units.mean, units.scale), units.original(task.y_test.double()), original)

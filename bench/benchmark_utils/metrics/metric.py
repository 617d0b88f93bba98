"""The registry of metrics: each is defined once, with an id that changes when its definition does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from torch import Tensor

from benchmark_utils.metrics.prediction import Prediction

Kind = Literal["classification", "regression"]
Reading = Literal[
    "averaged predictive", "mean over single samples", "against a reference", "energies", "spread", "detection"
]
F = TypeVar("F", bound=Callable[..., float])


@dataclass(frozen=True)
class Metric:
    """One definition.

    Attributes:
        id: name/version; a changed definition gets a new version.
        column: the row's column; one metric for each kind of task. <set> and <score> stand for each of several.
        kinds: the tasks it is for.
        formula: in symbols; p_s is sample s, S samples, N examples, C classes, mean_n the mean over examples.
        unit: of the value.
        direction: "lower" or "higher" is better, or the number to be near, such as "0.9".
        reading: what is scored: the averaged predictive, or each sample alone and then the mean over samples.
        source: where the definition comes from.
        compute: the function. Its arguments follow from the reading: (prediction, y) for the first two,
            (prediction, reference) against a reference, (energies, map_energy, n_params) for energies,
            (sd,) for spread, and (scores of test examples, scores of out-of-distribution examples) for detection.
    """

    id: str
    column: str
    kinds: tuple[Kind, ...]
    formula: str
    unit: str
    direction: str
    reading: Reading
    source: str
    compute: Callable[..., float]


# A score takes R predictives at once and gives one number for each, [R].
Score = Callable[..., Tensor]
# What a score is called with: R = 1 for the averaged predictive, R = S for the single samples.
Inputs = Callable[[Prediction, Tensor, Reading], tuple[Tensor, ...]]

METRICS: dict[str, Metric] = {}


def metric(
    id: str,
    column: str,
    *kinds: Kind,
    formula: str,
    unit: str,
    direction: str,
    reading: Reading,
    source: str,
) -> Callable[[F], F]:
    """Return a decorator that registers a function as a metric and gives it back unchanged.

    Raises:
        ValueError: if the id is taken, or the column is for one of these kinds of task.
    """

    def register(function: F) -> F:
        for other in METRICS.values():
            if other.id == id or (other.column == column and set(kinds) & set(other.kinds)):
                raise ValueError(f"metric {id!r} repeats {other.id!r}")
        METRICS[id] = Metric(id, column, kinds, formula, unit, direction, reading, source, function)
        return function

    return register


def both_readings(
    id: str, column: str, kind: Kind, inputs: Inputs, *, formula: str, unit: str, direction: str, source: str
) -> Callable[[Score], Score]:
    """Return a decorator that registers a score twice and gives it back unchanged.

    Once as `column`, of the averaged predictive, and once as `column_single`, the mean over single samples.
    """

    def register(score: Score) -> Score:
        def compute(reading: Reading, prediction: Prediction, y: Tensor) -> float:
            return float(score(*inputs(prediction, y, reading)).mean())

        name, version = id.split("/")
        add = partial(metric, unit=unit, direction=direction, source=source)
        averaged: Reading = "averaged predictive"
        add(id, column, kind, formula=f"{formula}, p = mean_s p_s", reading=averaged)(partial(compute, averaged))
        single: Reading = "mean over single samples"
        alone = f"mean_s of, with p = p_s, {formula}"
        add(f"{name}-single/{version}", f"{column}_single", kind, formula=alone, reading=single)(
            partial(compute, single)
        )
        return score

    return register

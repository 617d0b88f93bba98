"""What the leaderboard shows of an entry, each number with the id of its definition: metrics and costs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from benchmark_utils.metrics.evaluation import METRICS
from benchmark_utils.metrics.metric import Metric
from benchmark_utils.metrics.predictive_scores import SCORES
from benchmark_utils.report.images import DISTANCES

NAMES = {
    "nll": "NLL", "ece": "ECE", "brier": "Brier score", "accuracy": "Accuracy", "rmse": "RMSE", "crps": "CRPS",
    "coverage90": "Coverage of 90 %", "sd_gap": "Sd in the gap", "sd_data": "Sd at the data",
    "agreement_hmc": "Agreement with HMC", "tv_hmc": "TV to HMC", "energy_ratio": "Energy ratio",
    "auroc": "AUROC", "fpr95": "FPR95", "aupr_in": "AUPR in", "aupr_out": "AUPR out",
}  # fmt: skip
MEANS = {"lower": "lower is better", "higher": "higher is better"}


@dataclass(frozen=True)
class Quantity:
    """A number of an entry.

    Attributes:
        column: of the rows.
        id: of the definition, name/version.
        name: for people.
        direction: "lower" or "higher" is better, or the number to be near, such as "0.9".
        unit: of the value.
        formula: in symbols or words.
        kinds: the tasks it is for.
        of_one_set: whether it is about a single out-of-distribution set, of which there are many.
    """

    column: str
    id: str
    name: str
    direction: str
    unit: str
    formula: str
    kinds: tuple[str, ...]
    of_one_set: bool = False

    @property
    def better(self) -> str:
        """Return the direction in words."""
        return MEANS.get(self.direction, f"nearer to {self.direction} is better")

    def loss(self, values: pd.Series) -> pd.Series:
        """Return what is the lower the better; NaN where the direction gives no order."""
        if self.direction in MEANS:
            return values if self.direction == "lower" else -values
        try:
            return (values - float(self.direction)).abs()
        except ValueError:
            return pd.Series(math.nan, index=values.index)


_BOTH = ("classification", "regression")


def _cost(column: str, name: str, unit: str, formula: str) -> Quantity:
    return Quantity(column, f"{column.replace('_', '-')}/1", name, "lower", unit, formula, _BOTH)


COSTS = (
    _cost("total_s", "Training", "s", "map_s + fit_s; fit_s alone where the method says that it does not use the MAP"),
    _cost("fit_s", "Fit", "s", "wall-clock seconds of the method's own fit on one CPU thread, on top of the MAP's"),
    _cost("predict_s", "Prediction", "s", "wall-clock seconds of one call on the whole test set"),
    _cost(
        "gradients",
        "Gradients",
        "passes over the training data",
        "grad_evals + 2 hvp_evals + energy_evals / 3, on top of the MAP's",
    ),
    _cost("peak_rise_mib", "Memory", "MiB", "highest resident memory during the fit less that before it"),
)


def metric_quantities(columns: Iterable[str]) -> list[Quantity]:
    """Return the metrics that rows with these columns can have, in the order of METRICS.

    Those of out-of-distribution sets come once for each set and score that a column names.
    """
    columns = list(columns)
    found = []
    for metric in METRICS.values():
        if metric.reading == "detection":
            found += [_detection(metric, *match) for match in _sets(metric, columns)]
        elif metric.column in columns:
            found.append(_plain(metric))
            if f"{metric.column}_shifted" in columns and "classification" in metric.kinds:
                found.append(_shifted(metric))
    return found


def _plain(metric: Metric) -> Quantity:
    """A metric as it is."""
    averaged = metric.column.removesuffix("_single")
    name = NAMES.get(averaged, averaged) + (" of single samples" if averaged != metric.column else "")
    return Quantity(metric.column, metric.id, name, metric.direction, metric.unit, metric.formula, metric.kinds)


def _shifted(metric: Metric) -> Quantity:
    """A metric's mean over all kinds and strengths of shift."""
    formula = f"mean over all kinds and strengths of shift of: {metric.formula}"
    column, name = f"{metric.column}_shifted", f"{NAMES[metric.column]}, shifted"
    return Quantity(column, f"{metric.id} shifted/1", name, metric.direction, metric.unit, formula, metric.kinds)


def _sets(metric: Metric, columns: list[str]) -> list[tuple[str, str]]:
    """Set and score of each column of a detection metric, near and far first."""
    pattern = re.compile(metric.column.replace("<set>", "(.+)").replace("<score>", f"({'|'.join(SCORES)})"))
    found = [(match[1], match[2]) for column in columns if (match := pattern.fullmatch(column))]
    return sorted(found, key=lambda pair: (pair[0] not in DISTANCES, pair[0] != "near", pair[0]))


def _detection(metric: Metric, name: str, score: str) -> Quantity:
    """A detection metric of one set, or of all near or far ones, by one score."""
    column = metric.column.replace("<set>", name).replace("<score>", score)
    measure = column.removesuffix(f"_{name}_{score}")
    mean = f"; unweighted mean over the {name} sets" if name in DISTANCES else ""
    return Quantity(
        column,
        f"{metric.id} {SCORES[score].id}",
        f"{NAMES[measure]} {name.replace('_', '-')} ({score})",
        metric.direction,
        metric.unit,
        f"{metric.formula}; score: {SCORES[score].formula}{mean}",
        metric.kinds,
        of_one_set=name not in DISTANCES,
    )

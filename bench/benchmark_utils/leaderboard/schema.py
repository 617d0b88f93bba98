"""The JSON Schema of one row, made from the definitions of its metrics.

A row is an object of its columns; what is empty, or NaN, is not there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from benchmark_utils.metrics.evaluation import METRICS
from benchmark_utils.metrics.metric import Metric
from benchmark_utils.metrics.predictive_scores import SCORES
from benchmark_utils.report.rows import KEY
from benchmark_utils.rows.row import SUITE_VERSION

ROUNDING = 1e-9  # that a number may lie beyond its bound
LARGEST = 1.7976931348623157e308  # any float but infinity
# By a metric's unit, or its column: lowest and highest value.
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "fraction": (0, 1),
    "0 to 1": (0, 1),
    "0 to 2": (0, 2),
    "units of y": (0, None),
}
# Without them a finished row is no measurement.
ALWAYS = ["suite_version", *KEY, "status", "reason"]
DONE = [
    "kind", "nll", "map_s", "fit_s", "predict_s", "grad_evals", "hvp_evals", "n_params", "n_train", "n_test",
    "n_samples", "device", "backend", "versions", "commit", "dataset_sha256", "dataset_matches",
]  # fmt: skip
SECONDS = {
    "map_s": "seconds of the shared MAP's training",
    "fit_s": "seconds of the method's own fit, on top of the MAP's",
    "predict_s": "seconds of one prediction of the whole test set",
}
COUNTS = {
    "grad_evals": "gradients of one weight vector over all training data that the fit took",
    "hvp_evals": "Hessian-vector products, likewise",
    "energy_evals": "energies without a gradient, likewise",
    "gradients": "grad_evals + 2 hvp_evals + energy_evals / 3",
    "map_grad_evals": "gradients of the shared MAP's training",
    "map_grad_norm": "norm of the gradient at the MAP",
    "peak_mib": "highest resident memory of the process during the fit, MiB",
    "peak_rise_mib": "that peak less what was resident before, MiB",
}
SIZES = {
    "n_params": "weights of the network",
    "n_train": "training examples",
    "n_test": "test examples",
    "n_samples": "weight samples of the predictive; 1 if it is no average",
}
TEXTS = {
    "settings": ("the method's settings as name=value,...; may be empty", 500),
    "reason": ("why it is not done, in words; empty for a row that is", 2000),
    "device": ("processor or accelerator, and the number of threads", 200),
    "backend": ("what computed it, such as torch", 100),
    "versions": ("versions of the packages, as JSON", 2000),
    "commit": ("commit of this repository that it was run with", 100),
    "dataset_source": ("where the data came from, in words", 500),
}
_NAME = "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
_CONTROL = "[\\u0000-\\u001f\\u007f]"


@lru_cache
def row_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12; not to be changed."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A row of the fiberbnn benchmark",
        "description": "One task, method, settings and seed. What is empty or NaN is left out. Further columns are "
        "what a method reports of itself.",
        "type": "object",
        "required": ALWAYS,
        "properties": {
            "suite_version": {
                "enum": [SUITE_VERSION, ""],
                "description": "of tasks and protocol; empty only if not done",
            },
            "task": _text("the task's name", 64, pattern=_NAME),
            "method": _text("the method's name", 64, pattern=_NAME),
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "description": "of split and sampling"},
            "status": {"enum": ["done", "skipped", "failed", "diverged"]},
            "kind": {"enum": ["classification", "regression", ""], "description": "empty only if not done"},
            "dataset_sha256": _text("of the content that was loaded", 64, pattern="^([0-9a-f]{64})?$"),
            "dataset_matches": {"enum": [True, False, 1, 0], "description": "whether it is the task's content"},
            "starts_from_map": {
                "enum": [True, False, 1, 0],
                "description": "whether the method starts from the shared MAP and pays for it; left out, it does",
            },
            **{name: _text(words, most) for name, (words, most) in TEXTS.items()},
            **{name: _number(words, 0) for name, words in (SECONDS | COUNTS).items()},
            **{name: _number(words, 1) | {"type": "integer"} for name, words in SIZES.items()},
            **_metrics(),
        },
        "patternProperties": _patterns(),
        "allOf": [
            _when({"status": {"const": "done"}}, {"required": DONE, "properties": _not_empty("kind", "suite_version")}),
            _when({"status": {"enum": ["skipped", "failed", "diverged"]}}, {"properties": _not_empty("reason")}),
            *(_kind(kind) for kind in ("classification", "regression")),
        ],
    }


def _not_empty(*names: str) -> dict[str, Any]:
    """These columns hold something."""
    return {name: {"minLength": 1} for name in names}


def _text(description: str, most: int, **more: Any) -> dict[str, Any]:
    """Text of one line."""
    return {"type": "string", "maxLength": most, "not": {"pattern": _CONTROL}, "description": description, **more}


def _number(description: str, low: float | None, high: float | None = None) -> dict[str, Any]:
    """A finite number between bounds."""
    return {
        "type": "number",
        "minimum": -LARGEST if low is None else low - (ROUNDING if low == 0 else 0),
        "maximum": LARGEST if high is None else high + ROUNDING,
        "description": description,
    }


def _bounds(metric: Metric) -> tuple[float | None, float | None]:
    """The lowest and the highest value that a metric can have."""
    if metric.unit == "nats per example" and metric.kinds == ("classification",):
        return 0, None  # minus the logarithm of a probability; that of a density can be negative
    return BOUNDS.get(metric.unit, (None, None))


def _describe(metric: Metric) -> str:
    """A metric in words."""
    return f"{metric.id}: {metric.formula}; {metric.unit}; better: {metric.direction}"


def _metrics() -> dict[str, Any]:
    """The columns of metrics that mean one thing for all kinds of task; the others are in _kind."""
    single = [m for m in METRICS.values() if m.reading != "detection" and not _by_kind(m)]
    return {metric.column: _number(_describe(metric), *_bounds(metric)) for metric in single}


def _by_kind(metric: Metric) -> bool:
    """Whether another metric has the same column for another kind of task."""
    return any(other.column == metric.column and other.id != metric.id for other in METRICS.values())


def _kind(kind: str) -> dict[str, Any]:
    """What a finished row of one kind has to have: every score of its averaged predictive, in its range."""
    own = [metric for metric in METRICS.values() if kind in metric.kinds]
    required = [metric.column for metric in own if metric.reading == "averaged predictive"]
    ranges = {metric.column: _number(_describe(metric), *_bounds(metric)) for metric in own if _by_kind(metric)}
    return _when({"status": {"const": "done"}, "kind": {"const": kind}}, {"required": required, "properties": ranges})


def _when(properties: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """A condition on columns that have to be there."""
    return {"if": {"properties": properties, "required": list(properties)}, "then": then}


def _patterns() -> dict[str, Any]:
    """The columns of out-of-distribution sets, of which there can be any."""
    found = {}
    for metric in METRICS.values():
        if metric.reading == "detection":
            pattern = metric.column.replace("<set>", ".+").replace("<score>", f"({'|'.join(SCORES)})")
            found[f"^{pattern}$"] = _number(_describe(metric), *_bounds(metric))
    return found

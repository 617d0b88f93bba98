"""The metrics' own values on fixed predictions: a formula that has changed under its old id gives itself away.

Calibration errors vary so much from run to run that ten bins for fifteen could hide in their spread. Here nothing
varies: the predictions are written down as formulas, in float64, and a definition gives the same number everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmark_utils.gate.check import Check
from benchmark_utils.gate.pairs import ADVICE
from benchmark_utils.metrics.evaluation import METRICS, Metric
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.metrics.predictive_scores import SCORES

TOLERANCE = 1e-9  # relative; sums in another order differ by 1e-15
SAMPLES, EXAMPLES, CLASSES = 5, 61, 3


def values() -> dict[str, dict[str, Any]]:
    """Return id and value of every metric on the fixed predictions, by "kind column"; and of the foreign scores."""
    found = {
        f"{kind} {entry.column}": {"id": entry.id, "value": entry.compute(*_arguments(entry, kind))}
        for entry in METRICS.values()
        for kind in entry.kinds
    }
    prediction, _ = _predicted("classification", 0.0)
    for score in SCORES.values():
        found[f"score {score.id.split('/')[0]}"] = {"id": score.id, "value": float(score.compute(prediction).mean())}
    return found


def definition_checks(baseline: dict[str, dict[str, Any]], fresh: dict[str, dict[str, Any]]) -> list[Check]:
    """Return a check for each definition that either knows.

    Another id is "incomparable", as it should be when a definition changes on purpose; the same id with another value
    is a failure.
    """
    checks = []
    for name in sorted({*baseline, *fresh}):
        before, after = baseline.get(name), fresh.get(name)
        if before is None:
            checks.append(Check("definitions", name, "note", remark="new: not in the baseline"))
        elif after is None:
            checks.append(Check("definitions", name, "fail", remark=f"gone: the baseline has {before['id']}; {ADVICE}"))
        else:
            checks.append(_compared(name, before, after))
    return checks


def columns_of_other_ids(baseline: dict[str, dict[str, Any]], fresh: dict[str, dict[str, Any]]) -> set[str]:
    """Return the columns whose definition has another id in the baseline: their numbers cannot be compared."""
    return {name.split()[1] for name in baseline.keys() & fresh.keys() if baseline[name]["id"] != fresh[name]["id"]}


def _compared(name: str, before: dict[str, Any], after: dict[str, Any]) -> Check:
    numbers = before["value"], after["value"]
    if before["id"] != after["id"]:
        remark = f"{after['id']}, in the baseline {before['id']}: cannot be compared, {ADVICE}"
        return Check("definitions", name, "incomparable", *numbers, remark=remark)
    same = math.isclose(*numbers, rel_tol=TOLERANCE, abs_tol=1e-12) or all(map(math.isnan, numbers))
    remark = "" if same else f"the formula of {after['id']} has changed: give it a new version and update the baseline"
    return Check("definitions", f"{name} ({after['id']})", "pass" if same else "fail", *numbers, remark=remark)


def _arguments(entry: Metric, kind: str) -> tuple[Any, ...]:
    """What a metric is called with; see `Metric.compute`."""
    prediction, y = _predicted(kind, 0.0)
    if entry.reading in ("averaged predictive", "mean over single samples"):
        return prediction, y
    if entry.reading == "against a reference":
        return prediction, _predicted(kind, 0.4)[0]
    waves = _waves(EXAMPLES, 0.3)
    if entry.reading == "energies":
        return 50.0 + 10.0 * waves, 20.0, 100
    if entry.reading == "spread":
        return (1.5 + waves,)
    return waves, waves[:40] + 0.5  # detection: test examples, and out-of-distribution examples


def _predicted(kind: str, phase: float) -> tuple[Prediction, Tensor]:
    """A prediction, with confidences all over [1/3, 1], and labels that are mostly its own."""
    waves = _waves(SAMPLES * EXAMPLES * CLASSES, phase).view(SAMPLES, EXAMPLES, CLASSES)
    if kind == "classification":
        # Confidence grows along the examples, and is right by turns as it grows: where all bins err to one side, an ECE
        # is the same however many there are.
        logits = waves * torch.linspace(0.1, 3, EXAMPLES, dtype=torch.float64)[:, None] * 2
        prediction = Prediction(log_probs=logits.log_softmax(-1))
        confidence, top = prediction.averaged_log_probs().exp().max(-1)
        right = (23 * confidence).long() % 2 == 0
        return prediction, torch.where(right, top, (top + 1) % CLASSES)
    mean, variance = waves[..., 0], 0.2 + waves[..., 1].square()
    return Prediction(mean=mean, variance=variance), 2.5 * _waves(EXAMPLES, 0.1)[:, None]


def _waves(n: int, phase: float) -> Tensor:
    """N numbers in [-1, 1] without a pattern that a metric could see, [n]."""
    at = torch.arange(n, dtype=torch.float64)
    return torch.sin(0.37 * at.square() + 1.3 * at + phase)

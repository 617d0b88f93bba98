"""How well a score tells out-of-distribution (OOD) examples from those of the test set.

OOD is the positive class, and scores rise the more foreign an example looks (predictive_scores.py). Every
metric takes the scores of N test examples and of M OOD examples; each depends on the order of the scores alone,
and examples with exactly equal scores fall on the same side of every threshold, as in scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from benchmark_utils.metrics.metric import metric

Detection = Callable[[Tensor, Tensor], float]

LEVEL = 0.95  # share of OOD examples that FPR95 asks to be found
_OPENOOD = "OpenOOD v1.5, arXiv:2306.09301"

_detection = partial(metric, unit="fraction", reading="detection")


def _labelled(test: Tensor, ood: Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels (1 for OOD) and scores, each [N + M]; None if one side has no scores, only NaN.

    Raises:
        ValueError: if a side is not [N] with N > 0, or holds NaN beside numbers, or infinity.
    """
    for name, scores in (("test", test), ("out-of-distribution", ood)):
        if scores.ndim != 1 or not len(scores):
            raise ValueError(f"{name} scores must be [N] and not empty, got {tuple(scores.shape)}")
        if not bool(scores.isfinite().all() | scores.isnan().all()):
            raise ValueError(f"{name} scores hold NaN or infinity")
    if bool(test.isnan().any() | ood.isnan().any()):
        return None
    is_ood = np.repeat([0, 1], [len(test), len(ood)])
    return is_ood, torch.cat([test, ood]).double().cpu().numpy()


@_detection(
    "auroc-ood/1",
    "auroc_<set>_<score>",
    "classification",
    formula="P(score(OOD) > score(test)) + 1/2 P(equal), over all N M pairs",
    direction="higher",
    source="area under the ROC curve as the Mann-Whitney statistic; scikit-learn's roc_auc_score",
)
def auroc(test: Tensor, ood: Tensor) -> float:
    """Return the area under the ROC curve, 0.5 for a score that knows nothing; NaN without scores."""
    pair = _labelled(test, ood)
    return math.nan if pair is None else float(roc_auc_score(*pair))


@_detection(
    "fpr95-ood/1",
    "fpr95_<set>_<score>",
    "classification",
    formula="share of test examples with score >= t, at the largest t for which at least 95 % of the OOD "
    "examples have score >= t",
    direction="lower",
    source=f"{_OPENOOD} (there since v1.5; v1 and ODIN take the test set as positive, which is another number). "
    "No threshold is left out: scikit-learn's default leaves out those on a straight line",
)
def fpr95(test: Tensor, ood: Tensor) -> float:
    """Return the share of test examples flagged when 95 % of the OOD examples are found; NaN without scores."""
    pair = _labelled(test, ood)
    if pair is None:
        return math.nan
    false_positives, found, _ = roc_curve(*pair, drop_intermediate=False)
    return float(false_positives[np.argmax(found >= LEVEL)])


@_detection(
    "aupr-out-ap/1",
    "aupr_out_<set>_<score>",
    "classification",
    formula="sum_t (recall_t - recall_t-1) precision_t, t falling over all thresholds; OOD is positive. A score "
    "that knows nothing has M / (N + M)",
    direction="higher",
    source="average precision, scikit-learn's average_precision_score; OpenOOD takes the trapezoidal area, "
    "which is slightly higher",
)
def aupr_out(test: Tensor, ood: Tensor) -> float:
    """Return the average precision of finding OOD examples by a high score; NaN without scores."""
    pair = _labelled(test, ood)
    return math.nan if pair is None else float(average_precision_score(*pair))


@_detection(
    "aupr-in-ap/1",
    "aupr_in_<set>_<score>",
    "classification",
    formula="sum_t (recall_t - recall_t-1) precision_t, t rising over all thresholds; the test set is positive, "
    "by minus the score. A score that knows nothing has N / (N + M)",
    direction="higher",
    source="average precision, as aupr-out-ap/1",
)
def aupr_in(test: Tensor, ood: Tensor) -> float:
    """Return the average precision of finding test examples by a low score; NaN without scores."""
    pair = _labelled(test, ood)
    return math.nan if pair is None else float(average_precision_score(1 - pair[0], -pair[1]))


DETECTION: dict[str, Detection] = {"auroc": auroc, "fpr95": fpr95, "aupr_in": aupr_in, "aupr_out": aupr_out}


def roc_points(test: Tensor, ood: Tensor, most: int = 200) -> np.ndarray:
    """Return a ROC curve thinned for drawing, [2, at most `most`]: false and true positive rate, (0, 0) to (1, 1).

    The points kept are evenly spaced along the curve, so that no step of it longer than about 2 / `most` is lost.

    Raises:
        ValueError: if a side has no scores.
    """
    pair = _labelled(test, ood)
    if pair is None:
        raise ValueError("without scores there is no ROC curve")
    curve = np.stack(roc_curve(*pair)[:2])
    if curve.shape[1] <= most:
        return curve
    length = curve.sum(0)  # rises from 0 to 2, since neither rate ever falls
    nearest = np.searchsorted(length, np.linspace(0, 2, most)).clip(max=curve.shape[1] - 1)
    return curve[:, np.unique(nearest)]

"""Scores of class probabilities: log-probabilities of R predictives, [R, N, C], and labels, [N], to [R]."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmark_utils.metrics.metric import Reading, both_readings
from benchmark_utils.metrics.prediction import Prediction

ECE_BINS = 15


def _inputs(prediction: Prediction, y: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """Log-probabilities, [1, N, C] averaged or [S, N, C] single, and checked labels, [N]."""
    log_probs = prediction.class_log_probs
    n_examples, n_classes = log_probs.shape[1:]
    if y.shape != (n_examples,) or y.dtype != torch.int64:
        raise ValueError(f"labels must be int64 [{n_examples}], got {y.dtype} {tuple(y.shape)}")
    if not bool(((y >= 0) & (y < n_classes)).all()):
        raise ValueError(f"labels must be from 0 to {n_classes - 1}")
    averaged = reading == "averaged predictive"
    return prediction.averaged_log_probs()[None] if averaged else log_probs, y.cpu()


_both_readings = partial(both_readings, kind="classification", inputs=_inputs)


@_both_readings(
    "nll-categorical/1",
    "nll",
    formula="-mean_n log p(y_n | x_n)",
    unit="nats per example",
    direction="lower",
    source="Gneiting and Raftery (2007), logarithmic score, doi:10.1198/016214506000001437",
)
def nll(log_probs: Tensor, y: Tensor) -> Tensor:
    """Return the mean negative log-likelihood, [R], nats; infinite where a label has probability zero."""
    return -log_probs.gather(-1, y.expand(len(log_probs), -1)[..., None]).mean((1, 2))


@_both_readings(
    "brier-sum/1",
    "brier",
    formula="mean_n sum_c (p(c | x_n) - [c = y_n])^2",
    unit="0 to 2",
    direction="lower",
    source="Brier (1950), summed over classes, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
)
def brier(log_probs: Tensor, y: Tensor) -> Tensor:
    """Return the Brier score, summed over classes, [R], from 0 to 2."""
    return (log_probs.exp() - one_hot(y, log_probs.shape[-1])).square().sum(-1).mean(-1)


@_both_readings(
    "accuracy-top1/1",
    "accuracy",
    formula="mean_n [argmax_c p(c | x_n) = y_n]",
    unit="fraction",
    direction="higher",
    source="share of correct top labels; a tie goes to one of the tied classes",
)
def accuracy(log_probs: Tensor, y: Tensor) -> Tensor:
    """Return the share of examples whose most probable class is the label, [R], a fraction."""
    return (log_probs.argmax(-1) == y).double().mean(-1)


@_both_readings(
    f"ece-{ECE_BINS}ew-top1/1",
    "ece",
    formula="sum_b n_b/N |accuracy_b - mean confidence_b|, confidence = max_c p(c | x_n), "
    f"{ECE_BINS} bins (a, b] of equal width over [0, 1]",
    unit="fraction",
    direction="lower",
    source="Guo et al. (2017), arXiv:1706.04599",
)
def ece(log_probs: Tensor, y: Tensor) -> Tensor:
    """Return the expected calibration error of the top label, [R], a fraction."""
    confidence, top = log_probs.exp().max(-1)  # [R, N]
    # n_b/N |accuracy_b - confidence_b| = |sum of (hit - confidence) in b| / N, so an empty bin needs no care.
    gaps = torch.zeros(len(confidence), ECE_BINS, dtype=torch.float64)
    gaps.scatter_add_(1, confidence_bin(confidence), (top == y).double() - confidence)
    return gaps.abs().sum(-1) / confidence.shape[-1]


def confidence_bin(confidence: Tensor) -> Tensor:
    """Return the bin, 0 to ECE_BINS - 1, of each confidence; one on an edge belongs to the bin below."""
    return torch.bucketize(confidence, torch.linspace(0, 1, ECE_BINS + 1, dtype=torch.float64)[1:-1])


def reliability(prediction: Prediction, y: Tensor) -> dict[str, Tensor]:
    """Return what a reliability diagram of the averaged predictive shows, a number a bin of the ECE.

    Returns:
        confidence and accuracy: their means in each bin, [ECE_BINS], fractions, NaN in an empty bin; count:
        examples in each bin, [ECE_BINS]. sum_b count_b / N |accuracy_b - confidence_b| is the column ece.

    Raises:
        ValueError: if y does not fit the prediction.
    """
    log_probs, y = _inputs(prediction, y, "averaged predictive")
    confidence, top = log_probs[0].exp().max(-1)  # [N]
    sums = torch.zeros(3, ECE_BINS, dtype=torch.float64)
    parts = torch.stack([confidence, (top == y).double(), torch.ones_like(confidence)])
    sums.scatter_add_(1, confidence_bin(confidence).expand(3, -1), parts)
    return {"confidence": sums[0] / sums[2], "accuracy": sums[1] / sums[2], "count": sums[2]}

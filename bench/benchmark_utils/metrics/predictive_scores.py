"""Scores of how foreign an example looks to a predictive: each rises the more out-of-distribution it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmark_utils.metrics.prediction import Prediction


@dataclass(frozen=True)
class ForeignScore:
    """One definition.

    Attributes:
        id: name/version; a changed definition gets a new version. The name is what columns end with.
        formula: in symbols; p_s is sample s, p = mean_s p_s, H the entropy in nats.
        source: where the definition comes from.
        compute: from a prediction for N examples to a score for each, [N]; NaN if it cannot be computed.
    """

    id: str
    formula: str
    source: str
    compute: Callable[[Prediction], Tensor]


def msp(prediction: Prediction) -> Tensor:
    """Return minus the largest probability of the averaged predictive, [N], -1 to -1/C."""
    return -prediction.averaged_log_probs().amax(-1).exp()


SCORES = {
    "msp": ForeignScore(
        "msp/1", "-max_c p(c | x)", "Hendrycks and Gimpel (2017), maximum softmax probability, arXiv:1610.02136", msp
    ),
    "entropy": ForeignScore(
        "entropy/1", "H(p(. | x))", "entropy of the averaged predictive: total uncertainty", Prediction.entropy
    ),
    "mi": ForeignScore(
        "mi/1",
        "H(p(. | x)) - mean_s H(p_s(. | x)), for two samples or more",
        "Houlsby et al. (2011), arXiv:1112.5745: mutual information of class and weights, epistemic uncertainty",
        Prediction.mutual_information,
    ),
}


def foreign_scores(prediction: Prediction) -> dict[str, Tensor]:
    """Return every score by its name, each [N].

    Raises:
        ValueError: if the prediction is of a regression.
    """
    return {name: score.compute(prediction) for name, score in SCORES.items()}

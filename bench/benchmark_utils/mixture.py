"""The predictive of a set of weight samples: the equal-weight mixture of what each of them predicts."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark_utils.prediction import Prediction
from fiberbnn import Network


def mixture_prediction(network: Network, weights: Tensor, x: Tensor, noise_std: float | None = None) -> Prediction:
    """Return the prediction of weight samples at inputs.

    Args:
        network: the task's network.
        weights: samples, [S, P]; the same for all inputs.
        x: inputs, [N, D].
        noise_std: of a regression with one output; None for classification.

    Raises:
        ValueError: if a sample's outputs are NaN.
    """
    outputs = network(weights, x)  # [S, N, C]
    if noise_std is None:
        return Prediction(log_probs=outputs.double().log_softmax(-1))
    mean = outputs[..., 0]
    return Prediction(mean=mean, variance=torch.full_like(mean, noise_std**2))

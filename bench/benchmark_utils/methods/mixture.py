"""The predictive of a set of weight samples: the equal-weight mixture of what each of them predicts."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.task import Task
from fiberbnn import Network
from fiberbnn.batch_norm import statistics_of
from fiberbnn.predictive import outputs_of

# A forward pass over all the images that a row is made of, shifted ones included, takes a small network 0.3 s: more
# samples would make a row of predictions dearer than the fit. Tables keep what each solver says.
IMAGE_SAMPLES = 50
# Feature maps of so many images stay in the cache: measured, 250 to 500 at once go through 1.6 times as fast as 1,000.
IMAGE_ROWS = 250


def samples_for(task: Task, n_samples: int) -> int:
    """Return how many weight samples a method predicts with: its own number, at most IMAGE_SAMPLES for images."""
    return n_samples if task.architecture is None else min(n_samples, IMAGE_SAMPLES)


def mixture_prediction(
    network: Network,
    weights: Tensor,
    x: Tensor,
    noise_std: float | None = None,
    *,
    buffers: dict[str, Tensor] | None = None,
) -> Prediction:
    """Return the prediction of weight samples at inputs.

    Args:
        network: the task's network.
        weights: samples, [S, P]; the same for all inputs.
        x: inputs, [N, D] or [N, C, H, W]; memory beside the result does not grow with N.
        noise_std: of a regression with one output; None for classification.
        buffers: batch-norm statistics of each sample, name -> [S, ...]; None for those of the network.

    Raises:
        ValueError: if a sample's outputs are NaN.
    """
    rows = IMAGE_ROWS if x.ndim > 2 else len(x)
    parts = [outputs_of(network, weights, part, buffers=buffers).cpu() for part in x.split(rows)]
    outputs = torch.cat(parts, dim=1)  # [S, N, C]
    if noise_std is None:
        return Prediction(log_probs=outputs.double().log_softmax(-1))
    mean = outputs[..., 0]
    return Prediction(mean=mean, variance=torch.full_like(mean, noise_std**2))


def has_batch_norm(network: Network) -> bool:
    """Return whether the network keeps batch-norm statistics, which no weight vector holds."""
    return bool(statistics_of(network.model))

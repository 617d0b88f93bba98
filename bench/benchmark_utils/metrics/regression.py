"""Scores of R mixtures of S Gaussians: means and standard deviations, [R, S, N], and targets, [N], to [R]."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.special import ndtr

from benchmark_utils.metrics.metric import Reading, both_readings, metric
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.task import Task


def _inputs(prediction: Prediction, y: Tensor, reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
    """Means and standard deviations, [1, S, N] averaged or [S, 1, N] single, and checked targets, [N]."""
    mean, variance = prediction.gaussians
    y = y.squeeze(-1) if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != mean.shape[1:] or not bool(y.isfinite().all()):
        raise ValueError(f"targets must be finite, [{mean.shape[1]}] or [{mean.shape[1]}, 1], got {tuple(y.shape)}")
    axis = 0 if reading == "averaged predictive" else 1
    return mean.unsqueeze(axis), variance.sqrt().unsqueeze(axis), y.to("cpu", torch.float64)


_both_readings = partial(both_readings, kind="regression", inputs=_inputs)


@_both_readings(
    "nll-gaussian-mixture/1",
    "nll",
    formula="-mean_n log p(y_n | x_n), a density",
    unit="nats per example",
    direction="lower",
    source="Gneiting and Raftery (2007), logarithmic score, doi:10.1198/016214506000001437",
)
def nll(mean: Tensor, sd: Tensor, y: Tensor) -> Tensor:
    """Return the mean negative log-density of the targets, [R], nats per example."""
    log_density = -0.5 * ((y - mean) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)
    return (math.log(mean.shape[1]) - log_density.logsumexp(1)).mean(-1)


@_both_readings(
    "rmse/1",
    "rmse",
    formula="sqrt(mean_n (E_p[y | x_n] - y_n)^2)",
    unit="units of y",
    direction="lower",
    source="root mean squared error",
)
def rmse(mean: Tensor, sd: Tensor, y: Tensor) -> Tensor:
    """Return the root mean squared error of the mixture's mean, [R], units of y."""
    return (mean.mean(1) - y).square().mean(-1).sqrt()


@_both_readings(
    "crps-gaussian-mixture/1",
    "crps",
    formula="mean_n E|Y - y_n| - E|Y - Y'|/2, Y and Y' independent draws of p(. | x_n), in closed form",
    unit="units of y",
    direction="lower",
    source="Grimit et al. (2006), doi:10.1256/qj.05.235",
)
def crps(mean: Tensor, sd: Tensor, y: Tensor) -> Tensor:
    """Return the continuous ranked probability score, [R], units of y."""
    n_samples = mean.shape[1]
    to_target = _expected_distance(y - mean, sd).mean(1)  # [R, N]
    # One component at a time, since all pairs together would take S^2 N numbers; i < j stands for (j, i) too.
    pairs = _expected_distance(torch.zeros_like(mean), math.sqrt(2) * sd).sum(1)
    for i in range(n_samples - 1):
        scale = torch.hypot(sd[:, i : i + 1], sd[:, i + 1 :])
        pairs += 2 * _expected_distance(mean[:, i : i + 1] - mean[:, i + 1 :], scale).sum(1)
    return (to_target - pairs / (2 * n_samples**2)).mean(-1)


def _expected_distance(mean: Tensor, sd: Tensor) -> Tensor:
    """E|Z| for a normal Z, elementwise."""
    z = mean / sd
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return 2 * sd * density + mean * (2 * ndtr(z) - 1)


@_both_readings(
    "coverage90-central/1",
    "coverage90",
    formula="mean_n [q_0.05(x_n) <= y_n <= q_0.95(x_n)], q the quantiles of p(. | x_n)",
    unit="fraction",
    direction="0.9",
    source="central 90 % interval of the predictive",
)
def coverage90(mean: Tensor, sd: Tensor, y: Tensor) -> Tensor:
    """Return the share of targets inside the central 90 % interval, [R], a fraction."""
    # A mixture's distribution function rises strictly, so y lies between two quantiles exactly when F(y) lies
    # between their levels: no quantile has to be searched for.
    level = ndtr((y - mean) / sd).mean(1)
    return ((level >= 0.05) & (level <= 0.95)).double().mean(-1)


def gap_spread(predict: Callable[[Tensor], Prediction], task: Task) -> dict[str, float]:
    """Return the columns sd_gap and sd_data of a gap regression: how sure a method is with and without data.

    In the units of the data.

    Raises:
        ValueError: if the task has no known noise, as classification has not.
    """
    if task.noise_std is None:
        raise ValueError(f"task {task.name!r} has no gap and no known noise")
    x = torch.cat([torch.full_like(task.x_train[:1], task.gap_middle), task.x_train])
    sd = predict(x).function_sd(task.noise_std) * task.y_units.scale
    return {"sd_gap": sd_gap(sd), "sd_data": sd_data(sd)}


_spread = partial(
    metric,
    unit="units of y",
    direction="the reference posterior's",
    reading="spread",
    source="standard deviation of the function under the posterior, observation noise taken off the variance",
)


@_spread("function-sd-gap/1", "sd_gap", "regression", formula="sd(f(x)), x the middle of the gap")
def sd_gap(sd: Tensor) -> float:
    """Return the function's standard deviation in the middle of the gap, from sd [1 + N]: there first."""
    return float(sd[0])


@_spread("function-sd-data/1", "sd_data", "regression", formula="mean_n sd(f(x_n)) over the training inputs")
def sd_data(sd: Tensor) -> float:
    """Return the function's mean standard deviation over the training inputs, from sd [1 + N]."""
    return float(sd[1:].mean())

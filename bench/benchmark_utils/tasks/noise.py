"""The observation noise of a regression whose noise is not known: fitted once, before the MAP, for every method.

Our rule: a fifth of the training part is held out, the network is trained on the rest as to a MAP, and the noise is
the root mean squared error on the fifth. Training needs a noise itself, so it starts from that of ignorance, the
targets' own standard deviation, and is repeated from where it stopped with what was found, as long as that falls by
a tenth. Residuals of the training rows themselves would be far too small: 50 units nearly interpolate a small set.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchopt.benchmark import get_running_benchmark
from filelock import FileLock
from joblib import Memory

from benchmark_utils.tasks.shared_map import map_key
from benchmark_utils.tasks.task import NoiseFit, Task
from fiberbnn import Gaussian, fit_map

HELD_OUT = 0.2
ROUNDS, STEPS = 4, 300  # most trainings, most L-BFGS steps of each


def with_fitted_noise(task: Task) -> Task:
    """Return the task with its noise, fitted if it has none; what is known, or no regression, comes back as it is.

    The fit is taken from benchopt's cache folder if some method has asked for it before; otherwise the first to ask
    makes it while others wait.
    """
    if task.kind != "regression" or task.noise_std is not None:
        return task
    benchmark = get_running_benchmark()
    location = None if benchmark is None else benchmark.get_cache_location()
    if location is None:
        fit = fit_noise(task)
    else:
        key, folder = map_key(task), Path(location)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"noise-{task.name}-{task.seed}-{key}.lock"):
            fit = Memory(folder, verbose=0).cache(_fit_noise_of_key, ignore=["task"])(key, task)
    return replace(task, noise_std=fit.std, noise_fit=fit)


def fit_noise(task: Task) -> NoiseFit:
    """Return the noise of a regression by the rule above, fitted on one thread.

    Raises:
        ValueError: if the training part is too small to hold a fifth of it out.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    n_rows = len(task.x_train)
    n_held_out = round(HELD_OUT * n_rows)
    if n_held_out < 2:
        raise ValueError(f"{task.name} has {n_rows} training rows: too few to fit the noise, give noise_std")
    order = torch.from_numpy(np.random.default_rng(task.seed).permutation(n_rows))
    held_out, rest = order[:n_held_out], order[n_held_out:]
    x, y, model, grad_evals = task.x_train, task.y_train, task.make_model(), 0.0
    std = float(y[rest].std(correction=0))
    for _ in range(ROUNDS):
        fit = fit_map(
            model, x[rest], y[rest], Gaussian(std), prior_precision=task.prior_precision, max_steps=STEPS
        )  # fmt: skip
        grad_evals += fit.grad_evals * len(rest) / n_rows
        with torch.no_grad():
            found = float((fit.model(x[held_out]) - y[held_out]).square().mean().sqrt())
        falls, std, model = found < 0.9 * std, min(found, std), fit.model
        if not falls:
            break
    return NoiseFit(std, time.perf_counter() - start, grad_evals)


def _fit_noise_of_key(key: str, task: Task) -> NoiseFit:
    """The form that joblib caches: by the key, not by a pickle of the task."""
    return fit_noise(task)

"""The MAP of a task and seed, trained once: every method gets the same weights at the same price."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from benchopt.benchmark import get_running_benchmark
from filelock import FileLock
from joblib import Memory

from benchmark_utils.task import Task
from fiberbnn import Energy, MapFit, Network, fit_map


def shared_map(task: Task) -> MapFit:
    """Return the MAP of this task, from benchopt's cache folder if some method has asked for it before.

    The first to ask trains it while the others wait, so that no two methods see different weights or seconds.
    """
    benchmark = get_running_benchmark()
    location = None if benchmark is None else benchmark.get_cache_location()
    if location is None:  # run without a cache: the seed makes the weights the same, only the seconds differ
        return train_map(task)
    key, folder = map_key(task), Path(location)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"map-{task.name}-{task.seed}-{key}.lock"):
        return Memory(folder, verbose=0).cache(_train_map_of_key, ignore=["task"])(key, task)


def shared_energy(task: Task, map_fit: MapFit) -> Energy:
    """Return the energy of this task over the weights of its MAP, with a count of its own."""
    return Energy(Network(map_fit.model), task.likelihood(), task.x_train, task.y_train, task.prior_precision)


def map_key(task: Task) -> str:
    """Return 16 hexadecimal digits of what the MAP depends on: split, network, prior, noise and seed."""
    settings = (
        task.name,
        task.kind,
        task.widths,
        task.activation,
        task.noise_std,
        task.prior_precision,
        task.seed,
    )
    digest = hashlib.sha256(repr(settings).encode())
    for array in (task.x_train, task.y_train):
        digest.update(array.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def train_map(task: Task, seed: int | None = None, *, max_steps: int = 20_000) -> MapFit:
    """Return a MAP of this task, trained on one thread.

    Args:
        task: the task at one seed.
        seed: of the initial weights; the task's own if None.
        max_steps: most L-BFGS iterations.
    """
    torch.set_num_threads(1)
    return fit_map(
        task.make_model(seed),
        task.x_train,
        task.y_train,
        task.likelihood(),
        prior_precision=task.prior_precision,
        max_steps=max_steps,
    )


def _train_map_of_key(key: str, task: Task) -> MapFit:
    """The form that joblib caches: by the key, not by a pickle of the task."""
    # What a process pays once (first calls into torch) would make the MAP look dear and the methods cheap.
    train_map(task, max_steps=1)
    return train_map(task)

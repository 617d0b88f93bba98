"""The MAP of a task and seed, trained once: every method gets the same weights at the same price."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from benchopt.benchmark import get_running_benchmark
from filelock import FileLock
from joblib import Memory

from benchmark_utils.tasks.task import Task
from fiberbnn import Energy, MapFit, Network, fit_map
from fiberbnn.data import ExamplesInMemory
from fiberbnn.minibatch import MinibatchEnergy

MAX_STEPS = 20_000  # of L-BFGS, full batches


def shared_map(task: Task, member: int = 0) -> MapFit:
    """Return the MAP of this task, from benchopt's cache folder if some method has asked for it before.

    Member 0 is the one that all methods share; the others are trained the same way from other seeds, those of the
    members of an ensemble. A method that uses them is charged their seconds and gradients.

    The first to ask trains it while the others wait, so that no two methods see different weights or seconds. Where
    the noise was fitted, the seconds and gradients of that are among those of member 0.
    """
    benchmark = get_running_benchmark()
    location = None if benchmark is None else benchmark.get_cache_location()
    seed = member_seed(task, member)
    if location is None:  # run without a cache: the seed makes the weights the same, only the seconds differ
        fit = train_map(task, seed)
    else:
        key, folder = f"{map_key(task)}-{member}", Path(location)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"map-{task.name}-{task.seed}-{key}.lock"):
            fit = Memory(folder, verbose=0).cache(_train_map_of_key, ignore=["task", "seed"])(key, task, seed)
    if task.noise_fit is None or member > 0:  # an ensemble fits the noise once
        return fit
    noise = task.noise_fit
    return replace(fit, seconds=fit.seconds + noise.seconds, grad_evals=fit.grad_evals + round(noise.grad_evals))


def member_seed(task: Task, member: int) -> int:
    """Return the seed of a member's initial weights: the task's own, or one that no other task seed has."""
    return task.seed if member == 0 else 1000 * (task.seed + 1) + member


def shared_energy(task: Task, map_fit: MapFit) -> Energy | MinibatchEnergy:
    """Return the energy of this task over the weights of its MAP, with a count of its own.

    Image tasks see it through minibatches of the size that trained the MAP; called, it is that of all data.
    """
    network, likelihood, tau = Network(map_fit.model), task.likelihood(), task.prior_precision
    if task.training is None:
        return Energy(network, likelihood, task.x_train, task.y_train, tau)
    examples = ExamplesInMemory(task.x_train, task.y_train)
    return MinibatchEnergy(network, likelihood, examples, tau, batch_size=batch_size_of(task), seed=task.seed)


def batch_size_of(task: Task) -> int:
    """Return the size of minibatches of a task that is trained by them, no more than its training images."""
    assert task.training is not None
    return min(task.training.batch_size, len(task.x_train))


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
        task.architecture,
        task.training,
        task.map_steps,
    )
    digest = hashlib.sha256(repr(settings).encode())
    for array in (task.x_train, task.y_train):
        digest.update(array.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def train_map(task: Task, seed: int | None = None, *, briefly: bool = False) -> MapFit:
    """Return a MAP of this task, trained on one thread; image tasks by minibatches, as their `training` says.

    Args:
        task: the task at one seed.
        seed: of the initial weights and the order of images; the task's own if None.
        briefly: train for a step or one minibatch only, to pay what the first calls cost.
    """
    torch.set_num_threads(1)
    model, likelihood, tau = task.make_model(seed), task.likelihood(), task.prior_precision
    x, y, training = task.x_train, task.y_train, task.training
    if training is None:
        steps = 1 if briefly else task.map_steps or MAX_STEPS
        return fit_map(model, x, y, likelihood, prior_precision=tau, max_steps=steps)
    rows = batch_size_of(task) if briefly else len(x)
    return fit_map(
        model.to(x.device),
        x[:rows],
        y[:rows],
        likelihood,
        prior_precision=tau,
        batch_size=batch_size_of(task),
        epochs=1 if briefly else training.epochs,
        learning_rate=training.learning_rate,
        seed=task.seed if seed is None else seed,
    )


def _train_map_of_key(key: str, task: Task, seed: int) -> MapFit:
    """The form that joblib caches: by the key, not by a pickle of the task."""
    # What a process pays once (first calls into torch) would make the MAP look dear and the methods cheap.
    train_map(task, briefly=True)
    return train_map(task, seed)

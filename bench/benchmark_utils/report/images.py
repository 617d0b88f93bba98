"""Which out-of-distribution sets and shifts the rows have, read from the rows themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

DISTANCES = ("near", "far")


@dataclass(frozen=True)
class ShiftColumn:
    """A column that holds a score under one shift: which score, which shift, how strong, in which unit."""

    name: str
    score: str
    shift: str
    strength: float
    unit: str


def ood_sets(rows: pd.DataFrame) -> dict[str, str]:
    """Return "near" or "far" by the name of each out-of-distribution set, near ones first."""
    return {
        name: distance
        for distance in DISTANCES
        for cell in rows.get(f"ood_{distance}", pd.Series(dtype=str)).dropna().unique()
        for name in cell.split(", ")
        if name
    }


def mean_auroc(rows: pd.DataFrame, score: str = "entropy") -> pd.Series:
    """Return, a row, the mean AUROC over all out-of-distribution sets of these rows; NaN if one of them is missing."""
    return rows[[f"auroc_{name}_{score}" for name in ood_sets(rows)]].mean(axis=1, skipna=False)


def shift_columns(rows: pd.DataFrame) -> list[ShiftColumn]:
    """Return the columns of scores under shift, sorted by score, shift and strength."""
    units: dict[str, str] = {}
    for cell in rows.get("shift_units", pd.Series(dtype=str)).dropna().unique():
        units |= json.loads(cell) if cell else {}
    found = []
    for name in rows.columns:
        score, _, place = str(name).partition("_")
        shift, _, strength = place.rpartition("_")
        # "shifted", the mean over all, and "unshifted" have no strength.
        if score in ("nll", "accuracy", "ece") and shift in units:
            found.append(ShiftColumn(str(name), score, shift, float(strength), units[shift]))
    return sorted(found, key=lambda column: (column.score, list(units).index(column.shift), column.strength))

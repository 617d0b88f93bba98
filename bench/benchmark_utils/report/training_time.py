"""What a method's training cost in all: its own, and that of the shared MAP where it starts there."""

from __future__ import annotations

import pandas as pd

COLUMN = "starts_from_map"
_NO = ("False", "0", "0.0")  # as truth values, numbers and text stand in rows; a gap means yes


def map_share(rows: pd.DataFrame) -> pd.Series:
    """Return 1.0 for each row whose method pays for the shared MAP, and 0.0 where it says that it does not start there.

    Args:
        rows: with or without the column starts_from_map.
    """
    if COLUMN not in rows:
        return pd.Series(1.0, rows.index)
    return 1.0 - rows[COLUMN].astype(str).isin(_NO)


def training_time(rows: pd.DataFrame) -> pd.Series:
    """Return the seconds of training of each row: fit_s, and map_s where the method starts from the MAP."""
    return rows["fit_s"] + rows["map_s"] * map_share(rows)


def total_gradients(rows: pd.DataFrame) -> pd.Series:
    """Return the gradients of each row, and those of the MAP's training where the method starts from it."""
    return rows["gradients"] + rows["map_grad_evals"] * map_share(rows)

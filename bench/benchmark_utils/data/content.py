"""What a table is: canonical arrays and one hash of them, whatever source they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value


class MissingDataError(RuntimeError):
    """No source has the data; the message names what to set or install."""


@dataclass(frozen=True, eq=False)
class Content:
    """The canonical arrays of a data set: rows sorted, so that a source's own row order does not matter."""

    x: np.ndarray  # [N, D], float64
    y: np.ndarray  # [N], int64 labels or float64 targets
    class_names: tuple[str, ...]  # empty for regression
    sha256: str
    source: str
    order: np.ndarray  # [N], int64: the row of the source that each row was


def canonical(dataset: Dataset, source: str) -> Content:
    """Return the canonical content of a table.

    Rows are sorted by x0, x1, ..., then the label or target, and -0.0 becomes 0.0. Nothing is scaled or
    rounded. The hash covers the shape, inputs and targets as little-endian float64, and labels as int64.

    Raises:
        ValueError: if a column is missing or unexpected, or holds NaN or infinity.
    """
    # Column by column: the "numpy" format of datasets turns float64 into float32 without a word.
    table = dataset.data.table
    target = "label" if "label" in table.column_names else "y"
    inputs = [f"x{i}" for i in range(table.num_columns - 1)]
    if set(table.column_names) != {*inputs, target}:
        raise ValueError(f"{source}: the columns must be x0, x1, ... and label or y, not {table.column_names}")
    # Adding 0.0 turns -0.0 into 0.0.
    x = np.stack([table[name].to_numpy().astype("<f8") + 0.0 for name in inputs], axis=1)
    y = table[target].to_numpy().astype("<i8") if target == "label" else table[target].to_numpy().astype("<f8") + 0.0
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{source}: the table holds NaN or infinite values")
    order = np.lexsort((y, *x.T[::-1]))
    x, y = x[order], y[order]
    digest = hashlib.sha256(f"{target} {x.shape}".encode())
    digest.update(x.tobytes())
    digest.update(y.tobytes())
    feature = dataset.features[target]
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
    return Content(x, y, names, digest.hexdigest(), source, order)


def to_dataset(x: np.ndarray, y: np.ndarray | Sequence[str], class_names: Sequence[str] = ()) -> Dataset:
    """Return a table of x [N, D] as x0, x1, ... and y [N] as `y`, or as `label` if there are class names."""
    target = "label" if class_names else "y"
    features = {f"x{i}": Value("float64") for i in range(x.shape[1])}
    features[target] = ClassLabel(names=list(class_names)) if class_names else Value("float64")
    columns = {f"x{i}": x[:, i] for i in range(x.shape[1])}
    return Dataset.from_dict({**columns, target: y}, features=Features(features))

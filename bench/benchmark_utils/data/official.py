"""The official file of a table, a CSV at an address, through `datasets`; what it takes to read it, as data.

The conversions are tested against a local server that hands out the known content in the official form, and what comes
from anywhere is checked by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset, Features, Value

from benchmark_utils.data.content import MissingDataError, to_dataset
from benchmark_utils.data.reachable import why_unreachable

WHITESPACE = r"\s+"


@dataclass(frozen=True)
class OfficialTable:
    """How the files of a publisher become the canonical columns.

    Attributes:
        urls: the files, whose rows follow each other.
        inputs: the files' columns that are x0, x1, ..., counted from 0.
        target: the column that is the target, or the label.
        separator: between columns, a regular expression where it is longer than a character.
        labels: the files' label to the class's name, in the order of the canonical labels; empty for regression.
        missing: the entry that says that a value is missing: such rows are left out.
        header: whether the first line of a file names the columns.
    """

    urls: tuple[str, ...]
    inputs: tuple[int, ...]
    target: int
    separator: str = ","
    labels: Mapping[str, str] = field(default_factory=dict)
    missing: str = "?"
    header: bool = False


def from_official(table: OfficialTable) -> Dataset:
    """Return the published table with the canonical columns, its rows in the order of the files.

    Raises:
        MissingDataError: if the files cannot be had.
        ValueError: if they hold other columns, numbers or labels than they should.
    """
    columns = read_csv(table.urls, (*table.inputs, table.target), table.separator, header=table.header)
    rows = [row for row in zip(*columns, strict=True) if table.missing not in row[:-1]]
    targets, where = [row[-1] for row in rows], table.urls[0]
    if not rows:
        raise MissingDataError(f"{where} could not be read as CSV: it has no rows")
    try:
        x = np.array([[float(value) for value in row[:-1]] for row in rows])
        if not table.labels:
            return to_dataset(x, np.array([float(value) for value in targets]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} does not hold numbers where it should: {error}") from error
    if unknown := set(targets) - set(table.labels):
        raise ValueError(f"{where} has labels {sorted(map(str, unknown))}, expected {list(table.labels)}")
    return to_dataset(x, [table.labels[value] for value in targets], list(table.labels.values()))


def read_csv(urls: Sequence[str], columns: Sequence[int], separator: str, *, header: bool = False) -> list[list[str]]:
    """Return columns of CSV files, each one list of text: a float that is read as text keeps its last bit.

    Args:
        urls: the files, whose rows follow each other.
        columns: which columns, counted from 0.
        separator: between columns.
        header: whether the first line of a file names the columns.

    Raises:
        MissingDataError: if the network is switched off by HF_HUB_OFFLINE, or the files cannot be had or read.
    """
    import datasets

    if (why := why_unreachable(urls[0])) is not None:
        raise MissingDataError(why)
    kept = sorted(columns)
    names = [f"c{i}" for i in kept]
    try:
        found = datasets.load_dataset(
            "csv",
            data_files=list(urls),
            split="train",
            sep=separator,
            header=0 if header else None,
            usecols=kept,
            column_names=names,
            features=Features({name: Value("string") for name in names}),
            keep_default_na=False,
            skipinitialspace=True,
        )
    # Whatever is wrong with the address or the file, the answer is the same: this source does not have it.
    except (ImportError, OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise MissingDataError(f"{urls[0]} could not be read as CSV: {lines[0][:200]}") from error
    return [list(found[f"c{i}"]) for i in columns]

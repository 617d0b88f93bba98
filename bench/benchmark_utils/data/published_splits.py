"""Published divisions of a data set into training and test rows: read, made canonical, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from benchmark_utils.data.content import Content, MissingDataError
from benchmark_utils.data.official import WHITESPACE, read_csv


@dataclass(frozen=True)
class PublishedSplits:
    """The divisions that belong to a data set.

    Attributes:
        count: how many there are.
        sha256: of all of them, see `splits_hash`.
        urls: the official files, one a split, that list the test rows of the official table by their number.
        citation: whom to cite.
    """

    count: int
    sha256: str
    urls: tuple[str, ...]
    citation: str


def listed_test_rows(table: Dataset, name: str) -> list[np.ndarray]:
    """Return the test rows of each split, numbers of the source's rows, from a table of split, row and part.

    Raises:
        ValueError: if the table has other columns.
    """
    wanted = {"split", "row", "part"}
    if set(table.column_names) != wanted:
        raise ValueError(f"the splits of {name} need the columns split, row and part, not {table.column_names}")
    columns = table.data.table
    split, row = columns["split"].to_numpy(), columns["row"].to_numpy()
    is_test = columns["part"].to_numpy() == "test"
    return [row[is_test & (split == number)] for number in range(int(split.max()) + 1)]


def official_test_rows(splits: PublishedSplits) -> list[np.ndarray]:
    """Return the test rows of each split, numbers of the official table's rows, from the official files.

    Raises:
        MissingDataError: if they cannot be had.
        ValueError: if they hold no row numbers.
    """
    # Row numbers are written as floating point there.
    return [
        np.array([float(row) for row in read_csv([url], [0], WHITESPACE)[0]]).astype(np.int64) for url in splits.urls
    ]


def canonical_test_rows(content: Content, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the test rows of each split as rows of the canonical content, in rising order.

    Raises:
        ValueError: if a split names a row twice, or one that there is not.
    """
    n = len(content.y)
    for number, part in enumerate(rows):
        if len(np.unique(part)) != len(part) or not 0 < len(part) < n or part.min() < 0 or part.max() >= n:
            raise ValueError(f"split {number} does not choose among {n} rows, each at most once")
    rank = np.empty(n, np.int64)
    rank[content.order] = np.arange(n)
    return [np.sort(rank[part]) for part in rows]


def splits_hash(content: Content, rows: Sequence[np.ndarray]) -> str:
    """Return the SHA-256 of all splits, test rows as int64, equal rows of the table told apart by nothing."""
    values = np.column_stack([content.x, content.y])
    is_new = np.r_[True, (values[1:] != values[:-1]).any(axis=1)]
    first = np.flatnonzero(is_new)[is_new.cumsum() - 1]
    digest = hashlib.sha256(f"test rows, {len(rows)} splits".encode())
    for part in rows:
        digest.update(np.sort(first[part]).astype("<i8").tobytes() + b"|")
    return digest.hexdigest()


def split_of(content: Content, rows: Sequence[np.ndarray], number: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return training and test rows of one split, each in rising order, disjoint and together all rows.

    Raises:
        ValueError: if there is no split of this number.
    """
    if number >= len(rows):
        raise ValueError(f"{name} has {len(rows)} published splits: the seed must be one of 0 to {len(rows) - 1}")
    is_test = np.zeros(len(content.y), bool)
    is_test[rows[number]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def missing_splits(name: str, why: str) -> MissingDataError:
    """Return the error that says that a data set is there and its published splits are not."""
    return MissingDataError(f"the published splits of {name!r} are not at hand: {why}")

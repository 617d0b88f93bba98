"""Reads rows that somebody else wrote, Parquet or CSV: tables of plain values, and nothing in them is ever executed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

MOST_BYTES = 64 * 2**20  # of the file
MOST_UNPACKED = 512 * 2**20  # bytes of a Parquet file's columns, of which few can stand for many
MOST_ROWS = 50_000
MOST_COLUMNS = 2_000
_MAGIC = b"PAR1"  # at both ends of a Parquet file


class UnreadableRowsError(ValueError):
    """A file that is not a table of rows; the message says why in one line, and what to do."""


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a file as they stand in it: numbers, text and truth values; those of CSV are all text.

    Raises:
        UnreadableRowsError: if there is no such file, it is torn, too large, or holds anything but plain values.
    """
    try:
        if not path.is_file():
            raise UnreadableRowsError(f"{path}: there is no such file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UnreadableRowsError(
                f"{path}: {size / 2**20:.0f} MiB, where rows have at most {MOST_BYTES / 2**20:.0f}: split it"
            )
        rows = _parquet(path) if _looks_like_parquet(path) else _csv(path)
    except UnreadableRowsError:
        raise
    # pyarrow and pandas raise many kinds for files that are torn or were made to look like what they are not.
    except (OSError, ValueError, TypeError, OverflowError, MemoryError, pa.ArrowException) as error:
        raise UnreadableRowsError(f"{path}: it cannot be read: {_one_line(error)}; write it again") from error
    if rows.empty:
        raise UnreadableRowsError(f"{path}: it has no rows")
    return rows


def _looks_like_parquet(path: Path) -> bool:
    """Whether it is a Parquet file by its first bytes, or by its name."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC or path.suffix == ".parquet"


def _parquet(path: Path) -> pd.DataFrame:
    """The rows of a Parquet file, whose sizes and types are looked at before anything is unpacked."""
    with pq.ParquetFile(path) as file:
        about = file.metadata
        _refuse_size(path, about.num_rows, about.num_columns)
        unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if unpacked > MOST_UNPACKED:
            raise UnreadableRowsError(f"{path}: it unpacks to {unpacked / 2**20:.0f} MiB: split it")
        schema = file.schema_arrow
        _refuse_names(path, schema.names)
        for field in schema:
            if not _is_plain(field.type):
                raise UnreadableRowsError(
                    f"{path}: column {field.name[:60]!r} holds {field.type!s:.60}; "
                    "a row is made of text, numbers and truth values only: drop it or write it as one of these"
                )
        # Without what pandas noted beside the table, which is not part of the rows.
        return file.read().replace_schema_metadata(None).to_pandas(ignore_metadata=True)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values of this type are text, numbers or truth values."""
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating,
        pa.types.is_boolean, pa.types.is_null,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV file, all text."""
    with path.open(encoding="utf-8", newline="") as file:
        names = pd.read_csv(file, dtype=str, header=None, nrows=1, keep_default_na=False).iloc[0].tolist()
    _refuse_names(path, names)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", index_col=False)
    _refuse_size(path, len(rows), len(rows.columns))
    return rows


def _refuse_size(path: Path, n_rows: int, n_columns: int) -> None:
    """Refuse what is no file of rows by its size."""
    if n_rows > MOST_ROWS or n_columns > MOST_COLUMNS:
        raise UnreadableRowsError(
            f"{path}: {n_rows:,} rows and {n_columns:,} columns, where at most {MOST_ROWS:,} and {MOST_COLUMNS:,} "
            "are taken: split it"
        )


def _refuse_names(path: Path, names: list[str]) -> None:
    """Refuse columns that come twice."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UnreadableRowsError(f"{path}: column {twice[0][:60]!r} comes twice: keep one of them")


def _one_line(error: BaseException) -> str:
    """The first words of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]

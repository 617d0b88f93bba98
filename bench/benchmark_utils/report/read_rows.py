"""Rows read back from Parquet, whoever wrote the file: whole and well-formed, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from benchmark_utils.report.refusals import RowsError
from benchmark_utils.report.rows import KEY, TEXT

STATUSES = ("done", "skipped", "failed", "diverged")
MOST_ROWS = 1_000_000
MOST_BYTES = 1 << 30  # in memory, as the file itself says


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a file that `write_rows` wrote, or of one that looks like it.

    Text columns are text without gaps, seeds are whole numbers, all else is numbers with NaN for gaps; columns that are
    in no list of ours are kept if they are text, numbers or truth values.

    Raises:
        RowsError: if there is no such file, it is torn or no Parquet file, holds something else than such rows, or two
            rows of one task, method, settings and seed.
    """
    try:
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            sizes = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
            if about.num_rows > MOST_ROWS or max(sizes, default=0) < 0 or sum(sizes) > MOST_BYTES:
                raise RowsError(f"{path} says that it has {about.num_rows} rows of {sum(sizes)} bytes: no file of rows")
            table = file.read()
    except FileNotFoundError as error:
        raise RowsError(f"there is no file {path}") from error
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, RowsError):
            raise
        said = " ".join(str(error).split())[:200]
        raise RowsError(f"{path} cannot be read, it is torn or no Parquet file: {said}") from error
    return _rows_of(table, str(path))


def _rows_of(table: pa.Table, path: str) -> pd.DataFrame:
    """The rows of a table, by our types."""
    names = table.column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RowsError(f"{path}: the column {twice[0]!r} is there twice")
    if missing := [name for name in (*KEY, "status") if name not in names]:
        raise RowsError(f"{path}: the columns {', '.join(missing)} are missing")
    columns = {name: _column(name, table[name], path) for name in names}
    rows = pd.DataFrame(columns)
    if unknown := sorted(set(rows["status"]) - set(STATUSES)):
        raise RowsError(f"{path}: {unknown[0]!r} is no status; there are {', '.join(STATUSES)}")
    if len(double := rows[rows.duplicated(KEY)]):
        one = ", ".join(f"{name} {value}" for name, value in double[KEY].iloc[0].items())
        raise RowsError(f"{path}: there are two rows of {one}")
    return rows


def _column(name: str, column: pa.ChunkedArray, path: str) -> pd.Series:
    """One column by our types."""
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    empty = pa.types.is_null(kind) or column.null_count == len(column)
    expected = "text" if name in TEXT else "numbers"
    if not (text or number or empty) or (name in (*TEXT, "seed") and not empty and text != (name in TEXT)):
        raise RowsError(f"{path}: the column {name!r} holds {kind}, not {expected}")
    if text or name in TEXT:
        return pd.Series(["" if value is None else value for value in column.to_pylist()], dtype=object)
    values = pd.Series([float("nan") if value is None else float(value) for value in column.to_pylist()], dtype=float)
    if name != "seed":
        return values
    if not values.between(0, 2**53).all() or not (values == values.round()).all():
        raise RowsError(f"{path}: seeds must be whole numbers from 0")
    return values.astype(int)

"""Rows read back, whoever wrote the file: plain values, whole and well-formed, or refused in words, nothing executed.

`read_plain` gives a table as it stands, for whoever lists all that is wrong with it; `read_rows` gives rows to count
with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmark_utils.report.refusals import RowsError
from benchmark_utils.report.rows import COLUMNS, KEY, TEXT

STATUSES = ("done", "skipped", "failed", "diverged")
MOST_BYTES = 64 * 2**20  # of the file
MOST_UNPACKED = 512 * 2**20  # bytes of a Parquet file's columns, of which few can stand for many
MOST_ROWS = 50_000
MOST_COLUMNS = 2_000
LONGEST = 20_000  # bytes of a text
BATCH = 1_024  # rows looked at together
_MAGIC = b"PAR1"  # at both ends of a Parquet file


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet file that `write_rows` wrote, or of one that looks like it.

    Text columns are text without gaps, seeds are whole numbers, all else is numbers with NaN for gaps; columns that are
    in no list of ours are kept if they are text, numbers or truth values.

    Raises:
        RowsError: as read_plain does; or if a column that every run needs is missing or of another type, or if two rows
            are of one task, method, settings and seed.
    """
    return _checked(path, lambda: _rows_of(_plain(path), path))


def read_plain(path: Path) -> pd.DataFrame:
    """Return a file's table as it stands, Parquet or CSV: numbers, text and truth values; those of CSV are all text.

    Raises:
        RowsError: if there is no such file, it is torn, too large, or holds no rows or anything but plain values.
    """
    return _checked(path, lambda: _plain(path))


def _checked(path: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What is read, or a refusal in one line."""
    try:
        return read()
    except RowsError:
        raise
    # pyarrow and pandas raise many kinds for files that are torn or were made to look like what they are not.
    except (OSError, ValueError, TypeError, OverflowError, MemoryError, pa.ArrowException) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RowsError(f"{path}: it cannot be read: {said}; write it again") from error


def _plain(path: Path) -> pd.DataFrame:
    """The table of either kind of file."""
    if not path.is_file():
        raise RowsError(f"{path}: there is no such file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise RowsError(f"{path}: {size / 2**20:.0f} MiB, where rows have at most {MOST_BYTES / 2**20:.0f}: split it")
    with path.open("rb") as file:
        is_parquet = file.read(4) == _MAGIC or path.suffix == ".parquet"
    rows = _parquet(path).to_pandas(ignore_metadata=True) if is_parquet else _csv(path)
    if rows.empty:
        raise RowsError(f"{path}: it has no rows")
    return rows


def _parquet(path: Path) -> pa.Table:
    """The table of a Parquet file, whose types are looked at before anything is unpacked, and sizes all along."""
    with pq.ParquetFile(path) as file:
        schema, about = file.schema_arrow, file.metadata
        _refuse_size(path, about.num_rows, about.num_columns)
        _refuse_names(path, schema.names)
    for field in schema:
        if not _is_plain(field.type):
            raise RowsError(
                f"{path}: column {field.name[:60]!r} holds {field.type!s:.60}; "
                "a row is made of text, numbers and truth values only: drop it or write it as one of these"
            )
    # The sizes in the file are what it claims. So text stays a dictionary, each value once, until its true size is
    # known, and the table is read bit by bit. (One page of a column is unpacked before anybody can measure it.)
    texts = [field.name for field in schema if _is_text(_decoded(field.type))]
    parts, n_rows, unpacked = [], 0, 0
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(BATCH):
            n_rows += batch.num_rows
            _refuse_size(path, n_rows, batch.num_columns)
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                unpacked += _unpacked(path, name, column)
                if unpacked > MOST_UNPACKED:
                    raise RowsError(f"{path}: it unpacks to more than {MOST_UNPACKED / 2**20:.0f} MiB: split it")
            columns = [column.cast(_decoded(column.type)) for column in batch.columns]
            parts.append(pa.RecordBatch.from_arrays(columns, names=batch.schema.names))
    # Of the columns alone, without what pandas noted beside the table, which is not part of the rows.
    return pa.Table.from_batches(parts, None if parts else pa.schema([]))


def _unpacked(path: Path, name: str, column: pa.Array) -> int:
    """Bytes of a column once its text is written out; longer texts than any row's are refused."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    if (longest := pc.max(lengths).as_py() or 0) > LONGEST:
        raise RowsError(f"{path}: column {name[:60]!r} has a text of {longest:,} bytes, where {LONGEST:,} are the most")
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0) + int(column.indices.nbytes)


def _decoded(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are numbers or truth values."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values of this type are text, numbers or truth values."""
    kind = _decoded(kind)
    return _is_text(kind) or _is_number(kind) or pa.types.is_null(kind)


def _csv(path: Path) -> pd.DataFrame:
    """The table of a CSV file, all text."""
    with path.open(encoding="utf-8", newline="") as file:
        names = pd.read_csv(file, dtype=str, header=None, nrows=1, keep_default_na=False).iloc[0].tolist()
    _refuse_size(path, 0, len(names))
    _refuse_names(path, names)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", index_col=False, nrows=MOST_ROWS + 1)
    _refuse_size(path, len(rows), len(rows.columns))
    return rows


def _refuse_size(path: Path, n_rows: int, n_columns: int) -> None:
    """Refuse what is no file of rows by its size."""
    if n_rows > MOST_ROWS or n_columns > MOST_COLUMNS:
        raise RowsError(
            f"{path}: {n_rows:,} rows and {n_columns:,} columns, where at most {MOST_ROWS:,} and {MOST_COLUMNS:,} "
            "are taken: split it"
        )


def _refuse_names(path: Path, names: list[str]) -> None:
    """Refuse columns that come twice."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RowsError(f"{path}: column {twice[0][:60]!r} comes twice: keep one of them")


def _rows_of(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A table by our types."""
    if missing := [name for name in (*KEY, "status") if name not in table]:
        raise RowsError(f"{path}: the columns {', '.join(missing)} are missing")
    rows = pd.DataFrame({name: _typed(str(name), values, path) for name, values in table.items()})
    if unknown := sorted(set(rows["status"]) - set(STATUSES)):
        raise RowsError(f"{path}: {unknown[0]!r:.60} is no status; there are {', '.join(STATUSES)}")
    if len(double := rows[rows.duplicated(KEY)]):
        one = ", ".join(f"{name} {value!s:.60}" for name, value in double[KEY].iloc[0].items())
        raise RowsError(f"{path}: there are two rows of {one!r}")
    return rows


def _typed(name: str, values: pd.Series, path: Path) -> pd.Series:
    """One column by our types."""
    there = values.dropna()
    is_text = bool(len(there)) and isinstance(there.iloc[0], str)
    expected_text = name in TEXT
    if len(there) and (expected_text or name in COLUMNS) and is_text != expected_text:
        held, expected = ("text", "numbers") if is_text else ("numbers", "text")
        raise RowsError(f"{path}: the column {name!r} holds {held}, not {expected}")
    if is_text or expected_text:
        return values.astype(object).where(values.notna(), "")
    numbers = values.astype(object).where(values.notna(), float("nan")).astype(float)
    if name != "seed":
        return numbers
    if not numbers.between(0, 2**53).all() or not (numbers == numbers.round()).all():
        raise RowsError(f"{path}: seeds must be whole numbers from 0")
    return numbers.astype(int)

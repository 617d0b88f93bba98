"""Files of rows that are damaged at random, or were made by something else: read, or refused in one line."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from benchmark_utils.report import read_rows as module
from benchmark_utils.report.read_rows import STATUSES, read_plain, read_rows
from benchmark_utils.report.refusals import RowsError
from benchmark_utils.report.rows import KEY, TEXT, Outcome, rows_from_results, write_rows

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = int(os.environ.get("FIBERBNN_FUZZ", "0"))  # the same few each time, or as many as this says, drawn anew
FUZZ = settings(
    max_examples=EXAMPLES or 100, derandomize=not EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a file with four rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    outcomes = [Outcome(f"t[seed={i}]", "m[a=1]", status, "why") for i, status in enumerate(STATUSES)]
    write_rows(rows_from_results(pd.DataFrame(), outcomes)[0], path)
    return path.read_bytes()


def read_or_refused(path: Path) -> pd.DataFrame | None:
    """Read a file; return its rows, or None if it was refused as it should be."""
    try:
        read_plain(path)
        rows = read_rows(path)
    except RowsError as error:
        assert str(path) in str(error)  # noqa: PT017 - most files are refused, not all
        assert "\n" not in str(error)  # noqa: PT017
        return None
    assert not rows.duplicated(KEY).any()
    assert set(rows["status"]) <= set(STATUSES)
    assert all(isinstance(value, str) for name in set(TEXT) & set(rows) for value in rows[name])
    return rows


@pytest.mark.parametrize("config", ["quick", "uci-small", "images"])
def test_the_stored_rows_are_read_as_they_were_written(config):
    path = ROOT / "results" / config / "rows.parquet"
    pd.testing.assert_frame_equal(read_rows(path), pd.read_parquet(path), check_dtype=False)


@FUZZ
@given(data=st.data())
def test_bytes_changed_cut_or_added(data, whole, tmp_path):
    damaged, path = bytearray(whole), tmp_path / "rows.parquet"
    for _ in range(data.draw(st.integers(1, 4))):
        # The footer, at the end, is what leads a reader through the file.
        where = data.draw(st.integers(0, len(damaged)) | st.integers(-4000, -1))
        if data.draw(st.booleans()) and damaged:
            damaged[where % len(damaged)] = data.draw(st.integers(0, 255))
        else:
            length = data.draw(st.integers(0, 40))
            where = where % (len(damaged) + 1)
            damaged[where : where + length] = data.draw(st.binary(max_size=10))
    path.write_bytes(damaged)
    read_or_refused(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_torn_file_is_refused(share, whole, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RowsError, match=r"rows\.parquet: it cannot be read"):
        read_rows(tmp_path / "rows.parquet")


CELLS = {
    "text": st.text(max_size=5) | st.none(),
    "numbers": st.floats() | st.none(),
    "integers": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "truths": st.booleans(),
    "bytes": st.binary(max_size=5),
    "lists": st.lists(st.integers(0, 3), max_size=2),
    "records": st.fixed_dictionaries({"a": st.integers(0, 3)}),
    "gaps": st.none(),
    "times": st.datetimes(),
}


@FUZZ
@given(data=st.data())
def test_tables_of_anything(data, tmp_path):
    names = data.draw(st.lists(st.sampled_from([*KEY, "status", "reason", "nll", "x", "seed", ""]), max_size=9))
    length = data.draw(st.integers(0, 3))
    kinds = [data.draw(st.sampled_from(sorted(CELLS))) for _ in names]
    arrays = [
        pa.array(data.draw(st.lists(CELLS[kind], min_size=length, max_size=length))) if length else pa.nulls(0)
        for kind in kinds
    ]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_arrays(arrays, names=names), path)
    read_or_refused(path)


def table_with(**columns) -> pa.Table:
    """Two good rows, with some columns changed."""
    good = {"task": ["t", "t"], "method": ["m", "m"], "settings": ["", ""], "seed": [0, 1], "status": ["done", "done"]}
    return pa.table(good | {"nll": [1.0, 2.0]} | columns)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"seed": [0, 0]}, "two rows of 'task t, method m, settings , seed 0'"),
        ({"seed": [0.5, 1.0]}, "seeds must be whole numbers from 0"),
        ({"seed": ["0", "1"]}, "'seed' holds text, not numbers"),
        ({"seed": pa.nulls(2)}, "seeds must be whole numbers"),
        ({"status": ["done", "fine"]}, "'fine' is no status; there are done, skipped, failed, diverged"),
        ({"task": [1, 2]}, "'task' holds numbers, not text"),
        ({"nll": [[1.0], [2.0]]}, "'nll' holds list"),
        ({"nll": ["low", "high"]}, "'nll' holds text, not numbers"),
    ],
)
def test_what_is_wrong_is_said(columns, said, tmp_path):
    parquet.write_table(table_with(**columns), tmp_path / "rows.parquet")
    with pytest.raises(RowsError, match=said):
        read_rows(tmp_path / "rows.parquet")


def test_missing_and_double_columns_are_named(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(table_with().drop_columns(["seed", "status"]), path)
    with pytest.raises(RowsError, match="the columns seed, status are missing"):
        read_rows(path)
    double = table_with()
    parquet.write_table(pa.Table.from_arrays([*double.columns, double["nll"]], [*double.column_names, "nll"]), path)
    with pytest.raises(RowsError, match="column 'nll' comes twice"):
        read_rows(path)
    with pytest.raises(RowsError, match="there is no such file"):
        read_rows(tmp_path / "nowhere.parquet")
    with pytest.raises(RowsError, match="there is no such file"):
        read_rows(tmp_path)


def test_a_file_that_unpacks_to_more_than_rows_take_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    zeros = np.zeros(2_000_000)
    parquet.write_table(pa.table({"nll": zeros}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(RowsError, match="2,000,000 rows and 1 columns"):
        read_rows(path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_that_stands_once_and_is_meant_often_is_refused_before_it_is_written_out(kind, tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    monkeypatch.setattr(module, "MOST_UNPACKED", 20 << 20)
    for text, said in (("x" * 20_001, "has a text of 20,001 bytes"), ("x" * 10_000, "unpacks to more than 20 MiB")):
        texts = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), [text])
        parquet.write_table(pa.table({"reason": texts.cast(kind)}), path, compression="zstd")
        assert path.stat().st_size < 20_000
        about = parquet.read_metadata(path)
        assert about.row_group(0).total_byte_size < 50_000
        for read in (read_plain, read_rows):
            usual = pa.default_memory_pool()
            pool = pa.proxy_memory_pool(usual)
            pa.set_memory_pool(pool)
            try:
                with pytest.raises(RowsError, match=said):
                    read(path)
            finally:
                pa.set_memory_pool(usual)
            assert pool.max_memory() < 30 << 20  # of 400 MB


def test_a_dictionary_of_texts_is_read_as_text(tmp_path):
    path = tmp_path / "rows.parquet"
    reasons = pa.array(["", None]).dictionary_encode()
    parquet.write_table(table_with(reason=reasons, x=pa.array([1, None]), y=pa.array([True, False])), path)
    rows = read_rows(path)
    assert rows["reason"].tolist() == ["", ""]
    assert rows["seed"].tolist() == [0, 1]
    assert rows["x"].isna().tolist() == [False, True]
    assert rows["y"].tolist() == [1.0, 0.0]


class Touches:
    """What a pickle would run: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path):
    ran = tmp_path / "ran"
    code = pickle.dumps(Touches(ran))
    pickle.load(io.BytesIO(pickle.dumps(Touches(tmp_path / "it would run"))))
    assert (tmp_path / "it would run").exists()
    path = tmp_path / "rows.parquet"
    # As benchopt packs objects, as pickled bytes, and as the type that pyarrow once unpickled.
    packed = {"nll": [b"\x00benchopt-pkl\x00" + code] * 2}
    marked = pa.field("nll", pa.binary(), metadata={
        b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": code,
    })  # fmt: skip
    for table in (table_with(**packed), table_with(**packed).cast(table_with(**packed).schema.set(5, marked))):
        parquet.write_table(table, path)
        assert read_or_refused(path) is None
        assert not ran.exists()

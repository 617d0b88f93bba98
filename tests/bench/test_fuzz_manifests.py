"""Folders of data of anything: their content, or a refusal in words; nothing outside them is read."""

import json
import os
import socket
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from benchmark_utils.data.sources import MissingDataError, Origin, find_content, read_manifest

EXAMPLES = int(os.environ.get("FIBERBNN_FUZZ", "0"))  # the same few each time, or as many as this says, drawn anew
FUZZ = settings(
    max_examples=EXAMPLES or 60, derandomize=not EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
ORIGIN = Origin(name="toy", sha256="", licence="", citation="")
WORDS = st.sampled_from(["toy", "files", "dataset", "path", "toy/data.parquet", "/data.parquet", "../toy/data.parquet"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), one, max_size=3),
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with one table, and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("a data source opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    root = tmp_path / "data"
    (root / "toy").mkdir(parents=True)
    monkeypatch.setenv("FIBERBNN_DATA", str(root))
    parquet.write_table(pa.table({"x0": [0.0, 1.0], "y": [1.0, 2.0]}), root / "toy" / "data.parquet")
    (root / "manifest.json").write_text(json.dumps({"files": [{"dataset": "toy", "path": "toy/data.parquet"}]}))
    return root


def found_or_refused(folder: Path) -> bool:
    """Look for the data set; return whether it was found."""
    before = sorted(folder.parent.rglob("*"))
    try:
        content = find_content(ORIGIN)
    except (MissingDataError, ValueError) as error:
        assert 10 < len(str(error)) < 2000  # noqa: PT017 - most folders are refused, not all
        return False
    finally:
        assert sorted(folder.parent.rglob("*")) == before
    assert content.x.shape == (len(content.y), content.x.shape[1])
    return True


def test_a_good_folder_is_read(folder):
    assert found_or_refused(folder)


@FUZZ
@given(content=JSON.map(json.dumps).map(str.encode) | st.binary(max_size=40))
@example(content=b'{"files": ' * 20_000)
@example(content=b"[" * 20_000)
@example(content=b"\xff\xfe")
@example(content=b'{"files": {"dataset": 1}}')
@example(content=b'{"files": [{"dataset": "toy", "path": 3}]}')
@example(content=b'{"files": [{"dataset": "toy", "path": null}]}')
@example(content=b'{"files": "toy"}')
@example(content=b'{"files": 12345678901234567890}')
def test_any_manifest(content, folder):
    (folder / "manifest.json").write_bytes(content)
    found_or_refused(folder)


@pytest.mark.parametrize(
    "path",
    [
        "../other/data.parquet",
        "toy/../../other/data.parquet",
        "{other}/data.parquet",
        "simplecache::file://{other}/data.parquet",
        "x::http://127.0.0.1:9/data.parquet",
        "http://127.0.0.1:9/data.parquet",
        "toy\\..\\..\\other/data.parquet",
        "toy/\0/data.parquet",
    ],
)
def test_a_manifest_lists_only_what_lies_beside_it(path, folder):
    other = folder.parent / "other"
    other.mkdir()
    (other / "data.parquet").write_bytes((folder / "toy" / "data.parquet").read_bytes())
    listed = {"files": [{"dataset": "toy", "path": path.format(other=other)}]}
    (folder / "manifest.json").write_text(json.dumps(listed))
    with pytest.raises(MissingDataError, match="cannot be used"):
        read_manifest(str(folder))
    assert not found_or_refused(folder)


@FUZZ
@given(data=st.data())
def test_bytes_of_a_table_changed_cut_or_added(data, folder):
    path = folder / "toy" / "data.parquet"
    parquet.write_table(pa.table({"x0": [0.0, 1.0], "y": [1.0, 2.0]}), path)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(damaged) - 1) | st.integers(-600, -1)) % len(damaged)
        if data.draw(st.booleans()):
            damaged[where] = data.draw(st.integers(0, 255))
        else:
            damaged[where : where + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=10))
        damaged = damaged or bytearray(b"\0")
    path.write_bytes(damaged)
    found_or_refused(folder)


CELLS = {
    "numbers": st.floats() | st.none(),
    "integers": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "text": st.text(max_size=3),
    "truths": st.booleans(),
    "lists": st.lists(st.integers(0, 3), max_size=2),
    "gaps": st.none(),
    "times": st.datetimes(),
}


@FUZZ
@given(data=st.data())
def test_tables_of_anything(data, folder):
    names = data.draw(st.lists(st.sampled_from(["x0", "x1", "y", "label", "z"]), max_size=4))
    length = data.draw(st.integers(0, 3))
    cells = [CELLS[data.draw(st.sampled_from(sorted(CELLS)))] for _ in names]
    arrays = [pa.array(data.draw(st.lists(cell, min_size=length, max_size=length))) for cell in cells]
    parquet.write_table(pa.Table.from_arrays(arrays, names=names), folder / "toy" / "data.parquet")
    found_or_refused(folder)

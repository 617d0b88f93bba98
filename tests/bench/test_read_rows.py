"""Files that somebody else wrote: read as plain values or refused in one line, and nothing in them is executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark_utils.leaderboard.check import check
from benchmark_utils.report import read_rows as module
from benchmark_utils.report.read_rows import read_plain
from benchmark_utils.report.refusals import RowsError
from tests.bench.submitted_rows import RESULTS, RUNS, submitted


class Trap:
    """Would leave a mark if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_nothing_in_a_file_is_executed(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "rows.parquet"
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(RowsError, match="cannot be read"):
        read_plain(path)
    table = pa.Table.from_pandas(submitted()).append_column("extra", pa.array([pickle.dumps(Trap(mark))] * 6))
    pq.write_table(table, path)
    with pytest.raises(RowsError, match="'extra' holds binary"):
        read_plain(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "values", [[[1]] * 6, [{"a": 1}] * 6, [pd.Timestamp("2024-01-01")] * 6], ids=["list", "struct", "time"]
)
def test_columns_of_anything_but_plain_values_are_refused(tmp_path, values):
    submitted().assign(extra=values).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(RowsError, match="column 'extra' holds"):
        read_plain(tmp_path / "rows.parquet")


def test_torn_empty_huge_and_ambiguous_files_are_refused_in_one_line(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    submitted().to_parquet(path)
    whole = path.read_bytes()
    texts = {
        "empty.csv": b"",
        "heading.csv": b"task,method\n",
        "twice.csv": b"a,a\n1,2\n",
        "bytes.csv": b"\xff\xfe,a\n1,2\n",
    }
    files = {"torn.parquet": whole[:-100], "tail.parquet": whole[200:], "nul.csv": b"a,b\n\0,1\n" * 3, **texts}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        good, text = check([tmp_path / name], RUNS, RESULTS)
        assert not good
        if name != "nul.csv":
            assert text.startswith(f"{tmp_path / name}: ")
            assert "\n" not in text
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    with pytest.raises(RowsError, match="split it"):
        read_plain(path)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(RowsError, match="MiB"):
        read_plain(path)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=40), st.integers(0, 10**6), st.sampled_from([".parquet", ".csv"]))
def test_damaged_bytes_never_give_a_traceback(tmp_path_factory, damage, place, suffix):
    path = tmp_path_factory.mktemp("damaged") / f"rows{suffix}"
    rows = submitted()
    rows.to_parquet(path) if suffix == ".parquet" else rows.to_csv(path, index=False)
    content = path.read_bytes()
    place %= len(content)
    path.write_bytes(content[:place] + damage + content[place + len(damage) :])
    good, text = check([path], RUNS, RESULTS)
    assert good or text

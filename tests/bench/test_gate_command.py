"""The gate's command: exit codes, the summary, and pytest-benchmark's history."""

import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench import gate
from benchmark_utils.gate import memory
from benchmark_utils.gate.check import Check
from benchmark_utils.gate.history import speed_history
from benchmark_utils.gate.pairs import GateError
from benchmark_utils.gate.summary import markdown, verdict_line
from benchmark_utils.report.rows import write_rows

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "results" / "baseline" / "quick"


def run(tmp_path: Path, *arguments: object) -> int:
    return gate.main([*map(str, arguments), "--rows-only", "--summary", str(tmp_path / "summary.md")])


def test_the_same_rows_open_the_gate(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert run(tmp_path, BASELINE) == 0
    text = (tmp_path / "summary.md").read_text()
    assert "**The gate is open: " in text
    assert page.read_text() == "before\n" + text
    assert "The gate is open" in capsys.readouterr().out


def test_a_regression_shuts_it(tmp_path, capsys):
    rows = pd.read_parquet(BASELINE / "rows.parquet")
    rows.loc[(rows["method"] == "walk") & (rows["task"] == "breast"), "nll"] += 0.05
    write_rows(rows, tmp_path / "fresh" / "rows.parquet")
    assert run(tmp_path, tmp_path / "fresh") == 1
    shown = (tmp_path / "summary.md").read_text().split("<details>")[0]
    assert "| fail | calibration: nll: walk on breast | 0.09684 | 0.1468 | +0.05 to +0.05 | at most +0.01 |" in shown


def test_what_is_missing_is_told_in_words(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "nowhere") == 2
    assert "run `nox -s bench -- quick` first" in capsys.readouterr().out
    assert run(tmp_path, BASELINE, "--baseline", tmp_path) == 2
    assert "there is no baseline" in capsys.readouterr().out
    assert not (tmp_path / "summary.md").exists()


def test_an_empty_reason_updates_nothing(tmp_path, capsys):
    assert run(tmp_path, BASELINE, "--baseline", tmp_path / "new", "--update", " ") == 2
    assert "say why" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_cells_are_no_markup_and_no_column():
    checks = [Check("runs", "laplace[glm, kron] on banana", "fail", remark="a | b")]
    assert "laplace[glm, kron] on banana" in markdown(checks)
    assert "a \\| b" in markdown(checks)
    assert verdict_line([]) == "The gate is open: nothing was checked."


def test_memory_is_held_against_a_quarter_and_a_floor():
    verdicts = [memory.memory_checks({"walk": 100.0}, {"walk": rise})[0].verdict for rise in (90, 120, 130)]
    assert verdicts == ["pass", "pass", "fail"]
    assert memory.memory_checks({"walk": 4.0}, {"walk": 11.0})[0].verdict == "pass"
    assert memory.memory_checks({}, {"walk": 11.0})[0].verdict == "note"
    assert memory.memory_checks({"walk": 4.0}, {"walk": float("nan")})[0].verdict == "note"


def kept(folder: Path, number: int, seconds: float, **machine: object) -> None:
    """A file as pytest-benchmark keeps it."""
    stats = dict.fromkeys(["min", "max", "mean", "median", "iqr", "stddev", "ops", "total", "q1", "q3"], seconds)
    one = {
        "group": "walk", "name": "test_walk", "fullname": "bench_mlp_walk.py::test_walk", "params": None, "param": None,
        "extra_info": {}, "options": {}, "stats": stats | {"rounds": 5, "iterations": 1, "outliers": "0;0"},
    }  # fmt: skip
    found = {
        "machine_info": {"processor": "one", **machine}, "benchmarks": [one], "version": "5.1.0",
        "commit_info": {"id": "abc", "dirty": False}, "datetime": f"2026-01-0{number}T00:00:00",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"000{number}_abc.json").write_text(json.dumps(found))


def test_the_history_tells_and_never_fails(tmp_path, capsys):
    with pytest.raises(GateError, match="no two runs"):
        speed_history(tmp_path, Console())
    for number, seconds in ((1, 9.0), (2, 1.0), (3, 2.0)):
        kept(tmp_path / "Linux", number, seconds)
    (slower,) = speed_history(tmp_path, Console())
    assert (slower.verdict, slower.baseline, slower.fresh) == ("note", 1.0, 2.0)
    assert "test_walk" in capsys.readouterr().out  # pytest-benchmark's own table
    kept(tmp_path / "Linux", 4, 9.0, processor="another")
    (told,) = speed_history(tmp_path, Console())
    assert told.remark == "not judged: the two runs differ in processor"
    (tmp_path / "Linux" / "0005_abc.json").write_text("[]")
    with pytest.raises(GateError, match="none of pytest-benchmark's files"):
        speed_history(tmp_path, Console(quiet=True))

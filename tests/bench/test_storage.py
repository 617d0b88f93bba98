"""A full disk, a read-only or an occupied results folder: one line, nothing half-written, nothing finished lost."""

import errno
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from benchmark_utils.report import storage
from benchmark_utils.report.refusals import StorageError
from benchmark_utils.report.storage import Workspace

# Fills the disk that the results go to, except for what the file .room says, when it runs; once.
FILLS = '''
    import os
    from pathlib import Path
    from benchopt import BaseSolver

    class Solver(BaseSolver):
        """Fills a disk."""

        name = "zz-fills"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            pass

        def run(self, _):
            with open("{disk}/filler", "wb") as file:
                while True:
                    file.write(bytes(1 << 20))

        def get_result(self):
            return {{}}
'''


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 48 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_folder_is_held_by_one_command_and_left_clean(tmp_path):
    results, cache = tmp_path / "results", tmp_path / "cache"
    with Workspace(results, cache) as workspace:
        assert workspace.path.is_dir()
        with pytest.raises(StorageError, match=r"another command writes to .*results: let it end, or give another"):
            Workspace(results, cache).__enter__()
    assert not results.exists()
    with Workspace(results, cache) as workspace, workspace.replacing() as folder:
        (folder / "rows.parquet").write_bytes(b"new")
    assert names(results) == ["rows.parquet"]


def test_what_a_killed_command_left_is_removed(tmp_path):
    left = tmp_path / "results" / ".part"
    (left / "runs").mkdir(parents=True)
    (left / "lock").touch()
    (left / "rows.parquet").touch()
    with Workspace(tmp_path / "results", tmp_path / "cache") as workspace:
        assert names(workspace.path) == ["lock"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_results_stay_as_they_were_if_not_all_can_be_written(number, tmp_path):
    def fails_half_way(workspace: Workspace) -> None:
        with workspace.replacing() as folder:
            (folder / "table.md").write_text("new")
            raise OSError(number, "it is full")

    results = tmp_path / "results"
    results.mkdir()
    (results / "table.md").write_text("old")
    with Workspace(results, tmp_path / "cache") as workspace:
        with pytest.raises(StorageError, match=r"cannot write to .*results: .*; finished runs are kept"):
            fails_half_way(workspace)
        assert (results / "table.md").read_text() == "old"
    assert names(results) == ["table.md"]


def test_what_an_earlier_run_left_goes_and_all_else_stays(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for name in ("rows.parquet", "table.md", "ablation_walk_rank.png", "depth.md", "notes.md", "mine.png"):
        (results / name).write_text("old")
    with Workspace(results, tmp_path / "cache") as workspace, workspace.replacing() as folder:
        for name in ("rows.parquet", "table.md", "shift.png"):
            (folder / name).write_text("new")
        assert (results / "depth.md").exists()
    assert names(results) == ["mine.png", "notes.md", "rows.parquet", "shift.png", "table.md"]
    assert [(results / name).read_text() for name in ("rows.parquet", "notes.md")] == ["new", "old"]


@pytest.mark.parametrize("name", ["quick", "images", "ablation"])
def test_all_that_a_run_keeps_beside_its_rows_is_known(name):
    kept = Path(__file__).resolve().parents[2] / "results" / name
    assert set(storage.stale_names(kept, ["rows.parquet"])) == set(names(kept)) - {"rows.parquet"}


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot write to .*results: .*; give another folder with --output"):
        Workspace(tmp_path / "results", tmp_path / "cache").__enter__()


def test_too_little_room_is_said_before_anything_runs(small_disk, tmp_path):
    (small_disk / "filler").write_bytes(bytes(30 << 20))
    with pytest.raises(StorageError, match=r"\d+ MiB are free in .*results/\.part, 32 MiB are needed: make room"):
        Workspace(small_disk / "results", tmp_path / "cache").__enter__()
    with pytest.raises(StorageError, match=r"MiB are free in .*cache"):
        Workspace(tmp_path / "results", small_disk / "cache").__enter__()
    assert names(small_disk) == ["cache", "filler"]
    assert not (tmp_path / "results").exists()


def test_a_read_only_disk_is_said(small_disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folders in ((small_disk / "results", tmp_path / "cache"), (tmp_path / "results", small_disk / "cache")):
        with pytest.raises(StorageError, match=r"cannot write to .*: Read-only file system; "):
            Workspace(*folders).__enter__()
    assert names(small_disk) == []
    assert not (tmp_path / "results").exists()


def test_every_failure_of_the_probe_is_said(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(StorageError, match=r"cannot write to .*\.part: Disk quota exceeded; give another folder"):
        Workspace(tmp_path / "results", tmp_path / "cache").__enter__()
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_disk_that_fills_ends_the_command_in_one_line_and_what_is_finished_is_kept(tiny, small_disk):
    tiny.output = small_disk / "results" / "tiny"
    tiny.add("solvers/zz_fills.py", FILLS.format(disk=small_disk))
    tiny.add_noisy()
    assert tiny.run() == 2
    said = [line for line in tiny.said.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "No space left on device" in said[0] or "MiB are free" in said[0]
    assert names(tiny.output) == []
    assert len(tiny.executions()) == 1

    (small_disk / "filler").unlink()
    (tiny.folder / "solvers" / "zz_fills.py").unlink()
    assert tiny.run() == 0
    assert len(tiny.executions()) == 2  # the first is not run again
    assert list(pd.read_parquet(tiny.output / "rows.parquet")["status"]) == ["done", "done"]


@pytest.mark.slow
def test_a_command_that_cannot_write_says_so_in_one_line(tiny, tmp_path):
    (tmp_path / "results").write_text("a file")
    assert tiny.run() == 2
    assert tiny.said.startswith("error: cannot write to ")
    assert tiny.said.count("\n") == 1


TORN = "A file of a finished run is torn, by a power cut perhaps: it is run again."


@pytest.mark.slow
def test_torn_files_of_finished_runs_are_made_again_and_said_in_a_line_each_wherever_they_are_read(tiny):
    tiny.add_noisy()
    assert tiny.run() == 0
    whole = pd.read_parquet(tiny.output / "rows.parquet")
    for path in (tiny.folder / "__cache__").rglob("output.pkl"):
        path.write_bytes(path.read_bytes()[:100])
    assert tiny.run() == 0
    assert len(tiny.executions()) == 4
    assert set(tiny.said.splitlines()) == {TORN}
    again = pd.read_parquet(tiny.output / "rows.parquet")
    times = ["map_s", "fit_s", "predict_s", "peak_mib", "peak_rise_mib"]
    pd.testing.assert_frame_equal(again.drop(columns=times), whole.drop(columns=times))

    # The command itself reads what is finished; workers read what that was made of: the MAP, and the row.
    for path in list((tiny.folder / "__cache__").rglob("output.pkl")):
        if path.parents[1].name == "run_one_to_cvg":
            shutil.rmtree(path.parent)
        else:
            path.write_bytes(path.read_bytes()[:100])
    assert tiny.run("--jobs", "2") == 0
    assert len(tiny.executions()) == 6
    assert set(tiny.said.splitlines()) == {TORN}

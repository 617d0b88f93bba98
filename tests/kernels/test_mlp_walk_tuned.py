"""The file of launches that were timed on a machine."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.mlp import table
from fiberbnn_kernels.mlp.table import Launch
from fiberbnn_kernels.mlp_walk import tune_mlp_walk, tuned

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

LAYOUT = MLPLayout((14, 50, 2))
ALIKE, OTHER = MLPLayout((9, 60, 60, 3)), MLPLayout((2, 16, 16, 2))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIBERBNN_TUNED", str(tmp_path / "new"))
    return tmp_path / "new" / "mlp_walk.json"


def usual(layout: MLPLayout, architecture: int = 90) -> Launch:
    launch = table.launch_for(layout, architecture)
    assert launch is not None
    return launch


def test_a_stored_launch_is_taken_where_it_was_timed(file: Path) -> None:
    assert tuned.launch_for(LAYOUT, 90) == usual(LAYOUT)
    other = usual(LAYOUT)._replace(rows=64, warps=4)
    assert tuned.store(other, 90) == file
    assert tuned.launch_for(LAYOUT, 90) == other
    assert tuned.launch_for(MLPLayout((3, 33, 7), "gelu"), 90) == other  # padded alike
    assert tuned.launch_for(LAYOUT, 80) == usual(LAYOUT, 80)
    for layout in (ALIKE, OTHER, MLPLayout((20, 50, 2))):
        assert tuned.launch_for(layout, 90) == usual(layout)
    assert tuned.launch_for(MLPLayout((2, 2)), 90) is None


def test_another_triton_takes_the_table(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    tuned.store(usual(LAYOUT)._replace(rows=64), 90)
    monkeypatch.setattr(triton, "__version__", "99.0")
    assert tuned.launch_for(LAYOUT, 90) == usual(LAYOUT)


def test_launches_are_added_to_those_there(file: Path) -> None:
    first, second = usual(LAYOUT)._replace(rows=32), usual(OTHER)._replace(rows=16, warps=8)
    tuned.store(first, 90)
    tuned.store(second, 90)
    tuned.store(first._replace(rows=64), 90)
    assert tuned.launch_for(LAYOUT, 90) == first._replace(rows=64)
    assert tuned.launch_for(OTHER, 90) == second
    assert [path.name for path in file.parent.iterdir()] == ["mlp_walk.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"16-64-16 sm90": [32',
        "[1, 2]",
        "7",
        '{"key": 7}',
        '{"key": [32]}',
        '{"key": ["many", 4]}',
        '{"key": [17, 4]}',
        '{"key": [32, 3]}',
        "\x00\x01",
    ],
)
def test_bad_files_are_ignored_with_one_warning_and_written_anew(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert tuned.launch_for(LAYOUT, 90) == usual(LAYOUT)
        assert tuned.launch_for(OTHER, 90) == usual(OTHER)
    (warning,) = caught
    assert "is ignored" in str(warning.message)
    tuned.store(usual(LAYOUT)._replace(rows=64), 90)
    assert tuned.launch_for(LAYOUT, 90).rows == 64
    assert len(json.loads(file.read_text())) == 1


def test_a_file_that_cannot_be_written_leaves_the_old_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.store(usual(LAYOUT)._replace(rows=64), 90)
    before = file.read_text()

    def torn(launches: object, part: object, **_: object) -> None:
        part.write('{"torn')  # type: ignore[attr-defined]
        raise OSError("no space left")

    monkeypatch.setattr(json, "dump", torn)
    with pytest.raises(OSError, match="no space left"):
        tuned.store(usual(OTHER)._replace(rows=16), 90)
    assert file.read_text() == before
    assert [path.name for path in file.parent.iterdir()] == ["mlp_walk.json"]


def test_readers_never_see_half_a_file(file: Path) -> None:
    tuned.store(usual(LAYOUT), 90)

    def write(n: int) -> None:
        tuned.store(usual(LAYOUT)._replace(rows=(16, 32, 64)[n % 3]), 90)

    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("error")
        running = [pool.submit(write, n) for n in range(40)]
        while not all(run.done() for run in running):
            assert tuned.launch_for(LAYOUT, 90).rows in (16, 32, 64)
        for run in running:
            run.result()


def test_default_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FIBERBNN_TUNED", raising=False)
    monkeypatch.setattr(tuned.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuned.file_of_launches() == tmp_path / "fiberbnn" / "mlp_walk.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert tuned.file_of_launches() == tmp_path / ".cache" / "fiberbnn" / "mlp_walk.json"
    monkeypatch.setattr(tuned.sys, "platform", "darwin")
    assert tuned.file_of_launches() == tmp_path / "Library" / "Caches" / "fiberbnn" / "mlp_walk.json"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_tuning_is_refused_in_words(file: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot run: torch finds no usable GPU"):
        tune_mlp_walk(LAYOUT, 100)
    assert not file.exists()

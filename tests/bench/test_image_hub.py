"""The hub: images come from it as from a folder, file by file, and a hub that is not there is a quick answer.

A small server plays the hub's API, since tests have no network. Hugging Face's client reads its settings when it is
imported, so it runs in a process of its own.
"""

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

from benchmark_utils.data import hub, image_sets, image_sources, reachable
from benchmark_utils.data.image_sources import content_hash, find_images, why_absent
from benchmark_utils.data.sources import MissingDataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BENCH = Path(__file__).resolve().parents[2] / "bench"
CHILD = """
import json, sys
from pathlib import Path
from benchmark_utils.data import image_sets, image_sources
from benchmark_utils.data.sources import MissingDataError

image_sources.CACHE = Path(sys.argv[1])
found = {}
for name in ("CIFAR10", "CIFAR100", "SVHN", "MNIST", "FASHION"):
    part = "train" if name == "MNIST" else "test"
    try:
        content = image_sources.find_images(getattr(image_sets, name), part)
        found[name] = [content.sha256, content.source]
    except MissingDataError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as much of the hub's API as reading a Parquet file takes; repositories are folders below `root`."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, *parts = unquote(urlsplit(self.path).path).strip("/").removeprefix("api/").split("/")
        folder = self.root.joinpath(*parts[:2])
        if kind != "datasets" or len(parts) < 2 or not folder.is_dir():
            return self.answer(404, code="RepoNotFound")
        file = folder.joinpath(*parts[4:])
        if parts[2:3] == ["resolve"]:
            if not file.is_file():
                return self.answer(404, code="EntryNotFound")
            self.asked.append(f"{self.command} {parts[1]}/{'/'.join(parts[4:])}")
            return self.answer(200, file.read_bytes())
        if parts[2:3] == ["tree"]:
            if not file.is_dir():
                return self.answer(404, code="EntryNotFound")
            return self.answer(200, json.dumps([self.entry(path, folder) for path in sorted(file.iterdir())]).encode())
        files = [{"rfilename": str(path.relative_to(folder))} for path in folder.rglob("*") if path.is_file()]
        about = {"id": "/".join(parts[:2]), "sha": COMMIT, "private": False, "tags": [], "siblings": files}
        return self.answer(200, json.dumps(about).encode())

    do_HEAD = do_POST = do_GET

    @staticmethod
    def entry(path: Path, folder: Path) -> dict[str, str | int]:
        size = path.stat().st_size if path.is_file() else 0
        oid = hashlib.sha1(str(path).encode()).hexdigest()
        kind = "file" if path.is_file() else "directory"
        return {"type": kind, "path": str(path.relative_to(folder)), "oid": oid, "size": size}

    def answer(self, status: int, data: bytes = b"", code: str = "") -> None:
        self.send_response(status)
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"Content-Length": str(len(data)), "X-Repo-Commit": COMMIT, "ETag": etag, "X-Error-Code": code}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A hub on this machine with an empty folder of repositories."""
    handler = type("OneHub", (Hub,), {"root": tmp_path / "repositories", "asked": []})
    (tmp_path / "repositories").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(image_sources, "CACHE", tmp_path / "cache")
    for name in ("FIBERBNN_DATA", "HF_HUB_OFFLINE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    reachable.no_answer.cache_clear()
    yield
    reachable.no_answer.cache_clear()


def publish(root: Path, where: hub.HubSet, parts: dict[str, np.ndarray], labels: list[int]) -> None:
    """Write a repository as the hub has it: its own column names and files, images as PNG."""
    features = Features({where.image: Image(), where.label: ClassLabel(names=list("abcdefghij"))})
    for part, images in parts.items():
        pictures = [Picture.fromarray(image.squeeze()) for image in images]
        rows = []
        for picture in pictures:
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            rows.append({"bytes": stream.getvalue(), "path": None})
        path = root / where.repository / where.folder / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({where.image: rows, where.label: labels}, features=features).to_parquet(path)


def test_images_come_from_a_hub_once_and_only_the_part_that_is_asked_for(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = [3, 1, 9, 0]
    expected = {}
    for name in ("CIFAR10", "CIFAR100", "SVHN", "MNIST"):
        origin = getattr(image_sets, name)
        images = {part: rng.integers(0, 256, (4, *origin.shape)).astype(np.uint8) for part in ("train", "test")}
        publish(server.RequestHandlerClass.root, origin.hub, images, labels)
        part = "train" if name == "MNIST" else "test"
        expected[name] = [content_hash(images[part], np.array(labels)), f"hub ({origin.hub.repository})"]
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(BENCH),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment.pop("FIBERBNN_DATA", None)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "cache")]

    def ask() -> dict[str, list[str] | str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    found = ask()
    reason = found.pop("FASHION")
    assert found == expected
    assert "zalando-datasets/fashion_mnist did not come from the hub" in reason
    assert "FIBERBNN_DATA" in reason
    fetched = {line.split(" ", 1)[1] for line in server.RequestHandlerClass.asked if line.startswith("GET")}
    assert fetched == {
        "cifar10/plain_text/test-00000-of-00001.parquet",
        "cifar100/cifar100/test-00000-of-00001.parquet",
        "svhn/cropped_digits/test-00000-of-00001.parquet",
        "mnist/mnist/train-00000-of-00001.parquet",
    }
    # What was decoded is kept: a second process does not ask for it again, not even without the hub.
    server.RequestHandlerClass.asked.clear()
    environment["HF_HUB_OFFLINE"] = "1"
    again = ask()
    assert "switched off" in again.pop("FASHION")
    assert again == expected
    assert server.RequestHandlerClass.asked == []


def test_a_hub_that_cannot_be_reached_is_a_quick_answer_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise AssertionError("Hugging Face's client would try for half a minute")

    with socket.socket() as closed:  # bound but not listening: whoever connects is refused
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", endpoint)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        start = time.perf_counter()
        with pytest.raises(
            MissingDataError, match=rf"{endpoint} cannot be reached.*FIBERBNN_DATA.*or connect to a netw"
        ):
            find_images(image_sets.CIFAR10, "train")
        assert "cannot be reached" in why_absent(image_sets.SVHN, "test")
        assert time.perf_counter() - start < 2.0


def test_a_hub_that_does_not_answer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "PATIENCE_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        assert "timed out" in str(reachable.why_unreachable(datasets.config.HF_ENDPOINT))
        assert time.perf_counter() - start < 2.0


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", None)
    assert "HF_HUB_OFFLINE" in str(why_absent(image_sets.CIFAR100, "test"))


def test_a_hub_that_answers_with_an_error_is_there(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert reachable.why_unreachable(datasets.config.HF_ENDPOINT) is None

"""A real Chromium without a screen, for the pages that this project writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find_chromium() -> str:
    """Return the path of a browser: that of FIBERBNN_CHROMIUM, or the first of the usual names; "" if there is none."""
    return os.environ.get("FIBERBNN_CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), "")


@contextmanager
def running_chromium() -> Iterator[Any]:
    """Give playwright's browser; skips the test, with the reason, where playwright or a browser is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it drives the browser")
    path = find_chromium()
    if not path:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH, and FIBERBNN_CHROMIUM is not set")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class View:
    """A page opened from a file, with everything that it says and asks for on the way."""

    def __init__(
        self,
        browser: Any,
        file: Path,
        fragment: str = "",
        size: tuple[int, int] = (1280, 900),
        dark: bool = False,
        script: bool = True,
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
        )
        self.context.set_default_timeout(60_000)  # milliseconds; a busy machine takes its time
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = file.as_uri()
        self.page.goto(self.url + (f"#{fragment}" if fragment else ""))

    @property
    def fragment(self) -> str:
        """What the address has after its #."""
        return self.page.url.partition("#")[2]

    def assert_quiet(self) -> None:
        """Fail if the page wrote to the console, or asked for anything but itself."""
        assert self.said == []
        asked = [url for url in self.requests if not url.startswith("data:")]
        assert [url.partition("#")[0] for url in asked] == [self.url] * len(asked)

"""The page of real results, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark_utils.leaderboard.page import page
from tests.bench.leaderboard_page.boards import real_board
from tests.bench.leaderboard_page.browser import View, running_chromium


@pytest.fixture(scope="session")
def browser():
    """Playwright's browser; whoever needs it is skipped where there is none."""
    with running_chromium() as found:
        yield found


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """The file of a page of real results."""
    path = tmp_path_factory.mktemp("leaderboard") / "index.html"
    path.write_text(page(real_board()), encoding="utf-8")
    return path


@pytest.fixture
def look(browser, real):
    """Opens views of a page, the real one unless another is given; each has to have been quiet at the end."""
    views = []

    def open_view(fragment: str = "", file: Path = real, **how: Any) -> View:
        views.append(View(browser, file, fragment, **how))
        return views[-1]

    yield open_view
    for view in views:
        view.assert_quiet()
        view.context.close()


@pytest.fixture
def tiny(tmp_path) -> Callable[[dict[str, Any]], Path]:
    """Writes the page of a board to a file of its own."""

    def write(board: dict[str, Any]) -> Path:
        path = tmp_path / "index.html"
        path.write_text(page(board), encoding="utf-8")
        return path

    return write

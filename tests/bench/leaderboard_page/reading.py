"""What a view of the page shows, and what the board says it should."""

from __future__ import annotations

from typing import Any

from tests.bench.leaderboard_page.boards import real_board
from tests.bench.leaderboard_page.browser import View


def entries(run: str, task: str) -> list[dict[str, Any]]:
    """Return the board's entries of a run and task."""
    return [entry for entry in real_board()["entries"] if (entry["run"], entry["task"]) == (run, task)]


def labels(view: View) -> list[str]:
    """Return the methods of the table from top to bottom."""
    return view.page.locator("#table tbody th").all_text_contents()


def cells(view: View, heading: str) -> dict[str, str]:
    """Return a column's cells by method, as they are read."""
    heads = [head.rstrip("▲▼") for head in view.page.locator("#table thead th").all_text_contents()]
    texts = view.page.locator(f"#table tbody td:nth-child({heads.index(heading) + 1})").all_text_contents()
    return dict(zip(labels(view), texts, strict=True))


def marked(view: View, heading: str) -> set[str]:
    """Return the methods that are marked in a column."""
    return {label for label, text in cells(view, heading).items() if "among the best" in text}


def sort_button(view: View, heading: str) -> Any:
    """Return the button in a column's head."""
    return view.page.locator("#table thead").get_by_role("button", name=heading, exact=True)


def choice(view: View, name: str) -> Any:
    """Return one of the form's lists of choices."""
    return view.page.get_by_role("combobox", name=name, exact=True)

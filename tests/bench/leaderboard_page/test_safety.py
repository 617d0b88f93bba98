from __future__ import annotations

import json

import pytest

from benchmark_utils.leaderboard.page import page
from tests.bench.leaderboard_page.boards import tiny_board
from tests.bench.leaderboard_page.reading import choice, labels

HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror='hacked=1'>",
    "<!--<script>",
    "__proto__",
    "\"&'\u2028",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(look, tiny, name):
    board = json.loads(json.dumps(tiny_board()).replace('"coin"', json.dumps(name)).replace('"a"', json.dumps(name)))
    board["entries"][1]["reasons"] = [name]
    board["entries"][1]["status"] = {"done": 3, name: 1}
    board["metrics"][0]["formula"] = board["made_from"][0]["commit"] = board["suite_version"] = name
    view = look(file=tiny(board))
    choice(view, "Task").select_option(name)
    assert labels(view)[1].strip() == name.replace("\u2028", "\u2028").strip()
    assert name in view.page.locator("#failures").text_content()
    assert view.page.locator("#plots h3").text_content() == name
    assert view.page.evaluate(
        "[window.hacked, document.querySelectorAll('script').length, document.images.length]"
    ) == [None, 2, 0]


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,x", "//example.org/x", "http://x/y"]
)
def test_a_link_that_is_no_file_of_rows_is_refused(link):
    board = tiny_board()
    board["entries"][0]["rows"] = link
    with pytest.raises(ValueError, match="neither a relative path nor https"):
        page(board)


def test_a_board_that_cannot_be_shown_is_refused_in_words():
    board = tiny_board()
    with pytest.raises(ValueError, match="lacks costs, ranks"):
        page({name: part for name, part in board.items() if name not in ("ranks", "costs")})
    with pytest.raises(ValueError, match="no entries"):
        page(board | {"entries": []})
    board["entries"][0]["values"]["nll"]["mean"] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        page(board)

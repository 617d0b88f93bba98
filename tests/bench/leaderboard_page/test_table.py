from __future__ import annotations

from tests.bench.leaderboard_page.boards import real_board, tiny_board
from tests.bench.leaderboard_page.reading import cells, entries, labels, marked, sort_button


def by_nll(run: str, task: str, reverse: bool = False) -> list[str]:
    done = [entry for entry in entries(run, task) if "nll" in entry["values"]]
    ordered = sorted(done, key=lambda entry: entry["values"]["nll"]["mean"], reverse=reverse)
    return [entry["label"] for entry in ordered]


def test_a_task_is_sorted_best_first_and_reversed_by_a_click(look):
    view = look("run=uci-small&task=breast")
    head = view.page.locator("#table th", has=view.page.get_by_role("button", name="NLL", exact=True))
    assert labels(view) == by_nll("uci-small", "breast")
    assert head.get_attribute("aria-sort") == "ascending"
    sort_button(view, "NLL").click()
    assert labels(view) == by_nll("uci-small", "breast", reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    sort_button(view, "ACCURACY").click()
    accuracy = {entry["label"]: entry["values"]["accuracy"]["mean"] for entry in entries("uci-small", "breast")}
    shown = [accuracy[label] for label in labels(view)]
    assert shown == sorted(shown, reverse=True)
    assert head.get_attribute("aria-sort") is None
    assert view.page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_and_keeps_its_place(look):
    view = look("task=breast")
    sort_button(view, "ECE").focus()
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        view.page.keyboard.press(key)
        assert view.page.locator("#table th[aria-sort]").get_attribute("aria-sort") == order
        assert view.page.evaluate("document.activeElement.dataset.key") == "metric:ece"
    # What was skipped stays at the end in both directions.
    assert labels(view)[-1] == "mc-dropout"
    assert cells(view, "ECE")["mc-dropout"] == "skipped"


def test_a_metric_to_be_near_is_sorted_by_the_distance(look):
    view = look("task=gap-1-15-1&metric=coverage90")
    coverage = {
        entry["label"]: abs(entry["values"]["coverage90"]["mean"] - 0.9)
        for entry in entries("quick", "gap-1-15-1") if entry["values"]
    }  # fmt: skip
    shown = [coverage[label] for label in labels(view) if label in coverage]
    assert shown == sorted(coverage.values())
    assert view.page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "other"


def test_every_cell_has_mean_spread_and_seeds_and_the_task_links_to_its_rows(look):
    view = look("run=uci-small&task=vehicle")
    nll = next(e["values"]["nll"] for e in entries("uci-small", "vehicle") if e["label"] == "swag")
    shown = cells(view, "NLL")["swag"].split(" among")[0]
    assert shown.split() == [f"{nll['mean']:.3f}", "±", f"{nll['sd']:.3f}", "n=5"]
    assert all("n=5" in text for text in cells(view, "ECE").values())
    links = view.page.locator("#table tbody a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert links == ["../uci-small/rows.parquet"] * len(labels(view))


def test_what_is_not_told_apart_from_the_best_is_marked_whatever_the_filters(look):
    own = entries("uci-small", "vehicle")
    best = min(own, key=lambda entry: entry["values"]["nll"]["mean"])["method"]
    rest = "".join(f"&method={method}" for method in sorted({entry["method"] for entry in own} - {best}))
    for filters in ("", rest):
        view = look(f"run=uci-small&task=vehicle{filters}")
        for column in ("nll", "accuracy"):
            near = {entry["label"] for entry in own if column in entry["among_best"]}
            assert 1 < len(near) < len(own)
            assert marked(view, column.upper()) == near & set(labels(view))
    assert len(labels(view)) < len(own)
    assert marked(view, "NLL")


def test_too_few_seeds_are_said(look, tiny):
    assert "Too few seeds" not in look("run=uci-small").page.locator("#table-notes").inner_text()
    board = tiny_board()
    for entry in board["entries"]:
        entry["seeds"] = entry["seeds"][:2]
    view = look(file=tiny(board))
    note = view.page.locator("#table-notes").inner_text()
    assert "only the best itself is marked, and counts nowhere: coin." in note
    assert set(cells(view, "Among the best").values()) == {"0 of 0"}


def test_what_lacks_a_seed_is_neither_best_nor_on_the_front(look, tiny):
    view = look("task=coin", file=tiny(tiny_board()))
    assert labels(view) == ["c", "a", "b"]
    assert marked(view, "NLL") == {"a", "b"}
    assert cells(view, "Seeds") == {"a": "3", "b": "3", "c": "2 of 3"}
    front = view.page.locator("#plots .point.front").evaluate_all("all => all.map((g) => g.getAttribute('aria-label'))")
    assert [text.split(",")[0] for text in front] == ["b", "a"]
    assert "out of luck" in view.page.locator("#failures").inner_text()
    view.page.locator("#sources summary").click()
    assert "not the expected content" in view.page.locator("#sources").inner_text()


def test_all_tasks_are_columns_of_one_metric(look):
    view = look()
    heads = [text.strip(" ▼") for text in view.page.locator("#table thead th").all_inner_texts()]
    tasks = [task["name"] for task in real_board()["tasks"] if "quick" in task["runs"]]
    assert heads == ["Method", "Among the best", *tasks, "Rows"]
    wins = cells(view, "Among the best")
    marks = [marked(view, task) for task in tasks]
    counted = {label: sum(label in found for found in marks) for label in wins}
    assert {label: int(text.split()[0]) for label, text in wins.items()} == counted
    assert list(counted.values()) == sorted(counted.values(), reverse=True)

from __future__ import annotations

import json
from copy import deepcopy

import pytest

from tests.bench.leaderboard_page.boards import real_board
from tests.bench.leaderboard_page.reading import choice, entries, labels, sort_button


def test_each_control_filters(look):
    view = look()
    choice(view, "Run").select_option("uci-small")
    assert "ionosphere" in view.page.locator("#table thead").inner_text()
    choice(view, "Metric").select_option("rmse")
    heads = view.page.locator("#table thead th").all_inner_texts()
    assert [head.strip() for head in heads][2:-1] == ["gap-1-10-10-1", "gap-1-15-1"]
    assert "rmse/1" in view.page.locator("#definition").inner_text()
    assert "nats" not in view.page.locator("#definition").inner_text()
    # The classification task has no RMSE: the metric falls back on one that it has.
    choice(view, "Task").select_option("breast")
    assert choice(view, "Metric").input_value() == "nll"
    assert len(labels(view)) == len(entries("uci-small", "breast"))
    view.page.get_by_role("checkbox", name="laplace").uncheck()
    others = [entry["label"] for entry in entries("uci-small", "breast") if entry["method"] != "laplace"]
    assert sorted(labels(view)) == sorted(others)
    assert view.page.locator("#plots .point").count() == len(others)
    view.page.get_by_role("button", name="none").click()
    assert labels(view) == []
    assert "No entry fits" in view.page.locator("#table").inner_text()
    view.page.get_by_role("button", name="Reset the view").click()
    assert view.fragment == ""
    assert choice(view, "Run").input_value() == "quick"


def test_only_methods_of_the_run_can_be_chosen(look):
    view = look()
    boxes = view.page.locator("#methods label")
    for run in ("quick", "images", "uci-small"):
        choice(view, "Run").select_option(run)
        there = {entry["method"] for entry in real_board()["entries"] if entry["run"] == run}
        shown = [boxes.nth(i).inner_text().strip() for i in range(boxes.count()) if boxes.nth(i).is_visible()]
        assert sorted(shown) == sorted(there)
    assert there < set(real_board()["methods"])
    choice(view, "Run").select_option("All runs")
    assert all(boxes.nth(i).is_visible() for i in range(boxes.count()))


def test_the_page_opens_on_the_run_of_the_headline(look, tiny):
    board = json.loads(json.dumps(real_board()).replace('"uci-small"', '"uci"'))
    view = look(file=tiny(board))
    assert choice(view, "Run").input_value() == "uci"
    assert choice(view, "Run").locator("option").all_inner_texts() == ["uci", "quick", "images", "All runs"]
    assert view.fragment == ""
    choice(view, "Run").select_option("quick")
    assert view.fragment == "run=quick"


def test_a_budget_leaves_out_what_costs_more(look, tiny):
    board = deepcopy(real_board())
    for entry in board["entries"]:
        if entry["run"] == "uci-small":
            entry["cost"].pop("gradients", None)  # a run whose rows do not have them
    file = tiny(board)
    view = look("task=vehicle&cost=gradients", file)
    costs = {e["label"]: e["cost"]["gradients"]["mean"] for e in entries("quick", "vehicle") if e["cost"]}
    limit = sorted(costs.values())[len(costs) // 2]
    view.page.get_by_label("Budget: at most").fill(str(limit))
    within = {label for label, cost in costs.items() if cost <= limit}
    assert 0 < len(within) < len(costs)
    assert set(labels(view)) == within
    n = len(entries("quick", "vehicle"))  # what was never run has no cost that could be within the budget
    assert f"{n - len(within)} of {n} results over the budget" in view.page.locator("#status").inner_text()
    # Seconds are no gradients: another cost has no limit yet, be it chosen or fallen back on.
    address = view.fragment
    choice(view, "Cost").select_option("fit_s")
    assert len(labels(view)) == n
    assert "max" not in view.fragment
    other = look(address, file)
    assert "max" in other.fragment
    choice(other, "Run").select_option("uci-small")
    assert choice(other, "Cost").input_value() == "total_s"
    assert "max" not in other.fragment


def test_the_slider_sets_the_budget_from_the_keyboard(look):
    view = look("task=vehicle")
    slider = view.page.get_by_label("Budget, as a slider")
    assert slider.get_attribute("aria-valuetext") == "no limit"
    slider.focus()
    view.page.keyboard.press("Home")
    cheapest = min(entry["cost"]["total_s"]["mean"] for entry in entries("quick", "vehicle") if entry["cost"])
    assert float(view.page.get_by_label("Budget: at most").input_value()) == pytest.approx(cheapest, rel=0.01)
    few = len(labels(view))
    for _ in range(3):
        view.page.keyboard.press("PageUp")
    assert few < len(labels(view)) < len(entries("quick", "vehicle"))
    view.page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "no limit"
    assert "max" not in view.fragment


def test_a_view_is_shared_by_its_address(look):
    view = look()
    choice(view, "Run").select_option("uci-small")
    choice(view, "Task").select_option("vehicle")
    choice(view, "Metric").select_option("brier")
    choice(view, "Cost").select_option("fit_s")
    view.page.get_by_label("Budget: at most").fill("3")
    view.page.get_by_role("checkbox", name="hmc").uncheck()
    view.page.get_by_label("every metric").check()
    sort_button(view, "ACCURACY").click()
    sort_button(view, "ACCURACY").click()
    other = look(view.fragment)
    assert view.fragment == other.fragment
    for part in ("#table", "#status", "#definition", "#plots"):
        assert view.page.locator(part).inner_text() == other.page.locator(part).inner_text()
    for name, value in (("Run", "uci-small"), ("Task", "vehicle"), ("Metric", "brier"), ("Cost", "fit_s")):
        assert choice(other, name).input_value() == value
    assert not other.page.get_by_role("checkbox", name="hmc").is_checked()
    # A changed address changes the view.
    other.page.evaluate("location.hash = 'task=banana'")
    other.page.get_by_text("Every method on banana").wait_for()
    assert choice(other, "Run").input_value() == "quick"


def test_an_address_that_makes_no_sense_gives_the_first_view(look):
    view = look("run=nowhere&task=%3Cb%3E&metric=__proto__&cost=constructor&max=much&sort=toString&method=nobody&=&%")
    assert choice(view, "Run").input_value() == "quick"
    assert choice(view, "Metric").input_value() == "nll"
    assert view.page.get_by_label("Budget: at most").input_value() == ""
    view.page.get_by_role("button", name="all", exact=True).click()
    assert labels(view) == labels(look())

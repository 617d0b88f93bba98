from __future__ import annotations

import pytest

from tests.bench.leaderboard_page.reading import entries


def test_the_plot_shows_the_numbers_and_their_spread(look):
    view = look("run=uci-small&task=ionosphere")
    values = {entry["label"]: entry for entry in entries("uci-small", "ionosphere")}
    points = view.page.locator("#plots .point").evaluate_all(
        "all => all.map((g) => [g.getAttribute('aria-label').split(', NLL')[0], g.classList.contains('beyond'),"
        " g.classList.contains('front'), ...g.getAttribute('transform').match(/[-\\d.]+/g).map(Number)])"
    )
    assert {label for label, *_ in points} == set(values)
    inside = [(values[label]["values"]["nll"]["mean"], y) for label, beyond, _, _, y in points if not beyond]
    (low, bottom), (high, top) = min(inside), max(inside)
    per_nat = (bottom - top) / (high - low)
    assert per_nat > 0  # lower NLL stands lower
    for mean, y in inside:
        assert y == pytest.approx(bottom - per_nat * (mean - low), abs=0.1)
    costs = [values[label]["cost"]["total_s"]["mean"] for label, *_ in points]
    assert costs == sorted(costs)
    assert [x for *_, x, _ in points] == sorted(x for *_, x, _ in points)
    swag = next(point for point in points if point[0] == "swag")
    bars = view.page.locator("#plots .bar").evaluate_all(
        "all => all.map((l) => ['x1', 'x2', 'y1', 'y2'].map((name) => Number(l.getAttribute(name))))"
    )
    (bar,) = (bar for bar in bars if bar[0] == bar[1] == pytest.approx(swag[3]))
    assert abs(bar[2] - bar[3]) == pytest.approx(2 * per_nat * values["swag"]["values"]["nll"]["sd"], abs=0.1)
    pairs = {label: (e["cost"]["total_s"]["mean"], e["values"]["nll"]["mean"]) for label, e in values.items()}
    front = {
        label for label, (cost, nll) in pairs.items()
        if not any(c <= cost and n <= nll and (c, n) != (cost, nll) for c, n in pairs.values())
    }  # fmt: skip
    assert {label for label, _, is_front, *_ in points if is_front} == front


def test_a_point_is_read_by_pointer_and_keyboard(look):
    view = look("run=uci-small&task=ionosphere")
    tip = view.page.locator("#plots .tip")
    points = view.page.locator("#plots .point")
    assert tip.is_hidden()
    points.last.hover()
    assert tip.inner_text().splitlines()[0] == points.last.get_attribute("aria-label").split(", NLL")[0]
    view.page.mouse.move(0, 0)
    assert tip.is_hidden()
    assert view.page.locator("#plots .point[tabindex='0']").count() == 1  # one stop on the way through the page
    points.first.focus()
    view.page.keyboard.press("ArrowRight")
    assert points.nth(1).evaluate("point => point === document.activeElement")
    assert tip.inner_text().splitlines()[0] == points.nth(1).get_attribute("aria-label").split(", NLL")[0]
    view.page.keyboard.press("End")
    assert points.last.evaluate("point => point === document.activeElement")
    view.page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_a_cost_of_nothing_has_a_place_beside_the_log_axis(look):
    view = look("task=breast&cost=gradients")
    assert view.page.locator("#plots svg .zero").text_content() == "0"
    assert "map" in view.page.locator("#plots .point").first.get_attribute("aria-label")

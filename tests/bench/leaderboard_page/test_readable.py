from __future__ import annotations

import pytest

from tests.bench.leaderboard_page.boards import real_board
from tests.bench.leaderboard_page.reading import entries, labels


def test_ranks_failures_and_sources_are_on_the_page(look):
    view = look()
    ranks = view.page.locator("#ranks")
    assert ranks.locator("tbody th").all_inner_texts() == ["metricbnn", "swag", "map"]
    assert ranks.locator("td.best").count() == 2  # 1.25 and 2.5 are closer than 1.5
    assert "7 blocks" in ranks.inner_text()
    assert "critical difference 1.50" in ranks.inner_text()
    reasons = {reason for entry in real_board()["entries"] if entry["run"] == "quick" for reason in entry["reasons"]}
    shown = view.page.locator("#failures").inner_text()
    assert len(reasons) > 3
    assert all(reason in shown for reason in reasons)
    links = view.page.locator("#sources a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert links == [source["rows"] for source in real_board()["made_from"]]


def test_without_a_script_all_numbers_are_in_plain_tables(look):
    view = look(script=False)
    text = view.page.locator("noscript").inner_text()
    assert view.page.locator("noscript tbody tr").count() == len(real_board()["entries"])
    swag = next(entry for entry in entries("quick", "breast") if entry["method"] == "swag")["values"]["nll"]
    assert f"{swag['mean']:.3f} ± {swag['sd']:.3f} (n=3)" in text
    assert "the network has no dropout layers to leave on" in text
    assert view.page.evaluate("document.documentElement.scrollWidth") == 1280


@pytest.mark.parametrize(
    "fragment", ["", "run=*&metric=ece", "run=images&task=mnist-5k&every=1", "method=&task=breast"]
)
def test_a_phone_scrolls_no_page_sideways(look, tmp_path, fragment):
    view = look(fragment, size=(360, 740), dark="run" in fragment)
    assert view.page.evaluate("document.documentElement.scrollWidth") == 360
    # The rows' names stay in sight while the table scrolls in its box, and leave room for the numbers.
    if labels(view):
        view.page.locator("#table").evaluate("box => box.scrollTo(500, 0)")
        box = view.page.locator("#table tbody th").first.bounding_box()
        assert 0 <= box["x"] < 30
        assert box["width"] < 170
    picture = tmp_path / "phone.png"
    view.page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000


# Contrast of each text with what is painted behind it, as WCAG 2 defines it; a canvas turns any CSS colour into RGB.
CONTRASTS = """(selector) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const part = rgb[i] / 255;
    return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [0, 0, 0];
  };
  return [...document.querySelectorAll(selector)].map((element) => {
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(element.ownerSVGElement ? style.fill : style.color)), light(behind(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(look, tmp_path, dark):
    view = look("run=uci-small&task=breast", dark=dark)
    view.page.locator("#plots .point").last.hover()
    texts = (
        "h1", "h2", "h3", ".muted", ".note", "td.best", "td.best .n", "td .n", "td.by", "thead button", "tbody th",
        ".settings", "caption", "label", "legend", "select", "form button", "#status", "a[href*=rows]", "code",
        "#plots text", ".tip div",
    )  # fmt: skip
    for selector in texts:
        found = view.page.evaluate(CONTRASTS, selector)
        assert found, selector
        assert min(found) >= 4.5, selector
    view.page.screenshot(path=tmp_path / "desktop.png", full_page=True)
    background = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 150) is dark


def test_everything_that_can_be_reached_has_a_name(look):
    view = look("task=breast")
    nodes = view.context.new_cdp_session(view.page).send("Accessibility.getFullAXTree")["nodes"]
    controls = {
        "button",
        "combobox",
        "checkbox",
        "slider",
        "spinbutton",
        "link",
        "image",
        "region",
        "columnheader",
        "rowheader",
        "form",
    }
    found = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node["ignored"] and role in controls:
            found.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert controls - set(found) == set()
    assert [role for role, names in found.items() if not all(names)] == []
    assert len(found["combobox"]) == 4
    outline = view.page.evaluate(
        "({lang: document.documentElement.lang, h1: document.querySelectorAll('h1').length,"
        " twice: [...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, all) => all.indexOf(id) < i)})"
    )
    assert outline == {"lang": "en", "h1": 1, "twice": []}


def test_the_first_tab_skips_to_the_results_and_focus_is_seen(look):
    view = look("task=breast")
    before = view.fragment
    view.page.keyboard.press("Tab")
    assert view.page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert view.page.locator(".skip").bounding_box()["y"] >= 0
    view.page.keyboard.press("Enter")
    assert view.page.evaluate("document.activeElement.id") == "results"
    assert view.fragment == before
    seen = set()
    for _ in range(8):
        view.page.keyboard.press("Tab")
        seen.add(view.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert seen == {"solid"}

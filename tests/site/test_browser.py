"""The built site in a browser, from its files and without a network."""

from __future__ import annotations

import numpy as np
import pytest
from built import PAGES, address, needs_site

from emlib import viz

WIDTHS = (390, 820, 1440)


@needs_site
@pytest.mark.parametrize("page", PAGES)
def test_page_works_without_a_network(page, open_tab):
    outside, failed, errors = [], [], []

    def watch(tab):
        tab.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or outside.append(request.url),
        )
        tab.on("requestfailed", lambda request: failed.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))

    tab = open_tab(address(page), watch=watch)
    tab.wait_for_timeout(300)
    assert tab.locator("mjx-merror").count() == 0, tab.locator("mjx-merror").all_inner_texts()
    raw = [text for text in tab.locator("article .math").all_inner_texts() if "\\(" in text or "\\[" in text]
    assert raw == [], "mathematics that was not set"
    move_sliders(tab)
    assert outside == [], "requests that left the machine"
    # the theme asks for its icon fonts ahead of time in a way that file:// refuses; it draws icons as SVG anyway
    assert [url for url in failed if "/vendor/fontawesome/" not in url] == [], "files that did not load"
    # Jupyter Book 1 declares this name twice on every page
    assert [error for error in errors if "THEBE_JS_URL" not in error] == []


@needs_site
@pytest.mark.parametrize("page", PAGES)
def test_page_fits_into_its_window(page, open_tab):
    tab = open_tab(address(page))
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        settle(tab)
        over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{over} pixels too wide in a window of {width}"
        # only on a phone may a wide figure be moved sideways in its box
        assert width < 600 or not any(cut_off(tab)), f"a figure is cut off in a window of {width}"


@needs_site
@pytest.mark.parametrize("page", PAGES)
def test_page_can_be_printed(page, open_tab):
    tab = open_tab(address(page), width=680)  # the width of A4 between its margins
    tab.emulate_media(media="print")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    settle(tab)
    for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".emlib-dial input"):
        assert not any(visible(tab, part)), f"{part} is printed"
    for part in (".emlib-figure figcaption", ".emlib-label", ".admonition.solution p"):
        assert all(visible(tab, part)), f"a part of {part} isn't printed"
    assert not any(cut_off(tab)), "a figure is cut off"


def settle(tab) -> None:
    """Lets the page draw itself anew, however long that takes here."""
    tab.wait_for_timeout(100)
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def visible(tab, part: str) -> list[bool]:
    return tab.locator(part).evaluate_all("parts => parts.map(part => part.checkVisibility())")


def cut_off(tab) -> list[bool]:
    return tab.locator(".emlib-picture").evaluate_all("boxes => boxes.map(box => box.scrollWidth > box.clientWidth)")


def move_sliders(tab) -> None:
    """Every slider, moved by keys, shows one picture at a time, another one each, and says the frame's label."""
    for figure in tab.locator(".emlib-frames").all():
        for dial in figure.locator("input[type=range]").all():
            last, label = int(dial.get_attribute("max")), dial.locator("xpath=following-sibling::span[1]")
            dial.focus()
            seen, heard = [], []
            for key in ["Home", *["ArrowRight"] * last]:
                dial.press(key)
                pictures = shown(figure)
                assert len(pictures) == 1
                assert dial.get_attribute("aria-valuetext") == label.inner_text().strip() != ""
                seen += pictures
                heard.append(label.inner_text())
            assert len(set(heard)) == last + 1, "two frames have the same label"
            assert all(one != other for one, other in zip(seen, seen[1:])), "a step that changes nothing"
            dial.press("Home")
            assert shown(figure) == seen[:1]
            dial.press("End")
            assert shown(figure) == seen[-1:]


def shown(figure) -> list[str]:
    """Sources of the pictures that a reader sees now."""
    return figure.locator(".emlib-frame img").evaluate_all(
        "images => images.filter(image => image.checkVisibility()).map(image => image.src)"
    )


def test_two_sliders_reach_every_picture_in_a_bare_page(open_tab, tmp_path, monkeypatch):
    # as in a saved notebook: neither the book's style nor its script is there
    monkeypatch.setenv("EMLIB_STATIC", "1")
    grid = {"scale": [0.5, 1.0, 2.0], "steps": [1, 10]}
    explored = viz.explore(
        lambda scale, steps: np.full((4, 4), scale * 20 + steps, np.uint8), "{scale} {steps}", "c", **grid
    )
    (tmp_path / "page.html").write_text(f"<!doctype html><html lang=en><body>{explored.data}</body></html>")
    tab = open_tab((tmp_path / "page.html").as_uri())
    move_sliders(tab)
    scale, steps = tab.locator("input").all()
    for i, one in enumerate(grid["scale"]):
        for j, other in enumerate(grid["steps"]):
            scale.fill(str(i))
            steps.fill(str(j))
            alts = tab.locator("img").evaluate_all("all => all.filter(i => i.checkVisibility()).map(i => i.alt)")
            assert alts == [f"{one} {other}"]


def test_a_slider_follows_the_mouse_and_the_finger(open_tab, tmp_path):
    sheets = [np.full((4, 4), 50 * i, np.uint8) for i in range(5)]
    deck = viz.frames(sheets, list("abcde"), [f"grey {i}" for i in range(5)], "c", start=0)
    (tmp_path / "page.html").write_text(f"<!doctype html><html lang=en><body>{deck.data}</body></html>")
    tab = open_tab((tmp_path / "page.html").as_uri())
    box = tab.locator("input").bounding_box()
    assert box["height"] >= 16
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tab.locator(".emlib-label").inner_text() == "c"
    assert tab.locator("img:visible").get_attribute("alt") == "grey 2"

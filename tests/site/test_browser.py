"""The built site in a browser, from its files and without a network."""

from __future__ import annotations

import numpy as np
import pytest
from built import PAGES, address, needs_site

from emlib import viz

WIDTHS = (390, 820, 1440)


@needs_site
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_page_works_without_a_network(tab, loaded):
    _, heard = loaded
    tab.wait_for_load_state("networkidle")
    assert tab.locator("mjx-merror").count() == 0, tab.locator("mjx-merror").all_inner_texts()
    raw = [text for text in tab.locator("article .math").all_inner_texts() if "\\(" in text or "\\[" in text]
    assert raw == [], "mathematics that was not set"
    move_sliders(tab)
    assert heard.outside == [], "requests that left the machine"
    assert heard.refused == [], "a page needs what its own policy forbids"
    # the theme asks for its icon fonts ahead of time in a way that file:// refuses; it draws icons as SVG anyway
    assert [url for url in heard.failed if "/vendor/fontawesome/" not in url] == [], "files that did not load"
    # Jupyter Book 1 declares this name twice on every page
    assert [error for error in heard.errors if "THEBE_JS_URL" not in error] == []


@needs_site
def test_what_slipped_into_a_page_can_neither_fetch_nor_send(open_tab):
    asked, wanted = [], "img-src script-src-elem frame-src object-src form-action connect-src"
    tab = open_tab(address("book/05_dps"), watch=lambda tab: tab.on("request", lambda one: asked.append(one)))
    kinds = tab.evaluate(
        """async wanted => {
            const kinds = [], there = "https://elsewhere.invalid/";
            document.addEventListener("securitypolicyviolation", event => kinds.push(event.effectiveDirective));
            for (const [name, at] of [["img", "src"], ["script", "src"], ["iframe", "src"], ["object", "data"]])
                document.body.appendChild(Object.assign(document.createElement(name), {[at]: there}));
            const form = Object.assign(document.createElement("form"), {action: there, method: "post"});
            document.body.appendChild(form).submit();
            await fetch(there).catch(() => 0);
            // by the page itself and later, since a test's own code may run strings
            const script = "setTimeout(() => { try { Function('window.ran = 1')() } catch { window.ran = 0 } })";
            document.body.appendChild(Object.assign(document.createElement("script"), { textContent: script }));
            for (let left = 600; left && !(wanted.every(kind => kinds.includes(kind)) && "ran" in window); left--)
                await new Promise(done => setTimeout(done, 100));
            return kinds;
        }""",
        wanted.split(),
    )
    assert set(wanted.split()) <= set(kinds), kinds
    assert tab.evaluate("window.ran") == 0
    # frames are asked for and refused at once, before anything leaves
    assert {request.failure for request in asked if "elsewhere" in request.url} <= {"csp", "net::ERR_BLOCKED_BY_CSP"}


@needs_site
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_page_fits_into_its_window(tab):
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        settle(tab)
        over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{over} pixels too wide in a window of {width}"
        # only on a phone may a wide figure be moved sideways in its box
        assert width < 600 or not any(cut_off(tab)), f"a figure is cut off in a window of {width}"
        assert without_cue(tab) == [], f"more than is seen, and no edge fades, in a window of {width}"


@needs_site
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_a_phone_shows_equations_whole_and_stacked_figures(tab):
    tab.set_viewport_size({"width": 390, "height": 900})
    settle(tab)
    wide = tab.locator("article div.math mjx-container").evaluate_all(
        "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.parentElement.textContent)"
    )
    assert wide == [], "equations that go on beyond the edge; break them with aligned"
    for form, seen in ((".emlib-narrow", True), (".emlib-wide", False)):
        frames = tab.locator(f".emlib-frame:not([hidden]) {form}, .emlib-figure:not(:has(.emlib-frames)) {form}")
        assert frames.evaluate_all("all => all.map(one => one.checkVisibility())") == [seen] * frames.count()
    assert not any(tab.locator(".emlib-narrow .emlib-picture").evaluate_all(MOVED)), "a narrow figure is too wide"


@needs_site
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_opens_in_the_systems_theme(open_tab, theme):
    tab = open_tab(address("book/08_em_whole_loop"), theme)
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[ground.index("(") + 1 : -1].split(",")[:3])) > 384) == (theme == "light")


@needs_site
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_no_figure_is_a_slab_on_a_dark_page(tab, theme):
    grounds = tab.locator(".emlib-drawn, .emlib-sheet").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert set(grounds) <= {"rgba(0, 0, 0, 0)"}
    filters = set(tab.locator(".emlib-drawn").evaluate_all("all => all.map(one => getComputedStyle(one).filter)"))
    assert filters <= {"none" if theme == "light" else "invert(1) hue-rotate(180deg)"}
    kept = set(tab.locator(".emlib-sheet, .emlib-pixels").evaluate_all("a => a.map(o => getComputedStyle(o).filter)"))
    assert kept <= {"none"}, "a photograph is turned over"


@needs_site
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_sliders_are_as_wide_as_their_pictures(tab):
    for figure in tab.locator(".emlib-frames").all():
        picture = figure.locator(".emlib-frame:not([hidden]) img").first.bounding_box()["width"]
        for dial in figure.locator("input").all():
            assert dial.bounding_box()["width"] == pytest.approx(picture, rel=0.03)


@needs_site
def test_a_word_of_the_glossary_says_its_meaning_to_pointer_and_keys_and_leads_to_its_entry(open_tab):
    tab = open_tab(address("book/08_em_whole_loop"))
    word = tab.locator("a.book-term").first
    shown = "one => getComputedStyle(one, '::after').content"
    assert word.evaluate(shown) == "none"
    for reach in (word.hover, word.focus):
        reach()
        assert word.evaluate(shown).strip('"') == word.get_attribute("data-meaning").replace('"', '\\"')
    word.press("Enter")
    tab.wait_for_url("**/notation_glossary.html#term-*")
    entry = tab.locator(f"[id='{tab.url.rpartition('#')[2]}']")
    assert entry.is_visible()


@needs_site
@pytest.mark.parametrize("width", [390, 1440])
def test_words_of_the_loop_stay_in_their_boxes(width, open_tab):
    tab = open_tab(address("book/08_em_whole_loop"), width=width)
    room = tab.locator(".book-loop g").evaluate_all(
        """all => all.map(one => {
            const [box, text] = ['rect', 'text'].map(tag => one.querySelector(tag).getBBox());
            return Math.min(text.x - box.x, box.x + box.width - text.x - text.width);
        })"""
    )
    assert len(room) == 6
    assert min(room) > 2


@needs_site
def test_the_front_page_works_without_scripts(browser):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    tab = context.new_page()
    tab.goto(address(PAGES[0]))
    assert [image.is_visible() for image in tab.locator(".emlib-frame img").all()].count(True) == 1
    assert all(door.is_visible() for door in tab.locator(".sd-card").all())
    tab.goto(address("book/08_em_whole_loop"))
    assert tab.locator(".book-head svg").is_visible()
    assert tab.locator(".emlib-narrow").first.is_visible()
    context.close()


@needs_site
@pytest.mark.parametrize("loaded", PAGES, indirect=True)
def test_page_can_be_printed(tab):
    tab.set_viewport_size({"width": 680, "height": 900})  # the width of A4 between its margins
    tab.emulate_media(media="print")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    settle(tab)
    for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".emlib-dial input"):
        assert not any(visible(tab, part)), f"{part} is printed"
    for part in (".emlib-figure figcaption", ".emlib-label", ".admonition.solution p"):
        assert all(visible(tab, part)), f"a part of {part} isn't printed"
    assert not any(cut_off(tab)), "a figure is cut off"


def settle(tab) -> None:
    """Lets the page draw itself anew, however long that takes: five frames in which no height changes."""
    tab.evaluate(
        """() => new Promise(done => {
            let last = "", same = 0;
            const look = () => {
                const now = [...document.querySelectorAll("article *")].map(part => part.offsetHeight).join();
                same = now === last ? same + 1 : 0;
                last = now;
                same < 5 ? requestAnimationFrame(look) : done();
            };
            look();
        })"""
    )


def visible(tab, part: str) -> list[bool]:
    return tab.locator(part).evaluate_all("parts => parts.map(part => part.checkVisibility())")


MOVED = "boxes => boxes.map(box => box.scrollWidth > box.clientWidth)"

BOXES = (
    ".emlib-picture, .emlib-table > div, .pst-scrollable-table-container, .cell_output pre, div.math mjx-container, "
    "article .highlight pre"
)
"""What may hold more than is seen."""


def cut_off(tab) -> list[bool]:
    return tab.locator(".emlib-picture").evaluate_all(MOVED)


def without_cue(tab) -> list[str]:
    """Boxes that hold more at their right than is seen, and do not fade there."""
    return tab.locator(BOXES).evaluate_all(
        """boxes => boxes.filter(box => {
            if (!box.checkVisibility() || box.scrollWidth <= box.clientWidth + 1) return false;
            const style = getComputedStyle(box);
            return style.maskImage == 'none' || parseFloat(style.getPropertyValue('--book-more-right')) < 8;
        }).map(box => box.textContent.slice(0, 60))"""
    )


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

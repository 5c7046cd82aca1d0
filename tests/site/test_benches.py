"""The laboratory's benches as a reader uses them: by mouse, keys and finger, from a file, without a network."""

from __future__ import annotations

import numpy as np
import pytest
from built import PAGES, needs_site, soup
from patience import until
from PIL import Image
from test_accessibility import AXE
from test_lab import page_of

from emlib import viz

STATUS = ".emlib-lab [role=status]"


def bench_page(folder, bench="hide", **first):
    return page_of(
        folder, viz.laboratory(bench, np.zeros((4, 4), np.uint8), "a still picture", "Try it.", **first).data
    )


def opened(tab, figure=".emlib-lab"):
    tab.click(f"{figure} .emlib-lab-open")
    tab.wait_for_selector(f"{figure} .emlib-lab-bench")
    return tab


def dial(tab, label: str, value) -> None:
    tab.get_by_label(label, exact=True).fill(str(value))


def finished(tab, begins: str = "Done") -> str:
    tab.wait_for_function(
        "([at, word]) => document.querySelector(at).textContent.startsWith(word)", arg=[STATUS, begins]
    )
    return tab.inner_text(STATUS)


def test_without_scripts_the_still_picture_is_all(browser, tmp_path):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(bench_page(tmp_path))
    assert tab.locator(".emlib-lab img").is_visible()
    assert tab.locator("button").count() == 0
    context.close()


def test_before_the_click_nothing_is_read_and_afterwards_nothing_from_elsewhere(open_tab, tmp_path):
    asked = []
    tab = open_tab(bench_page(tmp_path), watch=lambda tab: tab.on("request", lambda request: asked.append(request.url)))
    tab.wait_for_load_state("networkidle")
    assert {url.rsplit("/", 1)[-1].split("?")[0] for url in asked if not url.startswith("data:")} == {
        "page.html",
        "start.js",
        "lab.css",
    }
    opened(tab)
    assert not any("prior-" in url for url in asked)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_hide_and_restore_by_keys_alone(open_tab, tmp_path):
    errors = []
    tab = open_tab(bench_page(tmp_path), watch=lambda tab: tab.on("pageerror", lambda error: errors.append(str(error))))
    tab.locator(".emlib-lab-open").press("Enter")
    canvas = tab.locator(".emlib-lab-paint")
    canvas.wait_for()
    tab.get_by_role("button", name="nothing").press("Enter")
    assert tab.inner_text(".emlib-lab-share") == "0 % of the pixels are hidden"
    dial(tab, "brush width", 4)
    for key in ("Space", *["ArrowDown"] * 9, "Space"):  # two squares of 9 x 9 = 162 of 784
        canvas.press(key)
    assert tab.inner_text(".emlib-lab-share") == "21 % of the pixels are hidden"
    for label, value in (("steps", 4), ("draws", 2)):
        dial(tab, label, value)
    tab.get_by_role("button", name="Restore").press("Enter")
    said = finished(tab)
    assert said.count(" dB") == 3, said
    step = tab.get_by_label("step", exact=True)
    assert step.get_attribute("aria-valuetext") == "4 of 4: the picture"
    before = tab.evaluate("document.querySelectorAll('.emlib-lab-results canvas')[2].toDataURL()")
    step.press("Home")
    assert step.get_attribute("aria-valuetext").startswith("1 of 4: t = ")
    assert tab.evaluate("document.querySelectorAll('.emlib-lab-results canvas')[2].toDataURL()") != before
    assert errors == []


@pytest.mark.parametrize("sampler", ["dps", "diffpir"])
def test_the_mouse_paints_and_each_sampler_restores(open_tab, tmp_path, sampler):
    tab = opened(open_tab(bench_page(tmp_path, sampler=sampler)))
    assert tab.get_by_label("push λ").is_visible() == (sampler == "dps")
    tab.get_by_role("button", name="nothing").click()
    box = tab.locator(".emlib-lab-paint").bounding_box()
    tab.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] / 2)
    tab.mouse.up()
    hidden = int(tab.inner_text(".emlib-lab-share").split(" %")[0])
    assert 8 <= hidden <= 11, "a stroke of three pixels across the picture leaves no gaps"
    for label, value in (("steps", 4), ("draws", 1)):
        dial(tab, label, value)
    tab.get_by_role("button", name="Restore").click()
    assert "dB" in finished(tab)


def test_a_walk_can_be_stopped_and_all_is_given_back(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path)))
    dial(tab, "steps", 50)
    tab.get_by_role("button", name="Restore").click()
    tab.wait_for_function("document.querySelector('.emlib-lab-progress').textContent.includes('draw 1 of 3, step 1')")
    tab.get_by_role("button", name="Stop").click()
    finished(tab, "Stopped")
    assert tab.get_by_role("button", name="Restore").is_enabled()
    assert len(tab.workers) == 1
    tab.get_by_role("button", name="Close").click()
    assert tab.locator(".emlib-lab-bench").count() == 0
    until(tab, lambda: tab.workers == [], "the end of the worker")
    opened(tab)  # and the bench can be had again


def test_ones_own_picture_is_made_small_and_one_that_is_none_is_refused(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path)))
    picture = np.full((60, 40), 255, np.uint8)
    picture[20:40, 10:30] = 0  # dark on bright, which is turned over
    Image.fromarray(picture).save(tmp_path / "own.png")
    (tmp_path / "none.png").write_text("no picture")
    own = tab.locator("input[type=file]")
    own.set_input_files(tmp_path / "own.png")
    finished(tab, "Your picture stays in this page")
    tab.get_by_role("button", name="nothing").click()
    canvas = "document.querySelector('.emlib-lab-paint').getContext('2d')"
    pixels = np.array(tab.evaluate(f"Array.from({canvas}.getImageData(0, 0, 28, 28).data)")).reshape(28, 28, 4)
    assert pixels[14, 14, 0] > 250
    assert pixels[1, 1, 0] < 5
    own.set_input_files(tmp_path / "none.png")
    assert "none.png could not be read as a picture" in finished(tab, "none.png")


def test_who_wants_less_motion_sees_the_ends_of_walks(browser, tmp_path):
    context = browser.new_context(reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(bench_page(tmp_path))
    opened(tab)
    tab.evaluate(
        "() => { window.seen = []; const old = lab.paintPixels; lab.paintPixels = (canvas, x, mask) => "
        "{ seen.push(canvas.getAttribute('aria-label')); old(canvas, x, mask); }; }"
    )
    for label, value in (("steps", 4), ("draws", 1)):
        dial(tab, label, value)
    tab.get_by_role("button", name="Restore").click()
    finished(tab)
    assert tab.evaluate("seen.filter(name => name.startsWith('guess')).length") == 1
    context.close()


def test_a_prior_that_is_missing_is_said_and_can_be_asked_for_again(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path)))
    tab.evaluate("() => { window.folder = lab.folder; lab.folder += 'nowhere/'; }")
    tab.get_by_role("button", name="Restore").click()
    assert finished(tab, "It did not work") == "It did not work: The file prior-em3.js could not be loaded."
    tab.evaluate("() => { lab.folder = window.folder; }")
    for label, value in (("steps", 4), ("draws", 1)):
        dial(tab, label, value)
    tab.get_by_role("button", name="Restore").click()
    finished(tab)


def test_a_browser_that_is_too_old_is_told(browser, tmp_path):
    context = browser.new_context()
    context.add_init_script("WebAssembly.validate = () => false")
    tab = context.new_page()
    tab.goto(bench_page(tmp_path))
    tab.click(".emlib-lab-open")
    assert "Safari 16.4 and newer can" in finished(tab, "This browser")
    assert tab.locator(".emlib-lab-bench").count() == 0
    context.close()


def test_before_and_after_em_goes_through_all_priors(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path, "em")))
    dial(tab, "steps", 4)
    tab.get_by_role("button", name="Restore with every prior").click()
    finished(tab)
    slider, seen = tab.get_by_label("prior", exact=True), []
    for key in ("Home", *["ArrowRight"] * 4):
        slider.press(key)
        seen.append(
            (slider.get_attribute("aria-valuetext"), tab.locator(".emlib-lab-large figcaption").nth(1).inner_text())
        )
    assert len(set(seen)) == 5
    assert seen[0][0].startswith("first prior")


def test_before_and_after_em_takes_the_mean_of_all_pictures(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path, "em")))
    tab.evaluate("() => { lab.heldOut.length = 2; lab.PRIORS.length = 2; }")  # the bench reads both anew
    tab.get_by_role("button", name="Close").click()
    opened(tab)
    dial(tab, "steps", 4)
    tab.get_by_label("pictures", exact=True).select_option("all")
    tab.get_by_role("button", name="Restore with every prior").click()
    finished(tab)
    said = tab.locator(".emlib-lab-large figcaption").nth(1).inner_text()
    assert "; mean of 2: " in said


def test_draw_walks_three_priors_from_one_noise(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path, "draw")))
    dial(tab, "steps", 3)
    tab.get_by_role("button", name="Draw").click()
    finished(tab)
    pictures = tab.evaluate("Array.from(document.querySelectorAll('.emlib-lab-results canvas'), c => c.toDataURL())")
    assert len(set(pictures[:3])) == 3


def test_the_exact_world_knows_its_own_picture_and_doubts_behind_holes(open_tab, tmp_path):
    tab = opened(open_tab(bench_page(tmp_path, "exact")))
    dial(tab, "time t", 100)
    assert "the likeliest has 100.0 %" in tab.inner_text(STATUS)
    dial(tab, "time t", 800)
    tab.get_by_role("button", name="Hide nothing").click()
    without = float(tab.inner_text(STATUS).split()[2])
    tab.get_by_role("button", name="Hide the lower half").click()
    assert float(tab.inner_text(STATUS).split()[2]) > without > 1


LIVE = [page for page in PAGES if soup(page).select(".emlib-lab")] if needs_site.args[0] is False else []


@needs_site
@pytest.mark.parametrize(("theme", "widths"), [("light", (390, 820)), ("dark", (1440,))])
@pytest.mark.parametrize("loaded", LIVE, indirect=True)
def test_a_bench_in_the_book_fits_and_can_be_used_by_all(tab, theme, widths):
    tab.set_viewport_size({"width": widths[0], "height": 900})
    opened(tab)
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    for width in widths:
        tab.set_viewport_size({"width": width, "height": 900})
        over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{over} pixels too wide in a window of {width}"
        found = tab.evaluate("() => axe.run('.emlib-lab', { resultTypes: ['violations'], preload: false })")
        serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
        assert [f"{rule['id']}: {node['failureSummary']}" for rule in serious for node in rule["nodes"]] == []


@needs_site
@pytest.mark.parametrize("loaded", LIVE, indirect=True)
def test_a_bench_is_not_printed_and_its_still_picture_is(tab):
    tab.set_viewport_size({"width": 680, "height": 900})
    opened(tab)
    tab.emulate_media(media="print")
    assert not tab.locator(".emlib-lab-bench").is_visible()
    assert tab.locator(".emlib-lab-still img").first.is_visible()

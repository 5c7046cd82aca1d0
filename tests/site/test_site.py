"""The built site, read from its files and opened in a browser without a network.

``EMLIB_SITE`` names the built site (default: the smoke site in ``_build``); ``make site-tests`` builds it first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

yaml = pytest.importorskip("yaml")
bs4 = pytest.importorskip("bs4")

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("EMLIB_SITE", "_build/smoke/_build/html")).resolve()
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter["file"] for chapter in TOC["chapters"]]
PAGES = [TOC["root"], *CHAPTERS]
LIMIT = 3_000_000
"""Bytes that a page and the pictures it shows may weigh."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason=f"no built site in {SITE}; `make site-tests` builds one"
)


def soup(page: str) -> bs4.BeautifulSoup:
    return bs4.BeautifulSoup((SITE / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def is_external(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https") or address.startswith("//")


def is_local(address: str) -> bool:
    return not urlsplit(address).scheme and not address.startswith("//")


@pytest.mark.parametrize("page", PAGES)
def test_page_exists_with_its_heading(page):
    heading = soup(page).select_one("article h1")
    assert heading is not None
    assert len(heading.get_text().strip("# \n")) > 3


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_was_executed(page):
    article = soup(page).select_one("article")
    outputs = article.select(".cell_output")
    assert outputs, "no cell has an output: the chapter was not executed"
    assert "Traceback (most recent call last)" not in article.get_text()
    assert article.select(".cell_output img"), "the chapter has no figure"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_exist_and_say_what_they_show(page):
    for image in soup(page).find_all("img"):
        alt, source = image.get("alt", "").strip(), image.get("src", "")
        assert alt, f"no alt text: {str(image)[:200]}"
        assert not re.search(r"_images/|\.(png|svg|jpe?g|webp)$", alt), f"a file name isn't an alt text: {alt}"
        if is_local(source):
            assert ((SITE / page).parent / unquote(source)).is_file(), f"missing picture {source}"


@pytest.mark.parametrize("page", PAGES)
def test_page_is_light(page):
    html = SITE / f"{page}.html"
    local = {image["src"] for image in soup(page).find_all("img", src=True) if is_local(image["src"])}
    weight = html.stat().st_size + sum((html.parent / unquote(source)).stat().st_size for source in local)
    assert weight < LIMIT, f"{page} with its pictures weighs {weight / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}"


def test_nothing_is_loaded_from_elsewhere():
    loads = ("script", "img", "iframe", "source", "video", "audio", "embed")
    for html in SITE.rglob("*.html"):
        page = bs4.BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")
        found = [str(tag)[:120] for tag in page.find_all(loads) if is_external(tag.get("src", ""))]
        found += [
            str(tag)[:120]
            for tag in page.find_all("link", href=True)
            if is_external(tag["href"]) and not {"canonical", "license"} & set(tag.get("rel", []))
        ]
        found += re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//\S+", "".join(map(str, page.find_all("style"))))
        assert found == [], f"{html.relative_to(SITE)} loads from another place"
    for css in (SITE / "_static").rglob("*.css"):
        text = css.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), f"{css.name} loads from another place"


@pytest.mark.parametrize("page", CHAPTERS)
def test_colab_button_opens_the_notebook_in_git(page):
    try:
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this isn't a git checkout, or git isn't installed")
    links = [a["href"] for a in soup(page).find_all("a", href=re.compile(r"colab\.research\.google\.com/github"))]
    assert links, "the chapter has no Colab button"
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    repository = urlsplit(config["url"]).path.strip("/")
    for link in links:
        path = unquote(urlsplit(link).path)
        assert path == f"/github/{repository}/blob/{config['branch']}/{page}.ipynb"
        assert f"{page}.ipynb" in tracked.splitlines(), f"{page}.ipynb isn't in git, so Colab can't open it"


def test_links_inside_the_site_resolve():
    pages = {html: bs4.BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser") for html in SITE.rglob("*.html")}
    anchors = {html: {tag["id"] for tag in page.find_all(id=True)} for html, page in pages.items()}
    broken = []
    for html, page in pages.items():
        for link in page.find_all("a", href=True):
            href = link["href"]
            if not is_local(href) or href in ("", "#"):
                continue
            parts = urlsplit(href)
            target = (html.parent / unquote(parts.path)).resolve() if parts.path else html
            fragment = unquote(parts.fragment)
            if not target.is_file() or (fragment and target in anchors and fragment not in anchors[target]):
                broken.append(f"{html.relative_to(SITE)} -> {href}")
    assert broken == []


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=arguments)
        yield running
        running.close()


@pytest.mark.parametrize("page", PAGES)
def test_page_works_in_a_browser_without_a_network(page, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    outside, failed, errors = [], [], []

    def watch(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            outside.append(request.url)

    tab.on("request", watch)
    tab.on("requestfailed", lambda request: failed.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    try:
        tab.goto((SITE / f"{page}.html").as_uri(), wait_until="load")
        tab.wait_for_timeout(300)
        if tab.locator("article .math").count():
            tab.wait_for_selector("mjx-container", state="attached", timeout=30_000)
            tab.evaluate("() => MathJax.startup.promise")
            assert tab.locator("mjx-merror").count() == 0, tab.locator("mjx-merror").all_inner_texts()
            raw = [text for text in tab.locator("article .math").all_inner_texts() if "\\(" in text or "\\[" in text]
            assert raw == [], "mathematics that was not set"
        check_sliders(tab)
    finally:
        tab.close()
    assert outside == [], "requests that left the machine"
    # the theme asks for its icon fonts ahead of time in a way that file:// refuses; it draws icons as SVG anyway
    assert [url for url in failed if "/vendor/fontawesome/" not in url] == [], "files that did not load"
    # Jupyter Book 1 declares this name twice on every page
    assert [error for error in errors if "THEBE_JS_URL" not in error] == []


def check_sliders(tab) -> None:
    """Every frames slider shows another picture, and only one, when an arrow key is pressed."""
    sliders = tab.locator(".emlib-frames")
    for number in range(sliders.count()):
        slider = sliders.nth(number)
        handle = slider.locator("input[type=range]").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        handle.press("Home")
        before = shown(slider)
        handle.press("ArrowRight")
        after = shown(slider)
        assert len(before) == len(after), f"slider {number} shows {len(before)} pictures, then {len(after)}"
        assert before, f"slider {number} shows no picture"
        assert before != after, f"slider {number} shows the same picture after ArrowRight"


def shown(slider) -> list[str]:
    """Sources of the pictures that a frames slider shows now."""
    return slider.locator(".emlib-frame img").evaluate_all(
        "images => images.filter(image => image.checkVisibility()).map(image => image.src)"
    )

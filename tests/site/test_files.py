"""The built site, read from its files."""

from __future__ import annotations

import os
import re
import subprocess
from urllib.parse import unquote, urlsplit

import pytest
from built import CHAPTERS, PAGES, ROOT, SITE, is_external, is_local, needs_site, parse, soup, yaml

LIMIT, LIMIT_WITH_SLIDERS = 3_000_000, 8_000_000
"""Bytes that a page and the pictures it shows may weigh."""

pytestmark = needs_site


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
    # the list of recorded runs is numbers only
    assert article.select(".cell_output img") or page == "book/90_results", "the chapter has no figure"


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
    limit = LIMIT_WITH_SLIDERS if soup(page).select(".emlib-frames") else LIMIT
    assert weight < limit, f"{page} with its pictures weighs {weight / 1e6:.1f} MB, more than {limit / 1e6:.0f}"


@pytest.mark.parametrize("page", PAGES)
def test_page_needs_no_kernel(page):
    # a widget's view would bring scripts from elsewhere, and does nothing without a kernel
    assert not re.search(r"application/vnd\.jupyter\.widget|jupyter-widgets|embed-amd", str(soup(page)))


def test_nothing_is_loaded_from_elsewhere():
    loads = ("script", "img", "iframe", "source", "video", "audio", "embed")
    for html in SITE.rglob("*.html"):
        page = parse(html)
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


def test_each_page_says_what_it_may_load_before_it_loads_anything():
    pages = [html for html in SITE.rglob("*.html") if "_static" not in html.parts]
    assert len(pages) > len(PAGES)
    for html in pages:
        first = parse(html).find(["script", "link", "style"])
        if first is None:  # the page that only leads to the first one
            continue
        said = first.find_previous("meta", attrs={"http-equiv": "Content-Security-Policy"})
        assert said is not None, html
        assert "http" not in said["content"]
        assert said["content"].startswith("default-src 'none'")


@pytest.mark.parametrize("page", PAGES)
def test_page_wears_the_books_own_style_once(page):
    for tag, source, name in (("link", "href", "book.css"), ("script", "src", "book.js")):
        links = [link[source] for link in soup(page).find_all(tag, **{source: re.compile(rf"/{name}\b")})]
        assert len(links) == 1
        assert ((SITE / page).parent / urlsplit(links[0]).path).is_file()


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


def test_each_chapter_has_its_head_below_its_title():
    for page in CHAPTERS:
        heads = soup(page).select("article h1 ~ .book-head")
        assert len(heads) == (page != "book/90_results"), page
    assert not soup(PAGES[0]).select(".book-head")


def test_the_front_page_has_its_strip_doors_map_and_paths():
    front = soup(PAGES[0])
    assert len(front.select(".emlib-frames input")) == 1
    doors = [card.get_text(" ", strip=True) for card in front.select(".sd-card")]
    assert [bool(door) for door in doors] == [True] * 3
    assert len(front.select(".sd-card a[href]")) == 3
    listed = [item["value"] for item in front.select(".book-map li")]
    assert sorted(map(int, listed)) == sorted(int(page.split("/")[1][:2]) for page in CHAPTERS if "90_" not in page)
    assert len(front.select(".book-path")) == 2


def test_words_of_the_glossary_are_linked_once_in_a_chapter():
    places = {tag["id"] for tag in soup("book/notation_glossary").find_all(id=re.compile("^term-"))}
    assert len(places) > 15
    for page in CHAPTERS:
        words = [link.get_text().lower() for link in soup(page).select("a.book-term")]
        assert len(words) == len(set(words)), page
        assert all(link["data-meaning"].strip() for link in soup(page).select("a.book-term"))
    assert any(soup(page).select("a.book-term") for page in CHAPTERS)
    # none inside of what is no prose
    assert not [link for page in PAGES for link in soup(page).select(":is(h1, h2, h3, pre, a, table) a.book-term")]


def test_solutions_are_there_as_the_switch_says():
    found = sum(len(soup(page).select(".admonition.solution")) for page in CHAPTERS)
    exercises = sum(len(soup(page).select(".admonition.exercise")) for page in CHAPTERS)
    assert exercises > 20
    code = sum(len(soup(page).select("section[id=exercises] .cell")) for page in CHAPTERS)
    if os.environ.get("EMLIB_SOLUTIONS") == "0":
        assert (found, code) == (0, 0)
    else:
        assert found == exercises
        assert code > 5

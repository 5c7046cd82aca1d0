"""The built site, read from its files."""

from __future__ import annotations

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

"""Links inside the built site, and the numbers of its figures and equations."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from built import CHAPTERS, PAGES, SITE, bs4, is_local, needs_site, parse, soup

pytestmark = needs_site


def test_links_inside_the_site_resolve():
    pages = {html: parse(html) for html in SITE.rglob("*.html")}
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


def number(figure: bs4.Tag) -> int:
    return int(re.match(r"Figure (\d+)\. \S", figure.figcaption.get_text())[1])


@pytest.mark.parametrize("page", CHAPTERS)
def test_figures_of_a_chapter_are_numbered_without_gaps(page):
    figures = soup(page).select(".emlib-figure")
    # two figures with one number have the same alt text: give one of them a name
    assert [number(figure) for figure in figures] == list(range(1, len(figures) + 1))
    assert [figure["id"] for figure in figures] == [f"figure-{i}" for i in range(1, len(figures) + 1)]


def wrong_figure_links(html: Path, page: bs4.BeautifulSoup, pages: dict[Path, bs4.BeautifulSoup]) -> list[str]:
    """Links to ``#fig-...`` whose words do not say the figure's number or, on another page, its chapter's."""
    wrong = []
    for link in page.select("article a[href*='#fig-']"):
        parts, text = urlsplit(link["href"]), " ".join(link.get_text().split())
        target = (html.parent / unquote(parts.path)).resolve() if parts.path else html
        anchor = pages[target].find(id=parts.fragment)
        figure = anchor.select_one(".emlib-figure") or anchor.find_next(class_="emlib-figure")
        said = re.search(r"\bfigure (\d+)\b", text, re.IGNORECASE)
        right = figure is not None and said is not None and int(said[1]) == number(figure)
        if target != html:
            chapter = re.search(r"\bchapter (\d+)\b", text, re.IGNORECASE)
            right = right and chapter is not None and int(chapter[1]) == int(target.name.split("_")[0])
        if not right:
            wrong.append(f"{html.name}: [{text}]({link['href']}) leads to figure {figure and number(figure)}")
    return wrong


def test_links_to_figures_say_their_numbers():
    pages = {SITE / f"{page}.html": soup(page) for page in PAGES}
    assert [wrong for html, page in pages.items() for wrong in wrong_figure_links(html, page, pages)] == []


def test_a_wrong_figure_link_is_found():
    figures = "".join(
        f'<p id="fig-{name}"></p><figure class="emlib-figure"><figcaption>Figure {i}. It is so.</figcaption></figure>'
        for i, name in enumerate("ab", start=1)
    )
    links = '<a href="#fig-b">figure 2</a> <a href="#fig-b">figure 1</a> <a href="#fig-a">above</a>'
    here, there = (SITE / "book" / name for name in ("08_here.html", "07_there.html"))
    across = '<a href="08_here.html#fig-a">chapter 8, figure 1</a> <a href="08_here.html#fig-a">figure 1</a>'
    across += '<a href="08_here.html#fig-b">chapter 9, figure 2</a>'
    pages = {
        here: bs4.BeautifulSoup(f"<article>{links}{figures}</article>", "html.parser"),
        there: bs4.BeautifulSoup(f"<article>{across}</article>", "html.parser"),
    }
    assert [re.search(r"\[(.*)\]", wrong)[1] for wrong in wrong_figure_links(here, pages[here], pages)] == [
        "figure 1",
        "above",
    ]
    assert len(wrong_figure_links(there, pages[there], pages)) == 2


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapters_number_is_the_one_in_its_files_name(page):
    heading = soup(page).select_one("article h1 .section-number")
    if heading is not None:  # _toc.yml says whether chapters are numbered
        assert int(heading.get_text().strip(" .")) == int(page.rsplit("/", 1)[-1].split("_")[0])


def test_equations_have_different_numbers_and_links_say_them():
    numbers = {}
    for page in PAGES:
        for equation in soup(page).select("div.math[id^=equation-]"):
            numbers[f"{page}.html#{equation['id']}"] = equation.select_one(".eqno").get_text().strip("#")
    assert len(set(numbers.values())) == len(numbers)
    for page in PAGES:
        for link in soup(page).select("article a.reference[href*='#equation-']"):
            parts = urlsplit(link["href"])
            target = (SITE / page).parent / parts.path if parts.path else SITE / f"{page}.html"
            key = f"{target.resolve().relative_to(SITE)}#{parts.fragment}"
            assert link.get_text() == numbers[key], f"{page} -> {key}"

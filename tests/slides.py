"""Slides from a built book's figures: ``python tests/slides.py CACHE OUT``; ``make slides`` builds the book first.

A slide a figure: its heading is the finding that the caption states first, the rest of the caption stands below. The
figures come from the executed chapters in the cache; reveal.js, which lies in the repository, turns the pages. The
slides load nothing from elsewhere, sliders work in them, and a browser prints them (``slides.html?print-pdf``).
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import heads
from bs4 import BeautifulSoup, Tag
from jupyter_cache import get_cache
from nbformat import NotebookNode

REVEAL = heads.ROOT / "book" / "assets" / "vendor" / "reveal"
WIDE, HIGH = 1280, 800
"""Of a slide, in pixels of its own."""
ROOM = 520
"""Height of them that a figure may take."""

STYLE = """
body { margin: 0; background: #fff; }
.reveal { color: #1c2229; font-family: system-ui, sans-serif; font-size: 26px; }
.reveal section { text-align: left; }
.reveal h1 { font-size: 60px; } .reveal h2 { font-size: 34px; line-height: 1.25; margin: 0 0 20px; }
.reveal figure { margin: 0; } .reveal figcaption, .reveal details { font-size: 18px; color: #4a5565; }
.reveal .emlib-picture { overflow: visible !important; } .reveal input { accent-color: #0b55c4; }
.reveal .emlib-frames { max-width: none !important; }
.reveal footer { position: absolute; bottom: 8px; right: 0; font-size: 16px; color: #4a5565; }
"""


def executed(cache: Path) -> dict[str, NotebookNode]:
    """Chapter -> its executed notebook, the newest that the cache has.

    Raises:
        FileNotFoundError: if a chapter of the course is not there.
    """
    kept = get_cache(str(cache))
    newest = {Path(record.uri).stem: record for record in sorted(kept.list_cache_records(), key=lambda r: r.created)}
    chapters = list(heads.course()["chapters"])
    if missing := [chapter for chapter in chapters if chapter not in newest]:
        raise FileNotFoundError(f"{cache} has no executed {', '.join(missing)}; build the book first: make site")
    return {chapter: kept.get_cache_bundle(newest[chapter].pk).nb for chapter in chapters}


def figures(notebook: NotebookNode) -> Iterator[Tag]:
    """The figures that a chapter shows, in order."""
    for cell in notebook.cells:
        if {"remove-cell", "remove-output"} & set(cell.metadata.get("tags", [])):
            continue
        for output in cell.get("outputs", []):
            page = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
            yield from page.select("figure.emlib-figure")


def title(chapter: str) -> str:
    """The first heading of a chapter; the cache keeps code alone."""
    return next(match[2] for match in heads.HEADING.finditer(heads.text_of(chapter)))


def slide(figure: Tag, chapter: str) -> str:
    """A figure under the finding that its caption begins with."""
    caption = figure.figcaption
    number = caption.b.extract().get_text().strip(". ")
    source = caption.details.extract() if caption.details else ""
    finding, _, rest = re.sub(r"\s+", " ", caption.get_text()).strip().partition(". ")
    caption.clear()
    caption.append(rest)
    for narrow in figure.select(".emlib-narrow"):
        narrow.decompose()
    for image in figure.select("img"):
        sheet = image.parent if "emlib-sheet" in image.parent.get("class", []) else image
        across = min(WIDE - 80, ROOM * int(image["width"]) / int(image["height"]))
        sheet["style"] = f"{sheet.get('style', '')};width:{across:.0f}px;max-width:none;min-width:0"
    figure["id"] = f"{chapter}-{figure['id']}"
    words = html.escape(f"{finding.rstrip('.')}.")
    return (
        f"<section><h2>{words}</h2>{figure}{source}<footer>chapter {heads.number(chapter)}, {number}</footer></section>"
    )


def deck(chapters: dict[str, NotebookNode]) -> str:
    """All slides as one page of HTML."""
    slides = ["<section><h1>EM diffusion</h1><p>Clean models from corrupted pictures</p></section>"]
    for chapter, notebook in chapters.items():
        lit = heads.loop(heads.course()["chapters"][chapter]["lit"], chapter)
        opening = f"<section><h1>{html.escape(title(chapter))}</h1>{lit}</section>"
        slides.append("".join([opening, *(slide(figure, chapter) for figure in figures(notebook))]))
    body = "".join(f"<section>{column}</section>" for column in slides[1:])
    loop = (heads.ROOT / "book" / "assets" / "loop.css").read_text(encoding="utf-8")
    options = f"{{hash: true, slideNumber: true, width: {WIDE}, height: {HIGH}, center: false, transition: 'none'}}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>EM diffusion: slides</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="reveal/reveal.css"><style>{STYLE}{loop}</style></head><body>'
        f'<div class="reveal"><div class="slides">{slides[0]}{body}</div></div>'
        f'<script src="reveal/reveal.js"></script><script>Reveal.initialize({options})</script></body></html>'
    )


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder of the cache of a built book")
    parser.add_argument("out", type=Path, help="folder for slides.html and what it needs")
    args = parser.parse_args(words)
    try:
        made = deck(executed(args.cache))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    shutil.copytree(REVEAL, args.out / "reveal", dirs_exist_ok=True)
    (args.out / "slides.html").write_text(made, encoding="utf-8")
    print(f"The slides are made. Open them in a browser:  {(args.out / 'slides.html').resolve().as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

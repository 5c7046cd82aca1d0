r"""The head of each chapter, made from ``book/course.json``: an extension of Sphinx, which ``_config.yml`` names.

Below a chapter's title stands the loop of EM with the chapter's part lit, the time to read and to run, what it needs
and whether it belongs to the core. Times to run come from a recorded build (``make times``), times to read from the
text; nothing of it is typed by hand in a chapter.
"""

from __future__ import annotations

import functools
import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "book" / "course.json"
TIMES = ROOT / "data" / "results" / "book-times.json"

WORDS, LINES, EQUATIONS = 200, 20, 3
"""Of each, what is read in a minute."""

PARTS = {
    "broken": (0, 0, "broken pictures"),
    "e-step": (1, 0, "E-step"),
    "repaired": (2, 0, "repaired ones"),
    "clean": (0, 1, "few clean ones"),
    "prior": (1, 1, "prior"),
    "m-step": (2, 1, "M-step"),
}
"""Part of the loop -> its column and row in the drawing, and its name there."""

ARROWS = (
    ("broken", "e-step"),
    ("e-step", "repaired"),
    ("repaired", "m-step"),
    ("m-step", "prior"),
    ("prior", "e-step"),
    ("clean", "prior"),
)
WIDTH, HEIGHT, ACROSS, DOWN = 118, 34, 140, 58
"""Of a box of the drawing, and from one to the next; units of its own."""

SEEN_CODE = re.compile(r"^```\{code-cell\}[^\n]*\n(:tags: \[[^\n]*(?:hide-|remove-)[^\n]*\n)?(.*?)^```", re.M | re.S)
SOLUTION = re.compile(r"^```\{solution\}.*?^```", re.M | re.S)
EQUATION = re.compile(r"^\$\$.*?^\$\$", re.M | re.S)
HEADING = re.compile(r"^(#+) +(.+?)\s*$", re.M)


@functools.cache
def course() -> dict[str, Any]:
    """The table of chapters and paths."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


@functools.cache
def seconds_to_run() -> dict[str, float]:
    """Chapter -> seconds of its cells in the recorded build."""
    record = json.loads(TIMES.read_text(encoding="utf-8"))
    return {row["chapter"]: row["seconds"] for row in record["rows"]}


def text_of(chapter: str) -> str:
    """A chapter's text without the lines that only programs read."""
    return re.sub(r"\A---\n.*?^---\n", "", (ROOT / f"book/{chapter}.md").read_text(encoding="utf-8"), flags=re.M | re.S)


def section(text: str, title: str) -> str:
    """The part of a text below a heading, up to the next of its rank.

    Raises:
        ValueError: if there is no such heading.
    """
    found = [match for match in HEADING.finditer(_no_code(text)) if match[2] == title]
    if not found:
        raise ValueError(f"no heading {title!r}; there are {[match[2] for match in HEADING.finditer(_no_code(text))]}")
    start = found[0]
    after = [m.start() for m in HEADING.finditer(_no_code(text), start.end()) if len(m[1]) <= len(start[1])]
    return text[start.start() : min(after, default=len(text))]


def _no_code(text: str) -> str:
    """The text with code blanked out, so that a comment of Python is no heading and places stay what they were."""
    return re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.M | re.S)


def minutes_to_read(text: str) -> float:
    """Words, equations and visible code at the pace of a reader who follows; what is folded is not counted."""
    code = sum(len(m[2].strip().splitlines()) for m in SEEN_CODE.finditer(text) if not m[1])
    prose = SOLUTION.sub("", SEEN_CODE.sub("", text))
    equations = len(EQUATION.findall(prose))
    words = len(EQUATION.sub("", prose).split())
    return words / WORDS + code / LINES + equations / EQUATIONS


def in_minutes(minutes: float) -> str:
    """Minutes as a reader plans with them: whole ones, from ten on in fives."""
    if minutes < 1:
        return "under a minute"
    whole = round(minutes) if minutes < 10 else 5 * round(minutes / 5)
    return "1 minute" if whole == 1 else f"{whole} minutes"


def number(chapter: str) -> int:
    """Of a chapter, as its file says."""
    return int(chapter.split("_")[0])


def loop(lit: list[str], name: str) -> str:
    """The loop of EM as SVG, some parts lit; its text takes the colours of the page.

    Args:
        lit: names of parts; all where it is empty means none.
        name: what makes its ids different from those of other drawings on a page.
    """
    boxes = "".join(_box(*PARTS[part], part in lit) for part in PARTS)
    arrows = "".join(_arrow(PARTS[start][:2], PARTS[end][:2], f"{name}-tip") for start, end in ARROWS)
    said = "The loop of EM: few clean pictures train a first prior; the E-step repairs broken pictures with the prior; "
    said += "the M-step trains the prior on the repaired ones; and so on."
    if lit:
        said += f" Lit here: {', '.join(PARTS[part][2] for part in lit)}."
    size = f"{2 * ACROSS + WIDTH + 2} {DOWN + HEIGHT + 2}"
    tip = '<path d="M0 0 8 4 0 8z"/>'
    return (
        f'<svg class="book-loop" viewBox="-1 -1 {size}" role="img" aria-label="{html.escape(said)}">'
        f'<defs><marker id="{name}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        f'orient="auto">{tip}</marker></defs>{arrows}{boxes}</svg>'
    )


def _box(column: int, row: int, says: str, on: bool) -> str:
    x, y = column * ACROSS, row * DOWN
    middle = f'x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2:g}"'
    return (
        f'<g{" class=on" if on else ""}><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text {middle} text-anchor="middle" dominant-baseline="central">{says}</text></g>'
    )


def _arrow(start: tuple[int, int], end: tuple[int, int], tip: str) -> str:
    (column, row), (to_column, to_row) = start, end
    x, y = column * ACROSS + WIDTH / 2, row * DOWN + HEIGHT / 2
    dx, dy = to_column - column, to_row - row
    x1, y1 = x + dx * WIDTH / 2, y + dy * HEIGHT / 2
    x2, y2 = x + dx * (ACROSS - WIDTH / 2), y + dy * (DOWN - HEIGHT / 2)
    return f'<path d="M{x1:g} {y1:g} {x2:g} {y2:g}" marker-end="url(#{tip})"/>'


def head(chapter: str, link: Any) -> str:
    """What stands below a chapter's title, as HTML.

    Args:
        chapter: the name of its file without the ending.
        link: gives the address of another chapter from here.
    """
    entry = course()["chapters"][chapter]
    seconds = seconds_to_run().get(chapter)
    needs = ", ".join(f'<a href="{link(other)}">{number(other)}</a>' for other in entry["needs"])
    facts = {
        "To read": in_minutes(minutes_to_read(text_of(chapter))),
        # a chapter that is new has no time until `make times` has run it
        "To run": "not timed yet" if seconds is None else f"{in_minutes(seconds / 60)} on a laptop",
        "Needs": f"chapter{'s' if len(entry['needs']) > 1 else ''} {needs}" if needs else "no other chapter",
        "In a course": "core" if entry["core"] else "optional",
    }
    rows = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in facts.items())
    return f'<div class="book-head">{loop(entry["lit"], "head")}<dl>{rows}</dl></div>'


def put(app: Sphinx, tree: nodes.document, page: str) -> None:
    """The head, below the title of a page that is in the table."""
    folder, _, chapter = page.rpartition("/")
    if chapter not in course()["chapters"]:
        return
    title = next(iter(tree.findall(nodes.title)))

    def link(other: str) -> str:
        return app.builder.get_relative_uri(page, f"{folder}/{other}")

    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", head(chapter, link), format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-resolved", put)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

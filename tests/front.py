r"""The front page's pieces, made when the book is built: an extension of Sphinx, which ``_config.yml`` names.

``{em-strip}`` is the slider from broken pictures to repaired ones, with its numbers and times, out of a recorded run;
``{course-map}`` the chapters as a course, ``{course-path}`` a way through it for so many minutes, both out of
``book/course.json`` and the chapters' texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import heads
import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from emlib import viz
from emlib.data import data_dir
from emlib.runs.record import read_result
from emlib.runtime.durations import duration

RUN = "em-mask-pocket"
"""The recorded run that the front page shows."""

GAP = 5
"""Pixels between two pictures of a saved grid."""


def strip() -> str:
    """Broken pictures, what each EM iteration made of them, and the truth, behind one slider."""
    results = data_dir() / "results"
    run = read_result(results / f"{RUN}.json")
    broken, *iterations = [row for row in run["rows"] if "PSNR" in row and row["iteration"] != "held out"]
    names = ["truth", "observed", *(f"EM {row['iteration']}" for row in iterations)]
    truth, *rows = viz.read_grid(results / f"{RUN}.png", names).values()
    hidden, last = run["settings"]["fraction"], iterations[-1]
    spent = run["rows"][1]["seconds"]  # the first prior
    labels = [f"broken: {hidden:.0%} of the pixels hidden, PSNR {broken['PSNR']:.1f} dB"]
    for row in iterations:
        spent += row["seconds"]
        labels.append(f"EM {row['iteration']}, after {duration(spent)}: PSNR {row['PSNR']:.1f} dB")
    alts = [f"Ten pictures of clothes with {hidden:.0%} of their pixels grey"]
    alts += [f"The same ten pictures as EM has repaired them in iteration {row['iteration']}" for row in iterations]
    made = viz.frames(
        [in_two_rows(row) for row in (*rows, truth)],
        [*labels, "the truth, which EM never saw"],
        [*alts, "The same ten pictures as they were before they were broken"],
        f"Ten of {run['settings']['observations']:,} broken pictures. EM starts from {run['settings']['clean']} clean "
        f"ones and takes {duration(spent)} ({run['device']}). Their PSNR, which says how near they are to the truth, "
        f"goes from {broken['PSNR']:.1f} to {last['PSNR']:.1f} dB; higher is better.",
        recorded=run,
        name="the EM strip",
    )
    return str(made.data)


def in_two_rows(row: np.ndarray) -> np.ndarray:
    """Ten pictures in a row, bytes [H, W, 3], as five above five, so that a phone shows them large enough."""
    half = (row.shape[1] - GAP) // 2
    between = np.full((GAP, half, 3), 160, np.uint8)  # the grey of the gaps
    return np.concatenate([row[:, :half], between, row[:, -half:]])


def chapter_map(title: Callable[[str], str], link: Callable[[str], str]) -> str:
    """The chapters as a course: the core in its order, and what may be added to it."""

    def item(chapter: str) -> str:
        entry = heads.course()["chapters"][chapter]
        after = ", ".join(str(heads.number(other)) for other in entry["needs"])
        facts = [heads.in_minutes(heads.minutes_to_read(heads.text_of(chapter)))]
        facts += [f"after {after}"] if after and not entry["core"] else []
        facts += [f"best after {heads.number(entry['best_after'])}"] if "best_after" in entry else []
        return (
            f'<li value="{heads.number(chapter)}"><a href="{link(chapter)}">{title(chapter)}</a> '
            f"<small>{', '.join(facts)}</small></li>"
        )

    def kind(core: bool) -> list[str]:
        return [name for name, entry in heads.course()["chapters"].items() if entry["core"] == core]

    numbers = "-".join(str(heads.number(chapter)) for chapter in kind(True))
    total = heads.in_minutes(sum(heads.minutes_to_read(heads.text_of(chapter)) for chapter in kind(True)))
    return (
        f'<div class="book-map"><div><p>The core, {numbers}: {total} of reading</p>'
        f"<ol>{''.join(map(item, kind(True)))}</ol></div>"
        f"<div><p>What may be added</p><ol>{''.join(map(item, kind(False)))}</ol></div></div>"
    )


def path(minutes: str, title: Callable[[str], str], link: Callable[[str], str]) -> str:
    """The sections of a way through the book, in order, each with its chapter and minutes."""
    steps = heads.course()["paths"][minutes]
    said = []
    for chapter, name in steps:
        reading = heads.minutes_to_read(heads.section(heads.text_of(chapter), name))
        said.append(
            f'<li><a href="{link(chapter)}#{nodes.make_id(name)}">{name}</a> '
            f"<small>chapter {heads.number(chapter)}, {heads.in_minutes(max(reading, 1))}</small></li>"
        )
    return f'<ol class="book-path">{"".join(said)}</ol>'


class Made(SphinxDirective):
    """A piece whose titles and addresses are known once all pages are read."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [placeholder(kind=self.name, words=self.arguments)]


class placeholder(nodes.General, nodes.Element):
    """Where a piece goes."""


def fill(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Pieces in place of their placeholders."""

    def title(chapter: str) -> str:
        return app.env.titles[f"book/{chapter}"].astext()

    def link(chapter: str) -> str:
        return app.builder.get_relative_uri(page, f"book/{chapter}")

    for spot in list(tree.findall(placeholder)):
        words: list[Any] = spot["words"]
        try:
            if spot["kind"] == "em-strip":
                made = strip()
            elif spot["kind"] == "course-map":
                made = chapter_map(title, link)
            else:
                made = path(words[0], title, link)
        except (KeyError, IndexError, ValueError) as error:
            raise ExtensionError(f"{page}: {{{spot['kind']}}} {words}: {error}") from error
        spot.replace_self(nodes.raw("", made, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_node(placeholder)
    for name in ("em-strip", "course-map", "course-path"):
        app.add_directive(name, Made)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

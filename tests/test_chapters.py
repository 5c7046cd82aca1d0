"""What a reader sees of a chapter's code: no scaffolding of tests, no line wider than the page, no long plumbing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="jupytext isn't installed (it is in the extra 'book')")

from twins import chapters, first_cell, twin  # noqa: E402

WIDTH = 88
"""Letters of code in a line of a built page; more are wrapped or must be scrolled to."""
UNSEEN = {"hide-input", "hide-cell", "remove-cell", "remove-input"}
TEACH = {"01_pictures_and_noise": 1, "03_how_pictures_break": 2, "02_ddpm": 1, "04_exact_world": 1}
"""Cells of nothing but assertions, and of what they compare, that a reader should see: in 1 and 3 they show what an
assertion says, in 2 a step by hand is the library's, and in 4 two worlds give one likelihood."""
SHOWN = {"01_pictures_and_noise": 1}
"""Figures whose making is seen: one, so that a reader knows how it is done."""
MOST = {"12_measured": 182, "13_starts": 112}
"""Visible lines of code in the chapters that report recorded runs."""


def code(chapter: Path) -> list:
    """The code cells of a chapter but the first, which installs the library."""
    cells = [cell for cell in twin(chapter).cells if cell.cell_type == "code"]
    return [cell for cell in cells if cell.source.strip() != first_cell().strip()]


def visible(chapter: Path) -> list[str]:
    return [cell.source for cell in code(chapter) if not UNSEEN & set(cell.metadata.get("tags", []))]


def only_asserts(source: str) -> bool:
    """Does a cell assert, and show, define or import nothing?"""

    def serves(statement: ast.stmt) -> bool:
        if isinstance(statement, (ast.For, ast.If, ast.With)):
            return all(map(serves, [*statement.body, *getattr(statement, "orelse", [])]))
        return isinstance(statement, (ast.Assert, ast.Assign))

    tree = ast.parse(source)
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree)) and all(map(serves, tree.body))


def makes_a_figure(source: str) -> bool:
    """Does a cell end by showing a figure, which takes alt text, a caption and often more lines than what it shows?"""
    last = ast.parse(source).body[-1:]
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ("figure", "frames", "explore")
        and isinstance(node.value, ast.Name)
        and node.value.id == "viz"
        for statement in last
        if isinstance(statement, ast.Expr)
        for node in ast.walk(statement)
    )


def lines_of_code(source: str) -> int:
    """Lines that are neither blank nor a comment alone."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.splitlines())


@pytest.mark.parametrize(
    "source",
    [
        "assert x",
        "# said below\nfor a in b:\n    c = a\n    assert c",
        "if p.name != 'smoke':\n    assert x\n",
        "a = f()\nassert a",
    ],
)
def test_a_cell_of_assertions_is_known(source):
    assert only_asserts(source)


@pytest.mark.parametrize("source", ["x = 1", "print(x)\nassert x", "def f():\n    assert x", "assert x\nviz.table(x)"])
def test_a_cell_that_shows_or_defines_something_is_none(source):
    assert not only_asserts(source)


def test_blank_lines_and_comments_are_no_code():
    assert lines_of_code("a = 1  # one\n\n# two\nb = (\n    2\n)\n") == 4


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_assertions_alone_are_seen_only_where_they_teach(chapter):
    found = [source for source in visible(chapter) if only_asserts(source)]
    assert len(found) <= TEACH.get(chapter.stem, 0), (
        "an assertion on recorded rows is a test in tests/, one on numbers of the page has the tag remove-cell:\n\n"
        + "\n\n".join(found)
    )


def test_a_cell_that_ends_in_a_figure_is_known():
    assert makes_a_figure("x = 1\nviz.figure(viz.grid(x), alt='a', caption='c')")
    assert not makes_a_figure("fig = viz.curves(x)\nviz.table(x)")
    assert not makes_a_figure("def show(x):\n    return viz.figure(x)")


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_plotting_is_folded(chapter):
    found = [source for source in visible(chapter) if makes_a_figure(source)]
    assert len(found) <= SHOWN.get(chapter.stem, 0), (
        "end the cell above the figure, and give the figure a cell of its own with the tag hide-input:\n\n"
        + "\n\n".join(found)
    )


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_no_figure_is_frozen_into_pixels(chapter):
    """As pixels it would be a white slab on a dark page; sliders take figures as they are."""
    assert [cell.source for cell in code(chapter) if "buffer_rgba" in cell.source] == []


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_no_line_of_code_is_wider_than_the_page(chapter):
    lines = [line for cell in code(chapter) for line in cell.source.splitlines()]
    assert lines
    wide = [line for line in lines if len(line) > WIDTH]
    assert wide == [], f"{len(wide)} lines of {chapter.name} have more than {WIDTH} letters"


@pytest.mark.parametrize(("stem", "most"), MOST.items())
def test_a_report_shows_what_is_compared_and_no_plumbing(stem, most):
    (chapter,) = (path for path in chapters() if path.stem == stem)
    assert 20 < sum(map(lines_of_code, visible(chapter))) <= most

"""Every chapter's text has its notebook, cell for cell, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="jupytext isn't installed (it is in the extra 'book')")
nbformat = pytest.importorskip("nbformat")

from twins import BOOK, chapters, twin  # noqa: E402


def content(notebook) -> list[tuple]:
    """What a reader sees of a notebook: kind, text and tags of each cell."""
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def test_there_are_chapters():
    assert chapters(), f"no chapter book/NN_name.md in {BOOK}"


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_notebook_says_what_the_text_says(chapter: Path):
    path = chapter.with_suffix(".ipynb")
    assert path.is_file(), f"{path.name} is missing; `make notebooks` writes it"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert content(notebook) == content(twin(chapter)), f"{path.name} differs from its text; `make notebooks` renews it"


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_has_a_text_and_no_outputs(path: Path):
    assert path.with_suffix(".md").is_file(), f"{path.name} has no text beside it"
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs, f"{path.name}, {cell.id}: outputs are made when the book is built, not kept"
            assert cell.execution_count is None

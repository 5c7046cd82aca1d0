"""A chapter's notebook, made from its text: ``python tests/twins.py`` writes them all, test_twins.py compares."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

BOOK = Path(__file__).resolve().parent.parent / "book"


def chapters() -> list[Path]:
    """The chapters' texts, in order."""
    return sorted(BOOK.glob("[0-9]*.md"))


def twin(chapter: Path) -> NotebookNode:
    """The notebook that says the same as a chapter's text, without outputs.

    Cell names count up, so that the same text always gives the same file.
    """
    notebook = jupytext.read(chapter, fmt="md:myst")
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


if __name__ == "__main__":
    for chapter in chapters():
        path = chapter.with_suffix(".ipynb")
        nbformat.write(twin(chapter), path)
        print(f"{chapter.name} -> {path.name}")

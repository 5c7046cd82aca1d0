"""Every chapter's text has its notebook, cell for cell, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="jupytext isn't installed (it is in the extra 'book')")
nbformat = pytest.importorskip("nbformat")

from twins import BOOK, chapters, first_cell, twin, with_first_cell  # noqa: E402

CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
---

# A chapter

Words.

```{code-cell} ipython3
import emlib
```

```{code-cell} ipython3
emlib.preset()
```
"""


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
    # another kernel's name opens with an error, or a question, in Jupyter
    assert notebook.metadata == twin(chapter).metadata, (
        f"{path.name} asks for another kernel; `make notebooks` renews it"
    )
    assert content(notebook) == content(twin(chapter)), f"{path.name} differs from its text; `make notebooks` renews it"


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_has_a_text_and_no_outputs(path: Path):
    assert path.with_suffix(".md").is_file(), f"{path.name} has no text beside it"
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs, f"{path.name}, {cell.id}: outputs are made when the book is built, not kept"
            assert cell.execution_count is None


def sources(tmp_path: Path, text: str) -> list[str]:
    """The code cells of a chapter that says this."""
    path = tmp_path / "14_made_up.md"
    path.write_text(text, encoding="utf-8")
    return [cell.source for cell in twin(path).cells if cell.cell_type == "code"]


def test_a_chapter_without_the_first_cell_is_given_it_once(tmp_path):
    written = with_first_cell(CHAPTER)
    assert sources(tmp_path, CHAPTER) == ["import emlib", "emlib.preset()"]
    assert sources(tmp_path, written) == [first_cell().strip(), "import emlib", "emlib.preset()"]
    assert twin(tmp_path / "14_made_up.md").cells[1].metadata["tags"] == ["hide-input"]
    assert written.index("Words.") < written.index(first_cell()) < written.index("import emlib\n")
    assert with_first_cell(written) == written


def test_an_old_first_cell_is_renewed_where_it_stands(tmp_path):
    written = with_first_cell(CHAPTER)
    for other in ("git+https://github.com/me/book@main", "git+https://github.com/you/book@main"):
        old = written.replace(first_cell(), first_cell(other).replace("check=True", "check=False"))
        assert old != written
        assert with_first_cell(old) == written


def test_a_text_without_code_stays_as_it_is():
    assert with_first_cell("# A page\n\nWords.\n") == "# A page\n\nWords.\n"

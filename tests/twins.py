"""A chapter's first cell and its notebook: ``python tests/twins.py`` writes them all, test_twins.py compares.

The first cell comes from ``first_cell`` below and the address in ``_config.yml``; everything else of a notebook comes
from the chapter's text.
"""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"

FIRST_CELL = """\
# Where the book's library is missing, as on Colab, install it and what it lacks;
# torch and all else stay as they are.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("emlib") is None:
    address = "{address}"
    wanted = ("lpips", "torchmetrics", "lightning_utilities")
    lacking = [name for name in wanted if importlib.util.find_spec(name) is None]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    install += [f"emdiffusion-book @ {{address}}", *lacking]
    subprocess.run(install, check=True)
"""
OPENING = "```{code-cell} ipython3\n:tags: [hide-input]\n\n"
CODE_CELL = re.compile(r"^```\{code-cell\}", re.MULTILINE)
FIRST_CELL_IN_TEXT = re.compile(re.escape(OPENING) + r"(# [^`]*?emdiffusion-book @ [^`]*?)```\n", re.DOTALL)


def repository() -> tuple[str, str]:
    """The repository's address and branch, from ``_config.yml``, the one place where they are set."""
    there = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return there["url"], there["branch"]


def first_cell() -> str:
    """The code that every chapter begins with: it installs emlib where it is missing and leaves torch alone."""
    return FIRST_CELL.format(address="git+{}@{}".format(*repository()))


def chapters() -> list[Path]:
    """The texts that hold code, in order."""
    return [path for path in sorted(BOOK.glob("*.md")) if path.read_text(encoding="utf-8").startswith("---\njupytext:")]


def with_first_cell(text: str) -> str:
    """A chapter's text with the first cell as it should be: renewed, or put before its first code cell."""
    cell = OPENING + first_cell() + "```\n"
    if FIRST_CELL_IN_TEXT.search(text):
        return FIRST_CELL_IN_TEXT.sub(lambda _: cell, text, count=1)
    return CODE_CELL.sub(lambda code: f"{cell}\n{code.group()}", text, count=1)


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
        text = chapter.read_text(encoding="utf-8")
        if with_first_cell(text) != text:
            chapter.write_text(with_first_cell(text), encoding="utf-8")
            print(f"{chapter.name}: first cell written")
        path = chapter.with_suffix(".ipynb")
        nbformat.write(twin(chapter), path)
        print(f"{chapter.name} -> {path.name}")

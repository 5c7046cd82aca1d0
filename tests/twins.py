"""A chapter's first cell and its notebook: ``python tests/twins.py`` writes them all, test_twins.py compares.

The first cell comes from ``first_cell`` below and the address in ``_config.yml``; everything else of a notebook comes
from the chapter's text.
"""

from __future__ import annotations

import re
import subprocess
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
NO_ADDRESS = """\
# Where the book's library is missing, as on Colab, it would be installed here; but this
# copy of the book has no address yet that it could come from.
import importlib.util

if importlib.util.find_spec("emlib") is None:
    raise ModuleNotFoundError(
        "emlib is missing, and this copy of the book names no address to install it"
        " from: write its own under repository in _config.yml, then: make notebooks"
    )
"""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
"""The one that Jupyter and Colab have under this name on any machine."""
OPENING = "```{code-cell} ipython3\n:tags: [hide-input]\n\n"
CODE_CELL = re.compile(r"^```\{code-cell\}", re.MULTILINE)
FIRST_CELL_IN_TEXT = re.compile(re.escape(OPENING) + r"(# Where the book's library is missing[^`]*?)```\n", re.DOTALL)
CONFIG = ROOT / "_config.yml"


def repository() -> tuple[str, str]:
    """The repository's address and branch, from ``_config.yml``, the one place where they are set."""
    there = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["repository"]
    return there["url"], there["branch"]


def address() -> str | None:
    """What pip installs the book's library from; None while the address is one that nobody can have.

    No account at GitHub begins with a hyphen, so no stranger can offer a library there.
    """
    url, branch = repository()
    return None if "github.com/-" in url else f"git+{url}@{branch}"


def first_cell(where: str | None = None) -> str:
    """The code that every chapter begins with: it installs emlib where it is missing and leaves torch alone.

    Args:
        where: what to install from; by default :func:`address`, and where there is none the cell says so.
    """
    where = where or address()
    return NO_ADDRESS if where is None else FIRST_CELL.format(address=where)


def origin(remote: str) -> str | None:
    """The address of a git remote as a browser has it; None if it is not at GitHub."""
    found = re.fullmatch(
        r"(?:https://(?:[^@/]+@)?|git@|ssh://git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?", remote
    )
    return f"https://github.com/{found[1]}" if found else None


def take_origin() -> str | None:
    """Writes the address of git's ``origin`` into ``_config.yml``, where none is set yet and there is one; gives it."""
    asked = ["git", "-C", str(ROOT), "config", "--get", "remote.origin.url"]
    url = origin(subprocess.run(asked, capture_output=True, text=True).stdout.strip()) if address() is None else None
    if url is not None:
        text = CONFIG.read_text(encoding="utf-8")
        CONFIG.write_text(text.replace(f"url: {repository()[0]}\n", f"url: {url}\n"), encoding="utf-8")
    return url


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
    notebook.metadata = {"kernelspec": dict(KERNEL)}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


if __name__ == "__main__":
    if url := take_origin():
        print(f"_config.yml: the repository's address is git's origin, {url}")
    for chapter in chapters():
        text = chapter.read_text(encoding="utf-8")
        if with_first_cell(text) != text:
            chapter.write_text(with_first_cell(text), encoding="utf-8")
            print(f"{chapter.name}: first cell written")
        path = chapter.with_suffix(".ipynb")
        nbformat.write(twin(chapter), path)
        print(f"{chapter.name} -> {path.name}")

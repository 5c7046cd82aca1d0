"""A plugin for nbval: what notebooks put out is kept where jupyter-book looks for executed chapters.

``PYTHONPATH=tests pytest -p keep_outputs --keep-outputs CACHE --nbval-lax book/`` runs each notebook as nbval does, and
the site that is built next need not run its chapter again.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import read_myst_markdown_notebook
from nbval.plugin import IPyNbCell

FAILED = pytest.StashKey[bool]()
SPENT = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    what = "the cache of jupyter-book that keeps the outputs of notebooks whose cells have all passed"
    parser.addoption("--keep-outputs", type=Path, metavar="CACHE", help=what)


def pytest_configure(config: pytest.Config) -> None:
    """Makes the cache before several processes would at once."""
    if (folder := config.getoption("--keep-outputs")) is not None and not hasattr(config, "workerinput"):
        get_cache(str(folder)).list_cache_records()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or not report.passed
    item.stash[SPENT] = item.stash.get(SPENT, 0.0) + report.duration
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = session.config.getoption("--keep-outputs")
    if folder is None or not hasattr(session, "items"):
        return
    cells = [item for item in session.items if isinstance(item, IPyNbCell)]
    for notebook, run in itertools.groupby(cells, lambda cell: Path(cell.path)):
        done = list(run)
        # with several processes each knows all notebooks and has run some of them
        if all(cell.test_outputs is not None and not cell.stash.get(FAILED, True) for cell in done):
            keep(folder, notebook.with_suffix(".md"), done)


def keep(folder: Path, chapter: Path, done: list[IPyNbCell]) -> None:
    """Puts the chapter into the cache with these outputs, if there is one whose code is still the notebook's."""
    if not chapter.is_file():
        return
    book = read_myst_markdown_notebook(chapter.read_text(encoding="utf-8"))
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    if [cell.source for cell in code] != [one.cell.source for one in done]:
        return  # make notebooks was forgotten, which a test of its own says
    for count, (cell, one) in enumerate(zip(code, done), start=1):
        cell.execution_count, cell.outputs = count, one.test_outputs
        for out in cell.outputs:
            if out.output_type == "execute_result":
                out.execution_count = count
    # as the kernel says it, which jupyter-book asks for the language of the cells
    book.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    spent = sum(one.stash[SPENT] for one in done)
    bundle = CacheBundleIn(book, str(chapter.resolve()), data={"execution_seconds": spent})
    get_cache(str(folder)).cache_notebook_bundle(bundle, check_validity=False, overwrite=True)

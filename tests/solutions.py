"""A book without its solutions, for a course: ``make book EMLIB_SOLUTIONS=0``; an extension of Sphinx."""

from __future__ import annotations

import os

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

SWITCH, EXERCISES = "EMLIB_SOLUTIONS", "Exercises"
"""The variable that leaves solutions out, and the title of the sections that they stand in."""


def choose(app: Sphinx, config: Config) -> None:
    """Leaves the solutions out where the switch says 0."""
    said = os.environ.get(SWITCH, "1")
    if said not in ("0", "1"):
        raise ConfigError(f"{SWITCH} is 1 (with solutions) or 0 (without), got {said!r}")
    config.hide_solutions = said == "0"


def drop_code(app: Sphinx, doctree: nodes.document) -> None:
    """Leaves out the cells among the exercises, too: each of them checks a solution, or is one."""
    if not app.config.hide_solutions:
        return
    for section in doctree.findall(nodes.section):
        if section[0].astext() == EXERCISES:
            for cell in [node for node in section.findall(nodes.container) if "cell" in node["classes"]]:
                cell.parent.remove(cell)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", choose)
    app.connect("doctree-read", drop_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A book without its solutions, for a course: ``make book EMLIB_SOLUTIONS=0``; an extension of Sphinx."""

from __future__ import annotations

import os

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

SWITCH = "EMLIB_SOLUTIONS"


def choose(app: Sphinx, config: Config) -> None:
    """Leaves the solutions out where the switch says 0."""
    said = os.environ.get(SWITCH, "1")
    if said not in ("0", "1"):
        raise ConfigError(f"{SWITCH} is 1 (with solutions) or 0 (without), got {said!r}")
    config.hide_solutions = said == "0"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", choose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

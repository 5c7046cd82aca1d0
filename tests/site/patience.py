"""How long a page may take, and waiting for what only this side of the browser can tell."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600_000
"""Milliseconds that a page may take to load or to answer, on a machine that does other work too."""


def until(tab, happened: Callable[[], bool], what: str) -> None:
    """Waits until this has happened, as long as a page may take; the browser's messages come in meanwhile."""
    end = time.monotonic() + PATIENCE / 1000
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen within {PATIENCE / 1000:g} s"
        tab.wait_for_timeout(50)

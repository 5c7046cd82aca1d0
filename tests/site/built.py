"""Where the built site is and what it holds; shared by its tests.

``EMLIB_SITE`` names the built site (default: the smoke site in ``_build``); ``make site-tests`` builds it first.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

yaml = pytest.importorskip("yaml")
bs4 = pytest.importorskip("bs4")

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("EMLIB_SITE", "_build/smoke/_build/html")).resolve()
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


def listed(part: dict | list) -> list[str]:
    """The pages of a table of contents, or of a part of it, in order."""
    if isinstance(part, list):
        return [page for entry in part for page in listed(entry)]
    here = [part["file"]] if "file" in part else []
    return here + [page for key in ("parts", "chapters", "sections") for page in listed(part.get(key, []))]


PAGES = [TOC["root"], *listed(TOC)]
CHAPTERS = [page for page in PAGES if re.match(r"\d", page.rsplit("/", 1)[-1])]
"""Pages made from notebooks: their names begin with their number."""

needs_site = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason=f"no built site in {SITE}; `make site-tests` builds one"
)


def address(page: str) -> str:
    return (SITE / f"{page}.html").as_uri()


def parse(html: Path) -> bs4.BeautifulSoup:
    return bs4.BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def soup(page: str) -> bs4.BeautifulSoup:
    return parse(SITE / f"{page}.html")


def is_external(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https") or address.startswith("//")


def is_local(address: str) -> bool:
    return not urlsplit(address).scheme and not address.startswith("//")

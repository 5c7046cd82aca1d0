"""Numbered tables for a page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emlib.viz.display import provenance
from emlib.viz.html import number_of, shown

if TYPE_CHECKING:
    from IPython.display import HTML

SENTENCE = 32
"""Letters that a cell of numbers has at most."""


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    *,
    recorded: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    name: str | None = None,
) -> HTML:
    """A numbered table with a caption that says what is seen; it scrolls where a screen is narrow.

    Tables count up within a kernel, apart from figures. A cell that is run again keeps its number, since the table is
    known by its head and the names of its rows.

    Args:
        head: titles of the columns.
        rows: cells as text, the first of each naming its row; an empty cell says that there is no such number.
        caption: what is seen.
        recorded: the recorded runs that its numbers come from.
        name: what the table is known by where another has the same head and rows.

    Raises:
        ValueError: if a row has another number of cells than the head.
    """
    if bad := [row for row in rows if len(row) != len(head)]:
        raise ValueError(f"each row needs {len(head)} cells, as the head has, but one has {len(bad[0])}: {bad[0]}")
    number = number_of("table", name or "\n".join([*head, *(row[0] for row in rows)]))
    titles = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in head)
    row_head = 'th scope="row"'
    body = "".join(f"<tr>{_cell(name, row_head)}{''.join(map(_cell, cells))}</tr>" for name, *cells in rows)
    return shown(
        f'<figure class="emlib-table" id="table-{number}" style="margin:1em 0">'
        f'<div style="overflow-x:auto" tabindex="0" role="group" aria-label="table {number}">'
        f'<table class="table"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<figcaption style="max-width:52em"><b>Table {number}.</b> {html.escape(caption)}'
        f"{provenance(recorded)}</figcaption></figure>"
    )


def _cell(text: str, tag: str = "td") -> str:
    """A number as it is; a sentence in lines, which a page would keep in one."""
    style = ' style="white-space:normal;text-align:left;min-width:12em"' if len(text) > SENTENCE else ""
    return f"<{tag}{style}>{html.escape(text)}</{tag.split()[0]}>"

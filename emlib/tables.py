"""Tables of recorded runs: the seeds of a method made one row, and the rows made HTML for a page."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from IPython.display import HTML

from emlib.display import provenance

SENTENCE = 32
"""Letters that a cell of numbers has at most."""
NAMES = {
    "observed": "broken pictures",
    "classical": "one picture alone",
    "noise2self": "Noise2Self",
    "sure-score": "SURE-Score",
    "ambient": "Ambient Diffusion",
    "diem": "DiEM",
    "em-dps-paper": "EM, DPS, paper's rule",
    "em-dps-auto": "EM, DPS, our rule",
    "em-mmps": "EM, MMPS",
    "ceiling": "clean prior",
}
"""The methods of the paper's table 1 by the names that a reader sees, in the order of our tables."""
_numbers: dict[str, int] = {}


@dataclass(frozen=True)
class Score:
    """One measure of a method over its seeds.

    Attributes:
        values: one a seed, in the seeds' order.
        low, high: means over the seeds of the ends of the bootstrap interval over pictures; nan without one.
    """

    values: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Greatest less least of the seeds; 0 for one seed."""
        return max(self.values) - min(self.values)


def over_seeds(record: Mapping[str, Any], measure: str) -> dict[tuple[str, str], Score]:
    """One measure of a recorded table, by (method, way to reconstruct), in the record's order.

    Args:
        record: of :mod:`emlib.experiment`, as ``results.read_result`` reads it.
        measure: a key of its rows, such as ``PSNR``; rows without it are left out.

    Raises:
        ValueError: if no row has it.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in record["rows"]:
        if measure in row:
            groups.setdefault((row["method"], row["by"]), []).append(row)
    if not groups:
        found = sorted({key for row in record["rows"] for key in row})
        raise ValueError(f"no row of {record['experiment']} has {measure!r}; there are {', '.join(found)}")

    def mean(rows: list[Mapping[str, Any]], key: str) -> float:
        return statistics.fmean(row.get(key, float("nan")) for row in rows)

    return {
        name: Score(tuple(row[measure] for row in rows), mean(rows, f"{measure}_low"), mean(rows, f"{measure}_high"))
        for name, rows in groups.items()
    }


def labels(ways: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What a reader sees of each (method, way to reconstruct), in the order of :data:`NAMES`.

    The way is added where a method has several. Other methods keep their names, and come last.
    """
    known, ways = list(NAMES), list(dict.fromkeys(ways))
    ways.sort(key=lambda way: known.index(way[0]) if way[0] in NAMES else len(known))
    count = Counter(method for method, _ in ways)
    return {way: NAMES.get(way[0], way[0]) + (f", {way[1]}" if count[way[0]] > 1 else "") for way in ways}


def score(record: Mapping[str, Any], method: str, measure: str = "PSNR", by: str | None = None) -> Score:
    """One measure of one method.

    Args:
        record, measure: as for :func:`over_seeds`.
        method: its name.
        by: way to reconstruct; may be left out where the method has only one.

    Raises:
        ValueError: if the record does not have it, or has several.
    """
    ways = {way: found for (name, way), found in over_seeds(record, measure).items() if name == method}
    found = [ways[way] for way in ways if by in (None, way)]
    if len(found) != 1:
        raise ValueError(f"{method} has {measure} in {record['experiment']} by {', '.join(ways) or 'none'}; name one")
    return found[0]


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    *,
    recorded: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
) -> HTML:
    """A numbered table with a caption that says what is seen; it scrolls where a screen is narrow.

    Tables count up within a kernel, apart from figures. A cell that is run again keeps its number, since the table is
    known by its head and the names of its rows.

    Args:
        head: titles of the columns.
        rows: cells as text, the first of each naming its row; an empty cell says that there is no such number.
        caption: what is seen.
        recorded: the recorded runs that its numbers come from.

    Raises:
        ValueError: if a row has another number of cells than the head.
    """
    if bad := [row for row in rows if len(row) != len(head)]:
        raise ValueError(f"each row needs {len(head)} cells, as the head has, but one has {len(bad[0])}: {bad[0]}")
    number = _numbers.setdefault("\n".join([*head, *(row[0] for row in rows)]), len(_numbers) + 1)
    titles = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in head)
    row_head = 'th scope="row"'
    body = "".join(f"<tr>{_cell(name, row_head)}{''.join(map(_cell, cells))}</tr>" for name, *cells in rows)
    records = [recorded] if isinstance(recorded, Mapping) else recorded
    return HTML(
        f'<figure class="emlib-table" id="table-{number}" style="margin:1em 0">'
        f'<div style="overflow-x:auto" tabindex="0" role="group" aria-label="table {number}">'
        f'<table class="table"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<figcaption style="max-width:52em"><b>Table {number}.</b> {html.escape(caption)}'
        f"{''.join(map(provenance, records))}</figcaption></figure>"
    )


def _cell(text: str, tag: str = "td") -> str:
    """A number as it is; a sentence in lines, which a page would keep in one."""
    style = ' style="white-space:normal;text-align:left;min-width:12em"' if len(text) > SENTENCE else ""
    return f"<{tag}{style}>{html.escape(text)}</{tag.split()[0]}>"

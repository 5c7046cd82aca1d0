"""Recorded tables: the seeds of a method made one row."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emlib.experiments.methods import NAMES


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


def over_seeds(record: Mapping[str, Any], measure: str) -> dict[tuple[str, str], Score]:
    """One measure of a recorded table, by (method, way to reconstruct), in the record's order.

    Args:
        record: of :mod:`emlib.cli.experiment`, as ``read_result`` reads it.
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

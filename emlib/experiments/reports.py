"""Reports on recorded runs: reading them, their numbers as text, who is ahead of whom, and dots beside one another.

A page says which rows it compares and what it plots; how a number becomes a cell stands here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from emlib.data import data_dir
from emlib.experiments.methods import NAMES
from emlib.experiments.paper_tables import Reported
from emlib.experiments.summary import Score, labels, over_seeds
from emlib.experiments.table import pictures_of
from emlib.runs.record import read_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Record = Mapping[str, Any]
Way = tuple[str, str]
"""A method and its way to reconstruct."""

FD = "FD-AlexNet"
SETS = {"embedded": "Fashion-MNIST", "cifar10": "CIFAR-10"}
TASKS = {"mask": "60 % hidden", "noise": "noise 0.2", "blur": "blur 9 × 9"}
FIRST_PRIORS = {
    "start-10": "10 clean",
    "start-50": "50 clean",
    "start-100": "100 clean",
    "start-500": "500 clean",
    "start-other": "50 other",
    "start-preprocessed": "50 preprocessed",
    "start-gaussian": "Gaussian",
}
"""What EM may start from, by the names that a reader sees."""


def recorded(name: str) -> dict[str, Any]:
    """A recorded run that comes with the project, by its name in ``data/results/``."""
    return read_result(data_dir() / "results" / f"{name}.json")


def read_tables() -> dict[tuple[str, str], dict[str, Any]]:
    """The recorded tables that answer the paper's table 1, by data set and task."""
    return {(data, task): recorded(f"table-{data}-{task}") for data in SETS for task in TASKS}


def title(data: str, task: str) -> str:
    """A data set and a task by the names that a reader sees."""
    return f"{SETS[data]}, {TASKS[task]}"


def pictures(name: str, methods: Iterable[str] = NAMES) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The pictures kept beside a recorded table, [10, C, H, W] on [-1, 1].

    Returns:
        Held-out pictures by the label of the way that restored them, the truth under ``truth``, last; and pictures
        drawn from each method's prior, by the method's label.
    """
    restored, drawn = pictures_of(data_dir() / "results" / name, methods)
    truth = restored.pop("truth")
    found: dict[tuple[str, str], Tensor] = {}
    for way, x in restored.items():
        method, _, by = way.partition(": ")
        found[method, by] = x
    restored = {label: found[way] for way, label in labels(found).items()}
    return restored | {"truth": truth}, {NAMES.get(method, method): x for method, x in drawn.items()}


def best(record: Record, method: str) -> Score:
    """PSNR of a method by that of its ways to reconstruct which has most.

    Raises:
        ValueError: if the record does not have the method.
    """
    ways = [found for (name, _), found in over_seeds(record, "PSNR").items() if name == method]
    if not ways:
        raise ValueError(f"{record['experiment']} has no PSNR of {method}")
    return max(ways, key=lambda found: found.mean)


def lead(record: Record, method: str, over: str) -> float:
    """How far one method is ahead of another in dB, each by its best way; negative where it is behind."""
    return best(record, method).mean - best(record, over).mean


def floor(records: Iterable[Record]) -> float:
    """Greatest Fréchet distance of real pictures to real ones in these records: less than that says nothing.

    Raises:
        ValueError: if no row has one.
    """
    found = [row["floor"] for record in records for row in record["rows"] if "floor" in row]
    if not found:
        raise ValueError("no row of these records has a floor")
    return max(found)


def in_mean(record: Record, way: Way, measure: str, digits: int) -> str:
    """A measure's mean over the seeds, as a cell of a table; empty where the way lacks it.

    Raises:
        ValueError: if no row of the record has the measure.
    """
    found = over_seeds(record, measure).get(way)
    return f"{found.mean:.{digits}f}" if found else ""


def by_seed(record: Record, way: Way, measure: str, digits: int) -> str:
    """A measure with each seed, as a cell of a table; otherwise as :func:`in_mean`."""
    found = over_seeds(record, measure).get(way)
    return ", ".join(f"{value:.{digits}f}" for value in found.values) if found else ""


def side_by_side(first: str, records: Mapping[str, Record]) -> tuple[list[str], list[list[str]]]:
    """Several records in one table: three columns of each, and a row for each way to reconstruct.

    PSNR is given with each seed, LPIPS and the Fréchet distance are means.

    Args:
        first: title of the first column.
        records: what the titles of a record's columns begin with -> the record.

    Returns:
        Head and rows, as :func:`emlib.viz.tables.table` takes them.
    """
    ways = labels(way for record in records.values() for way in over_seeds(record, "PSNR"))

    def cells(record: Record, way: Way) -> list[str]:
        if not (psnr := by_seed(record, way, "PSNR", 2)):
            return ["", "", ""]
        return [psnr, in_mean(record, way, "LPIPS", 3), in_mean(record, way, FD, 0)]

    head = [first, *(f"{title}: {measure}" for title in records for measure in ("PSNR", "LPIPS", "FD"))]
    rows = [
        [label, *(cell for record in records.values() for cell in cells(record, way))] for way, label in ways.items()
    ]
    return head, rows


def indexed(rows: Iterable[Record], measure: str, *keys: str) -> dict[Any, Any]:
    """One column of recorded rows by others: {(row[key], ...): row[measure]}, or {row[key]: ...} for one key.

    Rows without the measure or a key are left out.

    Raises:
        ValueError: if two rows have the same keys.
    """
    found: dict[Any, Any] = {}
    for row in rows:
        if {measure, *keys} <= row.keys():
            name = tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]
            if name in found:
                raise ValueError(f"two rows have {measure} for {name}; name more keys than {', '.join(keys)}")
            found[name] = row[measure]
    return found


def redrawn(records: Iterable[Record], measure: str = FD) -> dict[tuple[str, str, tuple[str, int]], float]:
    """What ``benchmarks/drawing.py`` recorded of priors, by (experiment, method, (way to draw, steps)).

    A prior is known by its file, ``runs/EXPERIMENT/seed-SEED/METHOD.safetensors`` or a file in a folder METHOD.
    """
    found = indexed((row for record in records for row in record["rows"]), measure, "prior", "way", "steps")
    parts = {prior: Path(prior).with_suffix("").parts for prior, _, _ in found}
    return {(parts[prior][1], parts[prior][3], tuple(manner)): value for (prior, *manner), value in found.items()}


def ranking(record: Record, ways: Collection[str] | None = None) -> list[str]:
    """Methods by PSNR, best first, each by the best of these ways to reconstruct; of all ways where None."""
    found: dict[str, float] = {}
    for (method, by), psnr in over_seeds(record, "PSNR").items():
        if ways is None or by in ways:
            found[method] = max(found.get(method, -math.inf), psnr.mean)
    return sorted(found, key=found.__getitem__, reverse=True)


def paper_ranking(reported: Mapping[str, Reported]) -> list[str]:
    """The paper's methods by PSNR, best first."""
    return sorted(reported, key=lambda method: reported[method].psnr, reverse=True)


def order_holds(record: Record, reported: Mapping[str, Reported]) -> bool:
    """Do the methods that both have come in the paper's order? The paper's EM is ours with DPS and its own rule."""
    ours = ["em" if method == "em-dps-paper" else method for method in ranking(record)]
    paper = paper_ranking(reported)
    return [method for method in ours if method in paper] == [method for method in paper if method in ours]


def in_order(methods: Iterable[str]) -> str:
    """Methods, best first, as a cell of a table."""
    return " > ".join(NAMES.get(method, "EM") for method in methods)


def dots(
    ax: Axes,
    series: Mapping[str, Mapping[str, float]],
    names: Mapping[str, str],
    apart: float = 0.0,
    **style: Any,
) -> list[Line2D]:
    """Series of percentages or dB as dots, one line of the picture for each name, the first on top.

    Args:
        ax: where to draw.
        series: label of a series -> its numbers by key, some of which may lack; the first series has stars.
        names: key -> what a reader sees of it, from top to bottom.
        apart: how far the series lie apart within a line, so that none hides another; lines are 1 apart.
        style: of all dots, as :meth:`matplotlib.axes.Axes.plot` takes it.
    """
    drawn = []
    for i, ((label, values), marker) in enumerate(zip(series.items(), "*osDv^P"[: len(series)], strict=True)):
        here = [key for key in names if key in values]
        heights = [list(names).index(key) + apart * (i - (len(series) - 1) / 2) for key in here]
        drawn += ax.plot([values[key] for key in here], heights, marker, label=label, **style)
    ax.set_yticks(range(len(names)), names.values())
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.grid(alpha=0.3, axis="x")
    return drawn


def as_cells(rows: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Recorded rows as head and cells of a table: a column for each key, numbers with four digits, "" where none is."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return keys, [[_plain(row.get(key, "")) for key in keys] for row in rows]


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

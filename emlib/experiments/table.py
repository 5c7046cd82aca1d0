r"""The rows of an experiment, one small file a method and seed, made into one table with its pictures.

The files of what is finished belong in git, so that another machine may add a method years later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from emlib.data.pixels import from_pixels, to_pixels
from emlib.em.checkpoint import RunFolder
from emlib.experiments.base import SOLVER, Outcome
from emlib.runs.presets import Preset
from emlib.runs.record import write_result
from emlib.runs.task import Task
from emlib.runtime.files import read_json, unsealed
from emlib.runtime.tensors import load_tensors, write_tensors
from emlib.viz.figures import save_grid

if TYPE_CHECKING:
    from emlib.experiments.config import Experiment

SHOWN = 10
"""Pictures of each row that are kept for the figure."""


def keep_pictures(outcome: Outcome, samples: Tensor | None, task: Task, path: Path) -> None:
    """Writes the first pictures of everything, in bytes, for the figure."""
    shown = {"truth": task.held_out_truth, **outcome.rebuilt} | ({} if samples is None else {"samples": samples})
    write_tensors(path, {name: to_pixels(x[:SHOWN]) for name, x in shown.items()})


def kept_pictures(path: Path) -> dict[str, Tensor]:
    """What :func:`keep_pictures` wrote, by its name: [SHOWN, C, H, W] on [-1, 1]."""
    return {
        name: from_pixels(x)
        for name, x in load_tensors(path, "delete it and its .json, and the same command makes both anew")[0].items()
    }


def read_part(file: Path) -> dict[str, Any]:
    """What a finished method left: its rows, its task and where it ran.

    Raises:
        ValueError: if it is damaged, with the remedy.
    """
    try:
        part = unsealed(read_json(file))
        rows = part["rows"]
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            raise ValueError("it has no rows")
        if not (isinstance(part["task"], dict) and all(isinstance(part[name], str) for name in ("commit", "device"))):
            raise ValueError("its task, its commit or its device is missing")
        if not all(isinstance(row.get("seconds"), (int, float)) for row in rows):
            raise ValueError("a row does not say its seconds")
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is no finished method ({error}); delete it, and the same command runs it") from None
    return dict(part)


def settings_of(experiment: Experiment, seed: int, sizes: Preset | None = None, solver: str = SOLVER) -> dict[str, Any]:
    """All that the rows of a seed depend on but the pictures; beside them it is kept as ``settings.json``."""
    p = sizes or experiment.sizes()
    said = {key: value for key, value in asdict(experiment).items() if key not in ("about", "methods", "seeds")}
    return {**said, "seed": seed, "data": p.data, "solver": solver, **asdict(p)}


def check_kept(experiment: Experiment, kept: Path, sizes: Preset | None = None, solver: str = SOLVER) -> None:
    """Refuses rows that were made with other settings: one table would hold both, and call them one.

    Raises:
        ValueError: naming the folder and both.
    """
    for seed in experiment.seeds:
        if (folder := kept / f"seed-{seed}").is_dir():
            RunFolder(folder).refuse_others(settings_of(experiment, seed, sizes, solver))


def check_pictures(kept: Path, methods: Iterable[str], about: dict[str, Any]) -> None:
    """Refuses rows that were made of other pictures than a task's.

    Args:
        kept: holds ``METHOD.json``.
        methods: which of them.
        about: of the task.

    Raises:
        ValueError: naming one of them.
    """
    for file in (kept / f"{method}.json" for method in methods):
        if file.is_file():
            _check_same(file, read_part(file)["task"], about)


def _check_same(file: Path, there: dict[str, Any], about: dict[str, Any]) -> None:
    if there.get("fingerprint") != about.get("fingerprint"):
        was, now = (f"{task.get('data')!r} ({task.get('fingerprint')})" for task in (there, about))
        raise ValueError(
            f"{file} was made of the pictures {was}, not of {now}; name these with --data or EMLIB_PICTURES, or "
            "another place with --out"
        )


def gather(
    experiment: Experiment,
    name: str,
    kept: Path,
    out: Path,
    command: str,
    sizes: Preset | None = None,
    solver: str = SOLVER,
) -> list[str]:
    """Writes all rows that there are to one recorded run, and beside it the pictures of the seed that has most: what
    was restored (NAME.png), and what was drawn from the priors (NAME-samples.png).

    Args:
        experiment: names methods and seeds.
        name: of the experiment.
        kept: holds ``seed-SEED/METHOD.json`` and ``.safetensors``.
        out: JSON file to write.
        command: that makes the whole table, whichever parts of it were run by others.
        sizes, solver: as for :func:`emlib.experiments.run.run_missing`.

    Returns:
        What has no file yet.

    Raises:
        ValueError: if rows are of other settings or pictures, or damaged.
    """
    check_kept(experiment, kept, sizes, solver)
    files = [
        (method, seed, kept / f"seed-{seed}" / f"{method}.json")
        for seed in experiment.seeds
        for method in experiment.methods
    ]
    read = {file: read_part(file) for _, _, file in files if file.is_file()}
    parts = list(read.values())
    missing = [f"{method} (seed {seed})" for method, seed, file in files if not file.is_file()]
    if parts:
        for file, part in read.items():
            _check_same(file, part["task"], parts[0]["task"])
        task = {key: value for key, value in parts[0]["task"].items() if key != "seed"}
        commits, devices = (sorted({part[name] for part in parts}) for name in ("commit", "device"))
        settings = {
            **asdict(experiment),
            **task,
            "sizes": asdict(sizes or experiment.sizes()),
            "solver": solver,
            "commits": commits,
            "devices": devices,
            "missing": missing,
        }
        rows = [row for part in parts for row in part["rows"]]
        write_result(out, name, settings, rows, sum(part["rows"][0]["seconds"] for part in parts), command)
        _draw(experiment, kept, out)
    return missing


def _draw(experiment: Experiment, kept: Path, out: Path) -> None:
    shown, drawn = pictures_of(kept, experiment.methods)
    if shown:
        save_grid(shown, out.with_suffix(".png"))
    if drawn:
        save_grid(drawn, out.with_name(f"{out.stem}-samples.png"))


def pictures_of(kept: Path, methods: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The pictures of the seed that has those of most of these methods; none if no seed has any.

    Args:
        kept: holds ``seed-SEED/METHOD.safetensors``.
        methods: in the order that is wanted.

    Returns:
        Held-out pictures [SHOWN, C, H, W] on [-1, 1]: the truth under ``truth``, what a method made of them under
        ``METHOD: WAY``; and pictures drawn from each method's prior, by the method's name.
    """
    methods, shown = tuple(methods), dict[str, Tensor]()
    drawn: dict[str, Tensor] = {}
    seeds = [
        {method: file for method in methods if (file := folder / f"{method}.safetensors").is_file()}
        for folder in sorted(kept.glob("seed-*"))
    ]
    for method, file in max(seeds, key=len, default={}).items():
        found = kept_pictures(file)
        shown["truth"] = found.pop("truth")
        drawn |= {method: found.pop("samples")} if "samples" in found else {}
        shown |= {f"{method}: {by}": x for by, x in found.items()}
    return shown, drawn

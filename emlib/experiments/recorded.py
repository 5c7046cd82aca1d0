r"""A recorded table as an experiment again, at the sizes of then: presets change, and a record says what it ran at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from emlib.em.identity import completed
from emlib.em.settings import EMSettings, Phases
from emlib.experiments.config import Experiment, check_experiment
from emlib.experiments.methods import METHODS
from emlib.posterior import find_sampler
from emlib.runs.presets import POCKET, Preset
from emlib.runtime.files import read_json
from emlib.runtime.precision import Speed
from emlib.unet import UNetConfig

SOLVERS = tuple(find_sampler(name).solver for name in ("mmps", "mmps-plain"))
"""How MMPS may solve."""


@dataclass(frozen=True)
class Recorded:
    """What a recorded table ran.

    Attributes:
        experiment: its task, its methods and seeds as far as there are rows of them.
        sizes: its sizes, whatever a preset of that name says today.
        solver: how MMPS solved, as :class:`emlib.posterior.registry.SamplerRecord` names it.
    """

    experiment: Experiment
    sizes: Preset
    solver: str


def as_recorded(
    record: Mapping[str, Any], kept: Path, methods: Sequence[str] = (), seeds: Sequence[int] = ()
) -> Recorded:
    """What is to be run to make a recorded table's rows again.

    Args:
        record: as :func:`emlib.runs.record.read_result` reads it.
        kept: folder of its finished methods, ``seed-SEED/settings.json`` in it, where records older than their
            solver's name say it.
        methods, seeds: only these; all that have rows where none is named.

    Raises:
        ValueError: if it is no table of methods, has no such row, or needs what is no longer there, which is named.
    """
    said = record["settings"]
    if "sizes" not in said or "methods" not in said or not all("method" in row for row in record["rows"]):
        raise ValueError(f"a record of {record['experiment']} is no table of methods; its own command makes it anew")
    there = {name: tuple(dict.fromkeys(row[name] for row in record["rows"])) for name in ("method", "seed")}
    for name, asked in (("method", methods), ("seed", seeds)):
        if strange := [str(x) for x in asked if x not in there[name]]:
            found = ", ".join(map(str, there[name]))
            raise ValueError(f"{record['experiment']} has no row of {name} {', '.join(strange)}; there are {found}")
    wanted = tuple(methods) or there["method"]
    if gone := [name for name in wanted if name not in METHODS]:
        raise ValueError(f"nothing here runs {', '.join(gone)} any more; take --methods of {', '.join(METHODS)}")
    known = {field.name for field in fields(Experiment)} - {"methods", "seeds"}
    task = {key: value for key, value in said.items() if key in known and value is not None}
    # the pictures of another kind are those of one method alone
    task |= {} if "start-other" in wanted else {"other": ""}
    sizes = sizes_of(said["sizes"])
    experiment = Experiment(methods=wanted, seeds=tuple(seeds) or there["seed"], **task)
    check_experiment(experiment, sizes)
    solver = said.get("solver") or _solver(kept)
    if solver not in SOLVERS:
        raise ValueError(f"nothing here solves for MMPS as {solver!r}; there are {', '.join(SOLVERS)}")
    return Recorded(experiment, sizes, solver)


def sizes_of(said: Mapping[str, Any]) -> Preset:
    """A preset as a record holds it; what is younger than the record is what runs did before it was there.

    Raises:
        ValueError: if it has sizes that are unknown here, or lacks some.
    """
    full = completed(dict(said), json.loads(json.dumps(asdict(POCKET))))
    try:
        unet: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in full["unet"].items()
        }
        em = dict(full["em"])
        em |= {"phases": Phases(**em["phases"]), "speed": Speed(**em["speed"])}
        em |= {"e_speed": em["e_speed"] and Speed(**em["e_speed"])}
        return Preset(**{**full, "unet": UNetConfig(**unet), "em": EMSettings(**em)})
    except (TypeError, KeyError) as error:
        raise ValueError(f"the record's sizes are not those of a preset of today: {error}") from None


def _solver(kept: Path) -> str:
    """How MMPS solved in a table whose record does not say so: its finished methods' settings do, or are older."""
    found = sorted(kept.glob("seed-*/settings.json"))
    if not found:
        raise ValueError(f"the record does not say how MMPS solved, and there is no {kept}/seed-*/settings.json to ask")
    solvers = {completed(dict(read_json(file)), {"solver": ""})["solver"] for file in found}
    if len(solvers) > 1:
        raise ValueError(f"the seeds in {kept} were run with several solvers, {', '.join(sorted(solvers))}")
    return str(solvers.pop())

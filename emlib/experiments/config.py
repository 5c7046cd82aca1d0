r"""What ``experiments/NAME.json`` says: a task, methods, sizes and seeds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emlib.em.settings import EMSettings
from emlib.experiments.methods import METHODS
from emlib.runs.presets import Preset, preset


@dataclass(frozen=True)
class Experiment:
    """What ``experiments/NAME.json`` says.

    Attributes:
        about: a sentence.
        preset: gives the sizes.
        operator, fraction, noise_std: the task, as :func:`emlib.runs.task.make_task` takes it.
        methods: in the table's order.
        seeds: each method runs once with each.
        iterations: EM iterations, where not the preset's; trained baselines and the ceiling get as many updates fewer.
        longer: how many times as long as the preset's the last M-step is.
        cg_steps: conjugate-gradient steps of MMPS, where not the preset's.
        other: data set of another kind of pictures, for ``start-other``; as :func:`emlib.data.datasets.load` takes it.
    """

    about: str
    preset: str
    operator: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    fraction: float = 0.6
    noise_std: float = 0.0
    iterations: int | None = None
    cg_steps: int | None = None
    longer: int = 1
    other: str = ""

    def __post_init__(self) -> None:
        check_methods(self.methods)
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"EM needs at least one iteration, got iterations={self.iterations}")
        if self.longer < 1:
            raise ValueError(f"the last M-step is at least as long as the preset's, got longer={self.longer}")
        if self.cg_steps is not None and self.cg_steps < 1:
            raise ValueError(f"MMPS needs at least one conjugate-gradient step, got cg_steps={self.cg_steps}")
        if "start-other" in self.methods and not self.other:
            raise ValueError("start-other needs another data set; name it as other")

    def sizes(self) -> Preset:
        """The preset with the experiment's iterations, last M-step and conjugate-gradient steps.

        All that trains without EM gets as many updates more or fewer as EM does.
        """
        p = preset(self.preset)
        last = self.longer * p.em.updates_of(p.em.iterations) if self.longer > 1 else p.em.last_updates
        em = replace(p.em, iterations=self.iterations or p.em.iterations, last_updates=last)
        prior_updates = p.prior_updates + _updates(em) - _updates(p.em)
        return replace(p, em=em, prior_updates=prior_updates, cg_steps=self.cg_steps or p.cg_steps)


def _updates(em: EMSettings) -> int:
    """Of all M-steps of phase 1."""
    return sum(em.updates_of(k) for k in range(1, em.iterations + 1))


def check_methods(names: Iterable[str]) -> None:
    """Refuses methods that there are not."""
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")


def read_experiment(name: str) -> Experiment:
    """Reads an experiment: a JSON file by its path, or by its name in ``experiments/``, here or beside the library.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not as :class:`Experiment` wants it.
    """
    places = [Path("experiments"), Path(__file__).resolve().parents[2] / "experiments"]
    files = [Path(name), *(place / f"{name}.json" for place in places)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        names = sorted({file.stem for place in places for file in place.glob("*.json")})
        raise FileNotFoundError(f"no experiment {name}; there are {', '.join(names)}, or give the path of a JSON file")
    try:
        said: dict[str, Any] = json.loads(found.read_text())
        said = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
        return Experiment(**said)
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{found} is no experiment: {error}") from None


def here(data: str) -> str:
    """CIFAR-10 or CelebA, or what ``EMLIB_PICTURES`` names in its place; the other sets as they are."""
    return data if data in ("embedded", "faces") else os.environ.get("EMLIB_PICTURES") or data

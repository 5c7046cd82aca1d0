r"""What ``experiments/NAME.json`` says: a task, methods, sizes and seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from emlib.em.settings import EMSettings
from emlib.experiments.methods import METHODS
from emlib.operators import find_operator
from emlib.operators.registry import own_parameters
from emlib.runs.presets import Preset, preset
from emlib.runs.task import check_seed, check_task
from emlib.runtime.files import read_json
from emlib.runtime.numbers import is_number, is_whole

MOST = 10_000
"""Of iterations and steps: more is a slip of the pen."""

COUNTS = {
    "iterations": "EM needs a whole number of iterations, at least one iteration",
    "longer": "the last M-step is at least as long as the preset's, a whole number of times",
    "cg_steps": "MMPS needs at least one conjugate-gradient step, a whole number of them",
}
"""Settings that count, and what is said of others."""


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
        for key in ("about", "preset", "operator", "other"):
            if not isinstance(getattr(self, key), str):
                raise ValueError(f"{key} takes words, got {getattr(self, key)!r:.80}")
        for key in ("methods", "seeds"):
            if not isinstance(getattr(self, key), (tuple, list)) or not getattr(self, key):
                raise ValueError(f"{key} takes a list of at least one, got {getattr(self, key)!r:.80}")
        check_methods(self.methods)
        for seed in self.seeds:
            check_seed(seed)
        for key in ("methods", "seeds"):
            if twice := [x for i, x in enumerate(getattr(self, key)) if x in getattr(self, key)[:i]]:
                raise ValueError(f"{key} has {twice[0]!r} twice, which would double its rows; name it once")
        for key in ("fraction", "noise_std"):
            x = getattr(self, key)
            if not is_number(x) or not isfinite(x):
                raise ValueError(f"{key} takes a number, got {x!r:.80}")
        for key, what in COUNTS.items():
            if (x := getattr(self, key)) is None and key != "longer":
                continue
            if not is_whole(x) or not 1 <= x <= MOST:
                raise ValueError(f"{what}, got {key}={x!r:.80}; up to {MOST} are taken")
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


def check_methods(names: Iterable[object]) -> None:
    """Refuses methods that there are not."""
    if unknown := [str(name) for name in names if not (isinstance(name, str) and name in METHODS)]:
        raise ValueError(f"unknown methods {', '.join(unknown):.200}; there are {', '.join(METHODS)}")


def check_experiment(experiment: Experiment, sizes: Preset | None = None) -> None:
    """Refuses a task that there is not, before any of its pictures is read; at these sizes, if not at its own.

    Raises:
        ValueError: with the remedy.
    """
    kind = find_operator(experiment.operator)
    if "fraction" not in kind.parameters and experiment.fraction != Experiment.fraction:
        raise ValueError(f"the operator {experiment.operator} has no fraction, got {experiment.fraction}; leave it out")
    parameters = own_parameters(kind, {"fraction": experiment.fraction})
    check_task(sizes or experiment.sizes(), kind, parameters, experiment.noise_std)


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
        said: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in read_json(found).items()}
        return Experiment(**said)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{found} is no experiment: {error}") from None


def asked(experiment: Experiment, preset: str | None = None, seeds: Iterable[int] = ()) -> Experiment:
    """An experiment at another preset, where one is named, and with these seeds beside its own."""
    listed = tuple(dict.fromkeys([*experiment.seeds, *seeds]))
    return replace(experiment, preset=preset or experiment.preset, seeds=listed)


def here(data: str) -> str:
    """CIFAR-10 or CelebA, or what ``EMLIB_PICTURES`` names in its place; the other sets as they are."""
    return data if data in ("embedded", "faces") else os.environ.get("EMLIB_PICTURES") or data

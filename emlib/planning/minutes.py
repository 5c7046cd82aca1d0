r"""How far EM comes in the time that there is: network, observations and updates from minutes.

Nobody knows beforehand how many updates an hour on their machine is. So the machine is timed for some seconds, and
:data:`emlib.planning.budgets.BUDGETS` say which network is worth so much computing; of the time E-steps get
:data:`E_SHARE`, training the rest, in the proportions that were best for the book's own runs
(``experiments/recipe-embedded-mask.json``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

from emlib.data.datasets import part_sizes
from emlib.data.decode import datasets_dir, pictures_below
from emlib.data.sources import celeba_files
from emlib.metrics.summary import CROWD
from emlib.planning import budgets
from emlib.planning.budgets import Budget, Speeds
from emlib.planning.checks import FACES, KNOWN
from emlib.planning.plan import PASSES, Plan
from emlib.runs.presets import Preset

E_SHARE = 0.3
"""Share of the time for E-steps: with fewer observations a prior learns them by heart, with fewer updates it learns
less of each."""
FIRST, LAST = 0.12, 0.44
"""Shares of the updates for the first prior and for the last M-step; those in between share the rest."""
FEWEST = 80
"""Updates that a first prior may make however few its pictures are (:data:`emlib.planning.plan.PASSES`)."""
FEWEST_SCORED = 256
"""Samples, and real pictures beside as many, that a Fréchet distance of AlexNet's features takes more than."""
SLACK = 0.07
"""Share of the time kept back for reading pictures and for a machine that slows down."""
SCORING = 0.15
"""Most of the time that samples for the Fréchet distance may take; there are fewer of them where that does not do."""
LONGEST = 1_000_000
"""Minutes that are planned for."""


def plan_minutes(
    p: Preset,
    minutes: float,
    there: int,
    timed: Callable[[Budget], Speeds],
    spent: float = 0.0,
    start: float = FIRST,
    iterations: int | None = None,
    begun: int | None = None,
) -> Plan:
    """The sizes that a task of this preset may have in the time.

    Args:
        p: gives the pictures' size, the clean and the held-out ones and the samples.
        minutes: the time, above 0.
        there: broken pictures that there are.
        timed: budget -> what its work takes (:func:`timed_here`, :func:`counted`).
        spent: seconds that are gone already.
        start: share of the updates for the first prior, at most.
        iterations: of EM, at least 2; None for as many as the budget's row has.
        begun: pictures that the first prior learns from, where they are few: it sees each about PASSES times at most.

    Raises:
        ValueError: if the time does not suffice for the smallest network.
    """
    if not 0 < minutes <= LONGEST:
        raise ValueError(f"--minutes takes a number above 0, got {minutes}; up to {LONGEST:,}, which are two years")
    rows = [replace(budget, iterations=iterations or budget.iterations) for budget in budgets.BUDGETS]
    fitting = [budget for budget in rows if not p.size % budget.unet.stride]
    if not fitting:
        raise ValueError(
            f"pictures of {p.size} pixels fit no network; take a multiple of {budgets.BUDGETS[-1].unet.stride}"
        )
    begin = time.perf_counter()
    for budget in fitting:
        s = timed(budget)
        whole = 60 * minutes * (1 - SLACK) - spent - (time.perf_counter() - begin)
        sample, crowd = p.sample_steps * s.call + s.feature, min(CROWD, there) * s.feature
        samples = max(0, min(p.samples, int((SCORING * whole - crowd) / sample)))
        if p.samples > FEWEST_SCORED and not FEWEST_SCORED < samples < min(CROWD, there) - FEWEST_SCORED:
            samples = 0  # too few for a distance, or too many beside the real ones
        scores = p.held_out * s.picture + (samples * sample + crowd if samples else 0)
        left = whole - scores
        count = max(min(there, p.clean), min(there, int(E_SHARE * left / (budget.iterations * s.picture))))
        e_steps = budget.iterations * count * s.picture
        updates = int((left - e_steps) / s.update)
        if updates >= max(budget.least, 20 * budget.iterations):
            break
    else:
        least = p.held_out * s.picture + budget.iterations * (min(there, p.clean) * s.picture + 20 * s.update)
        need = (least / (1 - SCORING) + spent) / (1 - SLACK) / 60
        raise ValueError(f"{minutes:g} minutes are too few for EM on this device; it takes about {need:.2g} at least")
    enough = inf if begun is None else max(FEWEST, PASSES * begun // budget.batch)
    first, last = max(1, int(min(start * updates, enough))), max(1, int(LAST * updates))
    between = max(1, (updates - first - last) // (budget.iterations - 1))
    seconds = {
        "first prior": first * s.update,
        "E-steps": e_steps,
        "M-steps": (between * (budget.iterations - 1) + last) * s.update,
        "scores": scores,
    }
    return Plan(minutes, budget.name, count, first, between, last, samples, seconds, iterations)


def observations_there(name: str) -> int:
    """Broken pictures of a data set, without reading one.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if there is no such set.
    """
    if name in KNOWN:
        return part_sizes(KNOWN[name])[1]
    if name == "celeba":
        return part_sizes(len(celeba_files(datasets_dir())[1]))[1]
    if name == "faces":
        return FACES[1]
    if not Path(name).is_dir():
        raise ValueError(f"unknown data {name!r}; take embedded, cifar10, celeba, faces or a folder of pictures")
    return part_sizes(len(pictures_below(Path(name))))[1]

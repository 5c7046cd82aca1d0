r"""How far EM comes in the time that there is: network, observations and updates from minutes.

Nobody knows beforehand how many updates an hour on their machine is. So the machine is timed for some seconds, and
:data:`emlib.planning.budgets.BUDGETS` say which network is worth so much computing; of the time E-steps get
:data:`E_SHARE`, training the rest, in the proportions that were best for the book's own runs
(``experiments/recipe-embedded-mask.json``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from emlib.data.datasets import part_sizes
from emlib.data.decode import datasets_dir, pictures_below
from emlib.data.sources import celeba_files
from emlib.metrics.summary import CROWD
from emlib.planning.budgets import BUDGETS, Budget, Speeds, speeds
from emlib.planning.checks import FACES, KNOWN
from emlib.posterior import GPU_BATCH
from emlib.runs.presets import Preset
from emlib.runtime.durations import short_duration
from emlib.runtime.files import read_json, sealed, unsealed, write_json
from emlib.runtime.numbers import is_number, is_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P")

E_SHARE = 0.3
"""Share of the time for E-steps: with fewer observations a prior learns them by heart, with fewer updates it learns
less of each."""
FIRST, LAST = 0.12, 0.44
"""Shares of the updates for the first prior and for the last M-step; those in between share the rest."""
PASSES, FEWEST = 250, 80
"""About how often a first prior may see each of a few clean pictures, an M-step too, and the updates that a first
prior may make even so. From fifty photographs of which 60 % was hidden the medium network's first E-step came to 24.6
dB after 80 updates of 256, 22.9 after 160 and 20.2 after 320; after 160 of 64 to 24.8, after 640 to 21.6 (an H200); the
small network's to 24.1 dB after 300 updates of 32, to 21.5 after 300 of 128: a few pictures are soon known by heart."""
NEAR = 0.8
"""Share of the last M-step's updates from which on it may end with the time."""
SLACK = 0.07
"""Share of the time kept back for reading pictures and for a machine that slows down."""
SCORING = 0.15
"""Most of the time that samples for the Fréchet distance may take; there are fewer of them where that does not do."""


@dataclass(frozen=True)
class Plan:
    """What the time suffices for.

    Attributes:
        minutes: the time.
        budget: name of the row of :data:`BUDGETS`.
        observations: broken pictures of an E-step.
        first, between, last: updates of the first prior, of an M-step and of the last one.
        samples: pictures drawn at the end for the Fréchet distance; 0 where time or pictures are too few for it.
        seconds: what the parts are expected to take: "first prior", "E-steps", "M-steps", "scores".
        iterations: of EM; None for as many as the budget's row has.
    """

    minutes: float
    budget: str
    observations: int
    first: int
    between: int
    last: int
    samples: int
    seconds: dict[str, float]
    iterations: int | None = None

    def __post_init__(self) -> None:
        """It may come from a file, where anything may stand."""
        counts = (self.observations, self.first, self.between, self.last, self.samples, self.iterations or 0)
        if bad := [x for x in counts if not is_whole(x) or x < 0]:
            raise ValueError(f"a plan takes whole numbers of 0 or more, got {bad[0]!r:.80}")
        if self.budget not in [budget.name for budget in BUDGETS]:
            raise ValueError(f"unknown network {self.budget!r:.80}")
        if not isinstance(self.seconds, dict) or not {"scores"} <= self.seconds.keys():
            raise ValueError("a plan says how long each part takes, and this one does not")
        if wrong := [x for x in (self.minutes, *self.seconds.values()) if not is_number(x) or not 0 <= x < inf]:
            raise ValueError(f"a plan takes times of 0 or more, got {wrong[0]!r:.80}")

    @property
    def row(self) -> Budget:
        """The row of :data:`BUDGETS`, with the plan's iterations."""
        row = next(budget for budget in BUDGETS if budget.name == self.budget)
        return replace(row, iterations=self.iterations or row.iterations)

    @property
    def least(self) -> int:
        """Updates from which on the last M-step may end with the time: its rate has then fallen to a fifth."""
        return max(1, round(NEAR * self.last))

    @property
    def snapshot(self) -> int:
        """Updates from one snapshot of a training to the next, which takes a second on a GPU: those of a minute."""
        updates = self.between * (self.row.iterations - 1) + self.last
        return max(200, int(60 * updates / max(1e-9, self.seconds.get("M-steps", 0.0))))

    def sizes(self, p: Preset) -> Preset:
        """A preset's task with the plan's sizes."""
        row, (speed, e_speed) = self.row, speeds()
        # a tenth of what an M-step sees, and repeated no more than makes PASSES of them
        clean = min(0.1, PASSES * p.clean / (self.last * row.batch)) * self.observations
        copies = max(1, round(clean / p.clean)) if p.em.clean_copies else 0
        em = replace(
            p.em,
            iterations=row.iterations,
            init_updates=self.first,
            m_updates=self.between,
            last_updates=self.last,
            train_batch=row.batch,
            init_lr=row.lr,
            m_lr=row.lr,
            ema_decay=min(0.9995, max(0.98, 1 - 5 / self.last)),
            snapshot=self.snapshot,
            e_batch=GPU_BATCH,
            shard=2 * GPU_BATCH,
            clean_copies=copies,
            optimizer="muon",
            speed=speed,
            e_speed=e_speed,
        )
        unet = replace(row.unet, in_channels=p.unet.in_channels)
        sizes = replace(p, unet=unet, em=em, observations=self.observations, samples=self.samples)
        return replace(sizes, e_steps=row.e_steps, cg_steps=1)

    def lines(self) -> list[str]:
        """The plan as text."""
        row, spent = self.row, ", ".join(f"{name} {short_duration(s)}" for name, s in self.seconds.items())
        return [
            f"{self.minutes:g} minutes: {row.name} network, {self.observations:,} observations, {row.iterations} "
            f"iterations; updates of {row.batch}: {self.first:,} for the first prior, {self.between:,} in an M-step, "
            f"{self.last:,} in the last",
            f"expected: {spent}; in all {short_duration(sum(self.seconds.values()))}",
        ]


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
    rows = [replace(budget, iterations=iterations or budget.iterations) for budget in BUDGETS]
    fitting = [budget for budget in rows if not p.size % budget.unet.stride]
    if not fitting:
        raise ValueError(f"pictures of {p.size} pixels fit no network; take a multiple of {BUDGETS[-1].unet.stride}")
    begin = time.perf_counter()
    for budget in fitting:
        s = timed(budget)
        whole = 60 * minutes * (1 - SLACK) - spent - (time.perf_counter() - begin)
        sample, crowd = p.sample_steps * s.call + s.feature, min(CROWD, there) * s.feature
        samples = max(0, min(p.samples, int((SCORING * whole - crowd) / sample)))
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


LONGEST = 1_000_000
"""Minutes that are planned for."""


PLAN_FILE = "plan.json"
"""The plan in a run's folder: what is given again goes on with it, however fast the machine is that day."""


def kept_plan(folder: Path) -> Plan | None:
    """The plan of a run that has begun, if it has."""
    return plan_in(folder, lambda said: Plan(**said))


def plan_in(folder: Path, made: Callable[[dict[str, Any]], P]) -> P | None:
    """The plan that :func:`keep_plan` wrote, if it did.

    Args:
        folder: the run's.
        made: makes the plan of what its file says.

    Raises:
        ValueError: if the file is damaged, with the remedy.
    """
    file = folder / PLAN_FILE
    if not file.is_file():
        return None
    try:
        return made(unsealed(read_json(file)))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is no plan ({error}); delete {folder}, and the same command begins anew") from None


def keep_plan(plan: DataclassInstance, folder: Path) -> None:
    """Writes a plan, a dataclass of any kind, into a run's folder."""
    write_json(folder / PLAN_FILE, sealed(asdict(plan)))

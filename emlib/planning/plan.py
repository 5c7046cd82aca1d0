r"""A plan for some minutes: its sizes as a preset has them, in words, and as a file in the run's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from emlib.planning import budgets
from emlib.planning.budgets import Budget, speeds
from emlib.posterior import GPU_BATCH
from emlib.runs.presets import Preset
from emlib.runtime.durations import short_duration
from emlib.runtime.files import read_json, sealed, unsealed, write_json
from emlib.runtime.numbers import is_number, is_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P")

PASSES = 250
"""About how often a first prior may see each of a few clean pictures, an M-step too. From fifty photographs of which
60 % was hidden the medium network's first E-step came to 24.6 dB after 80 updates of 256, 22.9 after 160 and 20.2 after
320; after 160 of 64 to 24.8, after 640 to 21.6 (an H200); the small network's to 24.1 dB after 300 updates of 32, to
21.5 after 300 of 128: a few pictures are soon known by heart."""
NEAR = 0.8
"""Share of the last M-step's updates from which on it may end with the time."""


@dataclass(frozen=True)
class Plan:
    """What the time suffices for.

    Attributes:
        minutes: the time.
        budget: name of the row of :data:`emlib.planning.budgets.BUDGETS`.
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
        if self.budget not in [budget.name for budget in budgets.BUDGETS]:
            raise ValueError(f"unknown network {self.budget!r:.80}")
        if not isinstance(self.seconds, dict) or not {"scores"} <= self.seconds.keys():
            raise ValueError("a plan says how long each part takes, and this one does not")
        if wrong := [x for x in (self.minutes, *self.seconds.values()) if not is_number(x) or not 0 <= x < inf]:
            raise ValueError(f"a plan takes times of 0 or more, got {wrong[0]!r:.80}")

    @property
    def row(self) -> Budget:
        """The row of :data:`emlib.planning.budgets.BUDGETS`, with the plan's iterations."""
        row = next(budget for budget in budgets.BUDGETS if budget.name == self.budget)
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

"""What ``emlib em`` is told: all that is known of a run before any picture is read."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from emlib.em.settings import EMSettings
from emlib.guidance import rules
from emlib.operators import find_operator
from emlib.operators.registry import own_parameters
from emlib.posterior import find_sampler
from emlib.runs.presets import Preset, preset
from emlib.runs.task import check_task

MOST = 10**6
"""Of iterations, and of pictures in a batch: more is a slip of the pen."""

STARTS = ("clean", "gaussian", "preprocessed")
"""What EM may begin with, beside a folder of pictures."""


@dataclass(frozen=True)
class Job:
    """One run of EM by the command line.

    Attributes:
        preset: sizes, with the numbers that the command line overrules.
        data: data set, as :func:`emlib.data.datasets.load` takes it.
        operator: as :func:`emlib.operators.find_operator` takes it.
        parameters: the operator's own, by name.
        noise_std: standard deviation of the noise on the [-1, 1] scale.
        sampler, scale: the E-step's, by name.
        start: what the first prior is made of.
        folder: where the run is kept.
        board: folder of TensorBoard's log, if one is wanted.
        out: JSON file that the run is recorded in, its picture beside it.
        ends: moment of ``time.perf_counter`` at which training stops, done or not; such a run draws samples once, at
            the end.
    """

    preset: Preset
    data: str
    operator: str
    parameters: dict[str, float]
    noise_std: float
    sampler: str
    scale: str
    start: str
    folder: Path
    board: Path | None
    out: Path
    ends: float | None = None

    @property
    def settings(self) -> EMSettings:
        """Sizes of the loop, with the seed."""
        return self.preset.em

    @property
    def searched(self) -> bool:
        """Whether the E-step looks for its scale."""
        return find_sampler(self.sampler).guided and self.scale in rules.RULES

    def about(self) -> dict[str, Any]:
        """Names that a run folder must agree with, beside the settings and the task."""
        record, p = find_sampler(self.sampler), self.preset
        scale = self.scale if record.guided else "none"
        return {
            "sampler": self.sampler,
            "solver": record.solver,
            "scale": scale,
            "start": self.start,
            "e_steps": p.e_steps,
            "cg_steps": p.cg_steps,
        }

    def known(self) -> dict[str, Any]:
        """All of the run's settings but those that hang on the pictures."""
        operator = {"operator": find_operator(self.operator).name, **self.parameters}
        task = {**operator, "noise_std": self.noise_std, "pictures": self.preset.observations}
        return {"unet": asdict(self.preset.unet), **asdict(self.settings), **self.about(), **task}


def job_of(args: argparse.Namespace) -> Job:
    """The run that the command line asks for.

    Raises:
        ValueError: if there is no such preset or operator, or a number is out of range.
    """
    p = preset(args.preset)
    given = {"iterations": args.iterations, "e_batch": args.e_batch, "train_batch": args.train_batch}
    given = {name: value for name, value in given.items() if value is not None}
    if bad := [f"--{name.replace('_', '-')} must be at least 1, got {v}" for name, v in given.items() if v < 1]:
        raise ValueError("; ".join(bad))
    if bad := [f"--{name.replace('_', '-')} takes up to {MOST}, got {v}" for name, v in given.items() if v > MOST]:
        raise ValueError("; ".join(bad))
    p = replace(p, em=replace(p.em, seed=args.seed, **given))
    if args.start != "clean":  # what it starts from must not be learnt again and again
        p = replace(p, em=replace(p.em, clean_copies=0))
    operator = find_operator(args.operator)
    parameters = own_parameters(operator, vars(args))
    folder = args.folder or Path("runs") / f"em-{operator.name}-{args.sampler}-{p.name}"
    board = None if args.tensorboard is None else Path(args.tensorboard) if args.tensorboard else folder / "tensorboard"
    task = (args.data or p.data, args.operator, parameters, args.noise_std)
    return Job(p, *task, args.sampler, args.scale, args.start, folder, board, args.out or folder / "result.json")


def check_names(job: Job) -> None:
    """Refuses a task, a scale or a start that there is not.

    Raises:
        ValueError: with the remedy.
    """
    probe = check_task(job.preset, job.operator, job.parameters, job.noise_std)
    if find_sampler(job.sampler).guided:
        if job.scale in rules.RULES:
            rules.check(job.scale, probe)
        else:
            scale_of(job.scale)
    else:
        check_scale(job.scale)  # it has no meaning, but must not be nonsense
    if job.start not in STARTS and not Path(job.start).is_dir():
        raise ValueError(f"unknown start {job.start!r}; there are {', '.join(STARTS)}, or a folder of pictures")


def check_scale(word: str) -> None:
    """Refuses what no sampler would take as its guidance scale.

    Raises:
        ValueError: if it is neither a rule nor a number above 0.
    """
    if word not in rules.RULES:
        scale_of(word)


def scale_of(word: str) -> float:
    """A guidance scale that is given as a number.

    Raises:
        ValueError: if it is neither a finite number above 0 nor, as the caller has seen, a rule.
    """
    try:
        number = float(word)
    except ValueError:
        raise ValueError(f"--scale takes a number or {' or '.join(rules.RULES)}, got {word!r}") from None
    if not 0 < number < inf:
        raise ValueError(f"--scale must be above 0 and finite, got {number}")
    return number

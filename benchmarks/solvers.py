"""What a step of MMPS's solver is worth, plain and preconditioned, on blur without noise and with a little.

    python benchmarks/solvers.py --experiment table-embedded-blur --prior FILE --out FILE.json

Restores held-out pictures of an experiment by MMPS with every solver, in turn, round by round. ``ratio`` is a solver's
speed as a multiple of one preconditioned step's. Without ``--prior`` a first prior is trained on the experiment's
clean pictures, as EM trains it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from e_step import Rows, alternated, options, parse, ratio, record, show
from torch import Tensor

import emlib
from emlib.experiments.base import Setting, trained_on
from emlib.experiments.config import Experiment, here, read_experiment
from emlib.metrics.image import alternation
from emlib.posterior.mmps import by_operator, plain

SOLVERS = {"plain": (plain, (1, 2, 4, 8)), "preconditioned": (by_operator, (1, 2, 4))}
"""Preconditioner, and numbers of steps."""


def contestants(steps: int) -> dict[tuple[str, int], Callable[..., Any]]:
    """(solver, its steps) -> MMPS with it."""
    return {
        (name, n): partial(emlib.mmps, steps=steps, cg_steps=n, precondition=precondition)
        for name, (precondition, counts) in SOLVERS.items()
        for n in counts
    }


def compared(prior: emlib.UNet, m: emlib.Measurements, truth: Tensor, p: emlib.Preset, repeats: int, seed: int) -> Rows:
    """A row for each solver: its scores, the least seconds of a round, and the ratio of the rounds."""
    schedule, found = emlib.linear_schedule(), {}

    def restore(key: tuple[str, int], sampler: Callable[..., Any]) -> None:
        parts = emlib.reconstruct(sampler, prior, schedule, m, seed, "held-out", p.em.e_batch)
        found[key] = torch.cat(list(parts))

    restore(("warm-up", 1), partial(emlib.mmps, steps=1))
    work = {key: partial(restore, key, sampler) for key, sampler in contestants(p.e_steps).items()}
    seconds = alternated(work, repeats)
    return [
        {"noise_std": m.noise_std, "solver": solver, "steps": n}
        | scores(found[solver, n], truth)
        | {"seconds": min(seconds[solver, n])}
        | ratio(seconds, (solver, n), ("preconditioned", 1))
        for solver, n in work
    ]


def scores(x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR, LPIPS and how much a pattern of two pixels stands out."""
    return {**emlib.against_truth(x, truth), "alternation": alternation(x)}


def tasks_of(
    experiment: Experiment, noise_stds: Sequence[float], args: argparse.Namespace
) -> tuple[emlib.Preset, list[emlib.Task]]:
    """An experiment's sizes, and its task at each noise level.

    Raises:
        ValueError: if a number makes no sense, or fewer pictures are held out than ``args.pictures``.
    """
    p = experiment.sizes()
    how = (p, experiment.operator, experiment.fraction)
    tasks = [emlib.make_task(*how, noise_std, args.seed, here(p.data)) for noise_std in noise_stds]
    if not 1 <= args.pictures <= len(tasks[0].held_out):
        raise ValueError(f"--pictures is {args.pictures}, but 1 to {len(tasks[0].held_out)} are held out")
    return p, tasks


def first_prior(p: emlib.Preset, task: emlib.Task, seed: int) -> emlib.UNet:
    """A prior trained on the clean pictures, as EM trains its first."""
    setting = Setting(p, task, emlib.linear_schedule(), seed, Path())
    return trained_on(setting, task.clean, p.em.init_updates).eval().requires_grad_(False)


def main(words: list[str] | None = None) -> int:
    """Restores, prints, records; 2 if the experiment or the prior makes no sense."""
    parser = options(__doc__, pictures=48, repeats=3)
    parser.add_argument("--experiment", default="table-embedded-blur", help="task and sizes (default: %(default)s)")
    parser.add_argument("--noise-std", type=float, nargs="+", default=[0.0, 0.05], help="on [-1, 1] (default: 0 0.05)")
    parser.add_argument("--prior", type=Path, help="weights (default: a first prior is trained)")
    args = parse(parser, words, pictures=4, repeats=1)
    start = time.perf_counter()
    try:
        p, tasks = tasks_of(read_experiment(args.experiment), args.noise_std, args)
        prior = emlib.load_unet(args.prior) if args.prior else None
    except (ValueError, FileNotFoundError) as error:
        print(f"solvers: {error}", file=sys.stderr)
        return 2
    prior = first_prior(p, tasks[0], args.seed) if prior is None else prior.eval().requires_grad_(False)
    rows: Rows = []
    for task in tasks:
        few, truth = task.held_out.select(range(args.pictures)), task.held_out_truth[: args.pictures]
        rows += compared(prior, few, truth, p, args.repeats, args.seed)
    show(rows)
    settings = {"experiment": args.experiment, "data": tasks[0].about["data"], "pictures": args.pictures}
    settings |= {"calls": p.e_steps, "prior": str(args.prior or "first prior")}
    record(args, "solvers", settings, rows, time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())

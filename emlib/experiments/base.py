r"""What every method of a table is given, and what it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from emlib.diffusion import Eps
from emlib.em.e_step import EStep
from emlib.posterior import find_sampler, reconstruct
from emlib.runs.build import choose_e_step
from emlib.runs.presets import Preset
from emlib.runs.task import Task
from emlib.schedule import Schedule
from emlib.training import TrainStep, train
from emlib.unet import build_unet

SOLVER = find_sampler("mmps").solver
"""How MMPS solves in tables of today."""


@dataclass(frozen=True)
class Setting:
    """What all methods of a table are given.

    Attributes:
        preset: sizes. A trained baseline has the updates of the clean prior, fewer if one of its updates costs more.
        task: its measurements, the held-out ones and the few clean pictures are for all, the truth for the ceiling.
        schedule: the noise levels.
        seed: seed of everything random.
        folder: where a method may keep what it needs to resume.
        other: a few pictures of another kind, as many as are clean, or None.
        solver: how MMPS solves; recorded tables are older than the preconditioner.
    """

    preset: Preset
    task: Task
    schedule: Schedule
    seed: int
    folder: Path
    other: Tensor | None = None
    solver: str = SOLVER

    def sampler(self, name: str) -> str:
        """The sampler that a method means by a name: MMPS solves as the table does."""
        return "mmps-plain" if name == "mmps" and self.solver == find_sampler("mmps-plain").solver else name


@dataclass(frozen=True)
class Outcome:
    """What a method came to.

    Attributes:
        rebuilt: name of the way to reconstruct -> the held-out pictures, [N, C, H, W] on [-1, 1].
        prior: to draw new pictures from, if the method has one.
        crowd: pictures to hold against the real ones instead, [M, C, H, W].
        trained_on: what the last E-step drew and the prior was last trained on, [M, C, H, W].
    """

    rebuilt: dict[str, Tensor]
    prior: Eps | None = None
    crowd: Tensor | None = None
    trained_on: Tensor | None = None


def trained_on(s: Setting, images: Tensor, updates: int) -> Eps:
    """A prior of the table's network after this many updates on pictures; averaged weights."""
    em = s.preset.em
    model, seed = build_unet(s.preset.unet, s.seed).to(s.task.held_out.y.device), 1000 * s.seed + 999
    how = (em.train_batch, em.init_lr, seed, em.ema_decay, em.flip)
    loop = train(model, s.schedule, images, updates, *how, optimizer=em.optimizer)
    return last(shown(loop, updates))


def shown(loop: Iterator[TrainStep], total: int) -> Iterator[TrainStep]:
    """The training with a progress bar."""
    return iter(tqdm(loop, total=total, desc="training", unit="update", leave=False))


def last(loop: Iterator[TrainStep]) -> Eps:
    """Averaged weights at the end of a training."""
    for now in loop:
        pass
    return now.ema


def e_step_of(s: Setting, sampler: str, rule: str) -> EStep:
    """An E-step on the table's measurements, by the names of its sampler and of its rule for lambda."""
    return choose_e_step(s.sampler(sampler), rule, s.seed, s.preset, s.schedule, s.task.measurements)


def posterior(s: Setting, prior: Eps, *samplers: str) -> dict[str, Tensor]:
    """The held-out pictures drawn with a prior by each sampler, by the sampler's name."""
    return rebuilt(s, prior, {sampler: e_step_of(s, sampler, "auto") for sampler in samplers}, 0)


def rebuilt(s: Setting, prior: Eps, e_steps: dict[str, EStep], k: int) -> dict[str, Tensor]:
    """The held-out pictures by each sampler, drawn with the same random streams."""
    m, batch = s.task.held_out, s.preset.em.e_batch
    return {
        name.upper(): torch.cat(list(reconstruct(e_step(prior, k), prior, s.schedule, m, s.seed, "held-out", batch)))
        for name, e_step in e_steps.items()
    }

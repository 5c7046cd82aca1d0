r"""Who takes part in a table: each method, from the same measurements to reconstructions and perhaps a prior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from emlib.baselines import ambient, noise2self, run_diem, sure_score
from emlib.baselines.classical import classical
from emlib.commands import choose_e_step
from emlib.diffusion import Eps
from emlib.em import EStep, run_em
from emlib.operators import Measurements
from emlib.posterior import find_sampler, reconstruct
from emlib.presets import Preset
from emlib.progress import Iteration, Progress, watch
from emlib.schedule import Schedule
from emlib.tasks import Task
from emlib.training import TrainStep, train
from emlib.unet import build_unet


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
    """

    preset: Preset
    task: Task
    schedule: Schedule
    seed: int
    folder: Path
    other: Tensor | None = None


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


def observed(s: Setting) -> Outcome:
    """The broken pictures as they are."""
    return Outcome({"as it is": s.task.held_out.view()}, crowd=s.task.measurements.view()[: s.preset.samples])


def filtered(s: Setting) -> Outcome:
    """Interpolation, filter or deconvolution of each picture alone."""
    return Outcome({"alone": classical(s.task.held_out)})


def by_sure_score(s: Setting) -> Outcome:
    """SURE-Score; its update asks the network three times, so it has at most a third of the updates.

    A tenth of the noisy pictures tells when to stop; without, it ends by learning their noise. Where there is no
    noise, SURE has nothing to tell: it sees all pictures, and goes on to the end, as published.
    """
    p, m = s.preset, s.task.measurements
    model = build_unet(p.unet, s.seed).to(m.y.device)
    aside = max(1, len(m) // 10) if m.noise_std else 0
    steps, seen = (p.prior_updates - p.em.init_updates) // 3, len(m) - aside
    loop = _training(s, sure_score.train_sure_score, model, steps, m.select(range(seen)))
    prior = sure_score.stopped(loop, s.schedule, m.select(range(seen, len(m)))) if aside else _last(loop)
    plain = s.task.held_out.operator.identity
    own = {"D(y)": sure_score.denoise(prior, s.schedule, s.task.held_out)} if plain else {}
    return Outcome({**own, **posterior(s, prior, "dps", "mmps")}, prior)


def by_ambient(s: Setting) -> Outcome:
    """Ambient Diffusion; reconstructed by DPS, as its authors do, and by the one call it was trained for."""
    p, m = s.preset, s.task.held_out
    model = ambient.build_ambient(p.unet, s.seed).to(m.y.device)
    model = _trained(s, ambient.train_ambient, model, p.prior_updates - p.em.init_updates)
    prior = ambient.ambient_prior(model, s.schedule, s.task.measurements, s.seed)
    return Outcome({"E[x | y]": ambient.restore(model, s.schedule, m), **posterior(s, prior, "dps")}, prior)


def by_noise2self(s: Setting) -> Outcome:
    """Noise2Self, which is no prior."""
    p, m = s.preset, s.task.held_out
    model = build_unet(p.unet, s.seed).to(m.y.device)
    model = _trained(s, noise2self.train_noise2self, model, p.prior_updates - p.em.init_updates)
    return Outcome({"f(y)": noise2self.denoise(model, m)})


def by_em(sampler: str, rule: str = "auto") -> Callable[[Setting], Outcome]:
    """EM from the few clean pictures with an E-step of this name."""

    def em(s: Setting) -> Outcome:
        e_step = _e_step(s, sampler, rule)
        about = {"sampler": sampler, "scale": rule if find_sampler(sampler).guided else "none"}
        settings, m = replace(s.preset.em, seed=s.seed), s.task.measurements
        loop = run_em(m, s.task.clean, s.preset.unet, s.schedule, e_step, settings, s.folder, about)
        return _after(s, loop, e_step, sampler)

    return em


def by_diem(s: Setting) -> Outcome:
    """DiEM, the only one that is given no clean picture."""
    p = s.preset
    settings, m = replace(p.em, seed=s.seed), s.task.measurements
    loop = run_diem(m, p.unet, s.schedule, settings, p.e_steps, p.cg_steps, s.folder)
    return _after(s, loop, _e_step(s, "mmps", "auto"), "mmps")


def ceiling(s: Setting) -> Outcome:
    """A prior trained on the clean pictures themselves, all of them: the bound that the others are held against."""
    prior = trained_on(s, s.task.real, s.preset.prior_updates)
    return Outcome(posterior(s, prior, "dps", "mmps"), prior)


def trained_on(s: Setting, images: Tensor, updates: int) -> Eps:
    """A prior of the table's network after this many updates on pictures; averaged weights."""
    em = s.preset.em
    model, seed = build_unet(s.preset.unet, s.seed).to(s.task.held_out.y.device), 1000 * s.seed + 999
    loop = train(model, s.schedule, images, updates, em.train_batch, em.init_lr, seed, em.ema_decay, em.flip)
    return _last(_shown(loop, updates))


CONTENDERS: dict[str, Callable[[Setting], Outcome]] = {
    "observed": observed,
    "classical": filtered,
    "sure-score": by_sure_score,
    "ambient": by_ambient,
    "noise2self": by_noise2self,
    "em-dps-paper": by_em("dps", "residual"),
    "em-dps-auto": by_em("dps", "auto"),
    "em-mmps": by_em("mmps"),
    "diem": by_diem,
    "ceiling": ceiling,
}
"""The methods by name."""


def _trained(s: Setting, method: Callable[..., Iterator[TrainStep]], model: torch.nn.Module, steps: int) -> Eps:
    """Averaged weights after the method's updates on the clean and on the broken pictures."""
    return _last(_training(s, method, model, steps, s.task.measurements))


def _training(
    s: Setting, method: Callable[..., Iterator[TrainStep]], model: torch.nn.Module, steps: int, m: Measurements
) -> Iterator[TrainStep]:
    em = s.preset.em
    seed = 1000 * s.seed + 900  # apart from those of EM, which are 1000 seed + k
    few, clean = em.init_updates, s.task.clean
    loop = method(model, s.schedule, m, clean, few, steps, em.train_batch, em.init_lr, seed, em.ema_decay)
    return _shown(loop, few + steps)


def _shown(loop: Iterator[TrainStep], total: int) -> Iterator[TrainStep]:
    return iter(tqdm(loop, total=total, desc="training", unit="update", leave=False))


def _last(loop: Iterator[TrainStep]) -> Eps:
    for now in loop:
        pass
    return now.ema


def _e_step(s: Setting, sampler: str, rule: str) -> EStep:
    return choose_e_step(sampler, rule, s.seed, s.preset, s.schedule, s.task.measurements)


def _after(s: Setting, loop: Iterator[Progress | Iteration], e_step: EStep, sampler: str) -> Outcome:
    """The held-out pictures as the E-step after the last iteration would draw them."""
    for step in watch(loop):
        pass
    rebuilt = _rebuilt(s, step.prior, {sampler: e_step}, step.iteration + 1)
    return Outcome(rebuilt, step.prior, trained_on=step.reconstructions[: s.preset.samples])


def posterior(s: Setting, prior: Eps, *samplers: str) -> dict[str, Tensor]:
    """The held-out pictures drawn with a prior by each sampler, by the sampler's name."""
    return _rebuilt(s, prior, {sampler: _e_step(s, sampler, "auto") for sampler in samplers}, 0)


def _rebuilt(s: Setting, prior: Eps, e_steps: dict[str, EStep], k: int) -> dict[str, Tensor]:
    """The held-out pictures by each sampler, drawn with the same random streams."""
    m, batch = s.task.held_out, s.preset.em.e_batch
    return {
        name.upper(): torch.cat(list(reconstruct(e_step(prior, k), prior, s.schedule, m, s.seed, "held-out", batch)))
        for name, e_step in e_steps.items()
    }

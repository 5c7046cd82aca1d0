r"""Who takes part in a table: each method, from the same measurements to reconstructions and perhaps a prior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch

from emlib.baselines import ambient, noise2self, run_diem, sure_score
from emlib.baselines.classical import classical
from emlib.diffusion import Eps
from emlib.em.e_step import EStep
from emlib.em.events import Iteration, Progress
from emlib.em.loop import run_em
from emlib.experiments.ablations import VARIATIONS
from emlib.experiments.base import Outcome, Setting, e_step_of, last, posterior, rebuilt, shown, trained_on
from emlib.operators import Measurements
from emlib.posterior import find_sampler
from emlib.runs.progress import watch
from emlib.training import TrainStep
from emlib.unet import UNet, build_unet


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
    prior = sure_score.stopped(loop, s.schedule, m.select(range(seen, len(m)))) if aside else last(loop)
    plain = s.task.held_out.operator.identity
    own = {"D(y)": sure_score.denoise(prior, s.schedule, s.task.held_out)} if plain else {}
    return Outcome({**own, **posterior(s, prior, "dps", "mmps")}, prior)


def by_ambient(s: Setting) -> Outcome:
    """Ambient Diffusion; reconstructed by DPS, as its authors do, and by the one call it was trained for."""
    p, m = s.preset, s.task.held_out
    start = ambient.build_ambient(p.unet, s.seed).to(m.y.device)
    model = cast(UNet, _trained(s, ambient.train_ambient, start, p.prior_updates - p.em.init_updates))
    prior = ambient.ambient_prior(model, s.schedule, s.task.measurements, s.seed)
    return Outcome({"E[x | y]": ambient.restore(model, s.schedule, m), **posterior(s, prior, "dps")}, prior)


def by_noise2self(s: Setting) -> Outcome:
    """Noise2Self, which is no prior."""
    p, m = s.preset, s.task.held_out
    start = build_unet(p.unet, s.seed).to(m.y.device)
    model = _trained(s, noise2self.train_noise2self, start, p.prior_updates - p.em.init_updates)
    return Outcome({"f(y)": noise2self.denoise(model, m)})


def by_em(sampler: str, rule: str = "auto", **other: Any) -> Callable[[Setting], Outcome]:
    """EM from the few clean pictures with an E-step of this name; ``other`` settings replace the preset's."""

    def em(s: Setting) -> Outcome:
        e_step = e_step_of(s, sampler, rule)
        about = {"sampler": sampler, "scale": rule if find_sampler(sampler).guided else "none"}
        settings, m = replace(s.preset.em, seed=s.seed, **other), s.task.measurements
        loop = run_em(m, s.task.clean, s.preset.unet, s.schedule, e_step, settings, s.folder, about)
        return _after(s, loop, e_step, sampler)

    return em


def by_diem(s: Setting) -> Outcome:
    """DiEM, the only one that is given no clean picture."""
    p = s.preset
    settings, m = replace(p.em, seed=s.seed), s.task.measurements
    sampler = find_sampler(s.sampler("mmps")).sampler
    loop = run_diem(m, p.unet, s.schedule, settings, p.e_steps, p.cg_steps, s.folder, sampler=sampler)
    return _after(s, loop, e_step_of(s, "mmps", "auto"), "mmps")


def ceiling(s: Setting) -> Outcome:
    """A prior trained on the clean pictures themselves, all of them: the bound that the others are held against."""
    prior = trained_on(s, s.task.real, s.preset.prior_updates)
    return Outcome(posterior(s, prior, "dps", "mmps"), prior)


PAPERS_M_STEP: dict[str, Any] = {"optimizer": "adamw", "init_lr": 1e-3, "m_lr": 1e-3, "clean_copies": 0}
"""What the tables' own M-step departs from."""

METHODS: dict[str, Callable[[Setting], Outcome]] = {
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
    "recipe-paper": by_em("dps", "residual", **PAPERS_M_STEP),
    "recipe-mmps": by_em("mmps-plain", **PAPERS_M_STEP),
    "recipe-solver": by_em("mmps", **PAPERS_M_STEP),
    "recipe-muon": by_em("mmps", optimizer="muon", clean_copies=0),
    **VARIATIONS,
}
"""All that an experiment may name: a new method is a function and a line here."""

NAMES = {
    "observed": "broken pictures",
    "classical": "one picture alone",
    "noise2self": "Noise2Self",
    "sure-score": "SURE-Score",
    "ambient": "Ambient Diffusion",
    "diem": "DiEM",
    "em-dps-paper": "EM, DPS, paper's rule",
    "em-dps-auto": "EM, DPS, our rule",
    "em-mmps": "EM, MMPS",
    "ceiling": "clean prior",
}
"""The methods of table 1 by the names that a reader sees, in the order of our tables; others keep theirs."""


def _trained(s: Setting, method: Callable[..., Iterator[TrainStep]], model: torch.nn.Module, steps: int) -> Eps:
    """Averaged weights after the method's updates on the clean and on the broken pictures."""
    return last(_training(s, method, model, steps, s.task.measurements))


def _training(
    s: Setting, method: Callable[..., Iterator[TrainStep]], model: torch.nn.Module, steps: int, m: Measurements
) -> Iterator[TrainStep]:
    em = s.preset.em
    seed = 1000 * s.seed + 900  # apart from those of EM, which are 1000 seed + k
    few, clean = em.init_updates, s.task.clean
    how = (em.train_batch, em.init_lr, seed, em.ema_decay)
    loop = method(model, s.schedule, m, clean, few, steps, *how, optimizer=em.optimizer)
    return shown(loop, few + steps)


def _after(s: Setting, loop: Iterator[Progress | Iteration], e_step: EStep, sampler: str) -> Outcome:
    """The held-out pictures as the E-step after the last iteration would draw them."""
    for step in watch(loop):
        pass
    pictures = rebuilt(s, step.prior, {sampler: e_step}, step.iteration + 1)
    return Outcome(pictures, step.prior, trained_on=step.reconstructions[: s.preset.samples])

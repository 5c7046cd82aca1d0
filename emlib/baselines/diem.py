r"""DiEM: EM with no clean picture at all, from a Gaussian fitted to the measurements (Rozet et al. 2024)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emlib.diffusion import SampleStep
from emlib.em.events import Iteration, Progress
from emlib.em.initial import fit_gaussian
from emlib.em.loop import run_em
from emlib.em.settings import EMSettings
from emlib.operators import Measurements
from emlib.posterior import mmps
from emlib.schedule import Schedule
from emlib.unet import UNetConfig


def run_diem(
    measurements: Measurements,
    unet: UNetConfig,
    schedule: Schedule,
    settings: EMSettings,
    e_steps: int,
    cg_steps: int,
    folder: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    sampler: Callable[..., Iterator[SampleStep]] = mmps,
) -> Iterator[Progress | Iteration]:
    """EM whose first prior is a Gaussian fit and whose E-step is MMPS; the M-step inherits weights, as the authors' do.

    Args:
        measurements: of N pictures, N in the hundreds at least.
        unet, schedule, settings, folder, about: as for :func:`emlib.em.loop.run_em`.
        e_steps: network calls of a posterior sample.
        cg_steps: conjugate-gradient steps in each.
        sampler: MMPS, or MMPS with another solver.
    """
    filled_in = functools.partial(sampler, steps=e_steps, cg_steps=cg_steps)
    start = fit_gaussian(measurements, schedule, seed=settings.seed)
    yield from run_em(measurements, start, unet, schedule, lambda prior, k: filled_in, settings, folder, about)

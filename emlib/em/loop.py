r"""The EM loop: from a few clean pictures and many broken ones to a prior of clean pictures.

The E-step draws x ~ p(x | y) for every measurement with the prior at hand, the M-step trains the prior
on what was drawn (EMDiffusion, algorithm 1). The loop is a generator: it yields :class:`Progress` while
it works and an :class:`Iteration` when one is done. It never sees the truth; scoring is the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from emlib.diffusion import Eps, check_images
from emlib.em.checkpoint import RunFolder
from emlib.em.e_step import EStep, draw_all
from emlib.em.events import ENOUGH, Iteration, Progress
from emlib.em.identity import fingerprint
from emlib.em.settings import EMSettings, iterations, rows_of
from emlib.operators import Measurements
from emlib.runtime import distributed
from emlib.schedule import Schedule
from emlib.training import check_snapshot, train
from emlib.unet import UNet, UNetConfig, build_unet


def run_em(
    measurements: Measurements,
    start: Tensor | Eps,
    unet: UNetConfig,
    schedule: Schedule,
    e_step: EStep,
    settings: EMSettings,
    folder: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Generator[Progress | Iteration, str | None, None]:
    r"""Runs EM (EMDiffusion, algorithm 1), on one process or on all that ``torchrun`` started.

    Args:
        measurements: of N pictures; the only thing known of them.
        start: what to begin with: pictures [M, C, H, W] on [-1, 1] to train the first prior on (a few clean ones, or
            others, see :mod:`emlib.em.initial`), or the first prior itself, such as :func:`emlib.fit_gaussian`'s.
        unet: sizes of the network.
        schedule: the noise levels.
        e_step: gives the posterior sampler of an iteration.
        settings: sizes of the loop.
        folder: where to keep each stage, so that the same call resumes; None keeps nothing on disk.
        about: settings of the caller that a folder must match too, such as the sampler's name.

    Yields:
        Progress during the work, an Iteration after each EM iteration. Training ends early where ``ENOUGH`` is sent
        (:data:`emlib.em.events.ENOUGH`, one process alone).

    Raises:
        ValueError: at once, if pictures and measurements do not fit, or the folder holds a run of other settings or is
            in use by another one.
    """
    if isinstance(start, Tensor):
        _check_start(start, measurements, settings)
    if measurements.y.dtype == torch.float64:
        raise ValueError("measurements are float64 and the network float32; make Measurements of y.float()")
    keep = RunFolder(None if folder is None else Path(folder))
    said = _all_settings(measurements, start, unet, schedule, settings, about or {})
    keep.hold()
    keep.claim(said, free_to_change(settings))
    return _loop(measurements, start, unet, schedule, e_step, settings, keep)


def _loop(
    measurements: Measurements,
    start: Tensor | Eps,
    unet: UNetConfig,
    schedule: Schedule,
    e_step: EStep,
    settings: EMSettings,
    keep: RunFolder,
) -> Generator[Progress | Iteration, str | None, None]:
    """The first prior, then E-step and M-step in turn."""
    device = measurements.y.device
    begin = time.perf_counter()
    model: UNet | None = None
    prior: Eps
    if isinstance(start, Tensor):
        model = build_unet(unet, settings.seed).to(device)
        updates, lr = settings.init_updates, settings.init_lr
        prior, ended = yield from _fit(keep, model, schedule, start, settings, 0, updates, lr)
    else:
        prior, ended = start, None
    nothing = torch.empty(0, *measurements.image_shape)
    yield Iteration(0, nothing, (), prior, 0, None, time.perf_counter() - begin, ended)
    for k, phase, scales in iterations(settings):
        begin = time.perf_counter()
        rows = rows_of(len(measurements), settings, phase)
        part = measurements if len(rows) == len(measurements) else measurements.select(rows)  # spares a copy of all
        x, scale = yield from draw_all(keep, prior, schedule, part, e_step, settings, k)
        updates, lr = settings.updates_of(k), settings.m_lr
        if phase == 2 or model is None:  # fresh weights: after a reset, or after a first prior that is no network
            model = build_unet(unet, settings.seed * 1000 + k).to(device)
            updates = settings.phases.reset_updates if phase == 2 else settings.init_updates + updates
            lr = settings.init_lr
        else:
            model.load_state_dict(cast(UNet, prior).state_dict())  # go on from the averaged weights
        if isinstance(start, Tensor) and settings.clean_copies:
            x_and_clean = torch.cat([x, start.to(x).repeat(settings.clean_copies, 1, 1, 1)])
        else:
            x_and_clean = x
        prior, ended = yield from _fit(keep, model, schedule, x_and_clean, settings, k, updates, lr)
        scales.append(scale)
        if hasattr(e_step, "last"):  # the next search starts from there, also when this E-step was read and not drawn
            e_step.last = scale
        yield Iteration(k, x, tuple(rows), prior, phase, scale, time.perf_counter() - begin, ended)


def free_to_change(settings: EMSettings) -> tuple[str, ...]:
    """Settings that a run may be resumed with other values of."""
    # More iterations are more of the same run, unless they put off what has begun: phase 2, or a longer last M-step.
    more = not settings.phases.reset_iterations and not settings.last_updates
    return ("e_batch", "snapshot") + (("iterations",) if more else ())


def _check_start(start: Tensor, measurements: Measurements, settings: EMSettings) -> None:
    check_images(start)
    channels, *size = measurements.image_shape
    if settings.clean_copies and size != list(start.shape[2:]):
        raise ValueError(
            f"clean pictures of {start.shape[2]} x {start.shape[3]} pixels cannot stay among those of an M-step "
            f"(clean_copies={settings.clean_copies}), of {size[0]} x {size[1]}; make them as large"
        )
    if channels != start.shape[1]:
        raise ValueError(
            f"measurements have {channels} channels and the clean pictures {start.shape[1]}; "
            "both must show the same kind of picture"
        )


def _all_settings(
    measurements: Measurements,
    start: Tensor | Eps,
    unet: UNetConfig,
    schedule: Schedule,
    settings: EMSettings,
    about: Mapping[str, Any],
) -> dict[str, object]:
    """Everything that the run's numbers depend on; a first prior enters by its answer to a fixed question."""
    if not isinstance(start, Tensor):
        shape = measurements.image_shape
        ask = torch.linspace(-1, 1, prod(shape), device=measurements.y.device).view(1, *shape)
        start = start(ask, torch.tensor([schedule.T // 2], device=ask.device))
    return {
        "unet": asdict(unet),
        **asdict(settings),
        **about,
        "operator": measurements.operator.name,
        "noise_std": measurements.noise_std,
        "pictures": len(measurements),
        "inputs": fingerprint(measurements, start, schedule.beta),
    }


def _fit(
    keep: RunFolder,
    model: UNet,
    schedule: Schedule,
    images: Tensor,
    settings: EMSettings,
    k: int,
    updates: int,
    lr: float,
) -> Generator[Progress, str | None, tuple[UNet, int | None]]:
    """theta = argmax E[log p_theta(x)], by the diffusion loss; k = 0 is the first prior.

    Returns the network, and its updates if ENOUGH was sent before they were all done.
    """
    if (done := keep.prior(k)) is not None:
        return done.to(next(model.parameters()).device), keep.ended(k)
    stage, seed = "M-step" if k else "first prior", settings.seed * 1000 + k  # other times and noises in each M-step
    loop = train(
        model,
        schedule,
        images,
        updates,
        settings.train_batch,
        lr,
        seed,
        settings.ema_decay,
        settings.flip,
        start=keep.snapshot(k, lambda found: check_snapshot(found, model, updates, settings.optimizer)),
        speed=settings.speed,
        optimizer=settings.optimizer,
    )
    for now in loop:
        if (now.step + 1) % settings.snapshot == 0 and now.step + 1 < updates:
            keep.save_snapshot(k, now.snapshot())
        try:
            said = yield Progress(k, stage, now.step + 1, updates, now.value, settings.train_batch)
        except GeneratorExit:  # whoever looped over it has stopped
            if now.step + 1 < updates and now.finite and keep.mine:
                keep.save_snapshot(k, now.snapshot())
            raise
        if said == ENOUGH:
            now.check()
            break
    averaged, ended = cast(UNet, now.ema), None if now.step + 1 == updates else now.step + 1
    keep.save_prior(k, averaged, ended)
    distributed.wait_for_all()
    return averaged, ended

r"""The EM loop: from a few clean pictures and many broken ones to a prior of clean pictures.

The E-step draws x ~ p(x | y) for every measurement with the prior at hand, the M-step trains the prior
on what was drawn (EMDiffusion, algorithm 1). The loop is a generator: it yields :class:`Progress` while
it works and an :class:`Iteration` when one is done. It never sees the truth; scoring is the caller's.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from emlib.diffusion import check_images, train
from emlib.files import whole, write_json
from emlib.operators import Measurements
from emlib.posterior import Sampler, reconstruct
from emlib.schedule import Schedule
from emlib.unet import UNet, UNetConfig, build_unet, load_unet, save_unet

EStep = Callable[[UNet, int], Sampler]
"""(prior, number of the EM iteration) -> the sampler to use; this is where a guidance scale is chosen."""


@dataclass(frozen=True)
class EMSettings:
    """Sizes of the EM loop.

    Attributes:
        iterations: how often E-step and M-step alternate.
        init_updates: training updates of the first prior, on the clean pictures.
        m_updates: training updates of one M-step.
        train_batch: pictures in an update.
        init_lr: highest learning rate of the first prior.
        m_lr: highest learning rate of an M-step.
        ema_decay: decay of the averaged weights.
        e_batch: pictures sampled at a time.
        seed: seed of everything random.
    """

    iterations: int
    init_updates: int
    m_updates: int
    train_batch: int
    init_lr: float
    m_lr: float
    ema_decay: float
    e_batch: int
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a stage has come."""

    iteration: int
    stage: str
    """"first prior", "E-step" or "M-step"."""
    done: int
    total: int
    loss: float = float("nan")
    """Training loss of the update; nan in an E-step."""


@dataclass(frozen=True)
class Iteration:
    """What one EM iteration made; iteration 0 is the first prior, with no reconstructions."""

    iteration: int
    reconstructions: Tensor
    """[N, C, H, W] on [-1, 1], drawn with the previous prior."""
    prior: UNet
    """The network after this M-step, averaged weights."""
    seconds: float
    """Time the iteration took; what was read from disk took none."""


def run_em(
    measurements: Measurements,
    clean: Tensor,
    unet: UNetConfig,
    schedule: Schedule,
    e_step: EStep,
    settings: EMSettings,
    folder: str | Path | None = None,
    about: dict[str, str | float] | None = None,
) -> Iterator[Progress | Iteration]:
    r"""Runs EM (EMDiffusion, algorithm 1, phase 1: the weights are inherited).

    Args:
        measurements: of N pictures; the only thing known of them.
        clean: [M, C, H, W] on [-1, 1], the few clean pictures of the first prior.
        unet: sizes of the network.
        schedule: the noise levels.
        e_step: gives the posterior sampler of an iteration.
        settings: sizes of the loop.
        folder: where to keep each stage, so that the same call resumes; None keeps nothing.
        about: settings of the caller that a folder must match too, such as the sampler's name.

    Yields:
        Progress during the work, an Iteration after each EM iteration.

    Raises:
        ValueError: if pictures and measurements do not fit, or the folder holds a run of other settings.
    """
    check_images(clean)
    if measurements.y.shape[1] != clean.shape[1]:
        raise ValueError(
            f"measurements have {measurements.y.shape[1]} channels and the clean pictures {clean.shape[1]}; "
            "both must show the same kind of picture"
        )
    keep = _Folder(
        folder, {"unet": asdict(unet), **asdict(settings), **(about or {})}, measurements, clean, schedule.beta
    )
    start = time.perf_counter()
    model = build_unet(unet, settings.seed).to(measurements.y.device)
    prior = yield from _fit(keep, model, schedule, clean, settings, 0)
    yield Iteration(0, clean[:0], prior, time.perf_counter() - start)
    for k in range(1, settings.iterations + 1):
        start = time.perf_counter()
        x = yield from _e_step(keep, prior, schedule, measurements, e_step, settings, k)
        model.load_state_dict(prior.state_dict())  # phase 1: go on from the averaged weights
        prior = yield from _fit(keep, model, schedule, x, settings, k)
        yield Iteration(k, x, prior, time.perf_counter() - start)


def _e_step(
    keep: _Folder,
    prior: UNet,
    schedule: Schedule,
    measurements: Measurements,
    e_step: EStep,
    settings: EMSettings,
    k: int,
) -> Generator[Progress, None, Tensor]:
    """x_i ~ p_theta(x | y_i) for every measurement."""
    if (done := keep.reconstructions(k)) is not None:
        return done.to(measurements.y.device)
    total, parts = len(measurements), []
    yield Progress(k, "E-step", 0, total)
    sampler = e_step(prior, k)
    for part in reconstruct(sampler, prior, schedule, measurements, settings.seed, f"e-step {k}", settings.e_batch):
        parts.append(part)
        yield Progress(k, "E-step", sum(map(len, parts)), total)
    x = torch.cat(parts)
    keep.save_reconstructions(k, x)
    return x


def _fit(
    keep: _Folder, model: UNet, schedule: Schedule, images: Tensor, settings: EMSettings, k: int
) -> Generator[Progress, None, UNet]:
    """theta = argmax E[log p_theta(x)], by the diffusion loss; k = 0 is the first prior."""
    if (done := keep.prior(k)) is not None:
        return done.to(next(model.parameters()).device)
    stage, updates, lr = "M-step", settings.m_updates, settings.m_lr
    if k == 0:
        stage, updates, lr = "first prior", settings.init_updates, settings.init_lr
    seed = settings.seed * 1000 + k  # other times and noises in each M-step
    for now in train(model, schedule, images, updates, settings.train_batch, lr, seed, settings.ema_decay):
        yield Progress(k, stage, now.step + 1, updates, now.loss)
    keep.save_prior(k, now.ema)
    return now.ema


def watch(loop: Iterator[Progress | Iteration]) -> Iterator[Iteration]:
    """Shows a progress bar for each stage of EM and passes on what is finished."""
    bar = None
    for event in loop:
        if isinstance(event, Iteration):
            yield event
            continue
        name = f"EM {event.iteration} {event.stage}"
        if bar is None or bar.desc != name:
            bar = tqdm(total=event.total, desc=name, leave=False)
        bar.update(event.done - bar.n)
        if event.done == event.total:
            bar.close()


class _Folder:
    """The stages of a run on disk; refuses to mix runs of different settings."""

    def __init__(self, folder: str | Path | None, settings: dict, measurements: Measurements, *tensors: Tensor) -> None:
        self.path = None if folder is None else Path(folder)
        if self.path is None:
            return
        # A fingerprint tells other data or other masks apart, which the settings alone would not.
        digest = hashlib.sha256(repr(measurements.index).encode())
        for x in (measurements.y, *measurements.operator.tensors().values(), *tensors):
            digest.update(x.cpu().contiguous().numpy().tobytes())
        settings = {
            **settings,
            "operator": measurements.operator.name,
            "noise_std": measurements.noise_std,
            "pictures": len(measurements),
            "inputs": digest.hexdigest()[:16],
        }
        settings = json.loads(json.dumps(settings))
        file = self.path / "settings.json"
        if file.is_file():
            found = json.loads(file.read_text())
            # "iterations" may grow: more of the same run.
            keys = [k for k in {**found, **settings} if found.get(k) != settings.get(k) and k != "iterations"]
            if keys:
                there, here = ({k: s.get(k) for k in keys} for s in (found, settings))
                raise ValueError(
                    f"{self.path} holds a run with {there}, but this one has {here}; name another folder or delete it"
                )
        write_json(file, settings)

    def prior(self, k: int) -> UNet | None:
        file = self.path and self.path / f"prior_{k:02d}.safetensors"
        return load_unet(file).to(memory_format=torch.channels_last) if file and file.is_file() else None

    def save_prior(self, k: int, model: UNet) -> None:
        if self.path:
            save_unet(model, self.path / f"prior_{k:02d}.safetensors")

    def reconstructions(self, k: int) -> Tensor | None:
        file = self.path and self.path / f"reconstructions_{k:02d}.safetensors"
        return load_file(file)["x"] if file and file.is_file() else None

    def save_reconstructions(self, k: int, x: Tensor) -> None:
        if self.path:
            with whole(self.path / f"reconstructions_{k:02d}.safetensors") as part:
                save_file({"x": x.contiguous()}, part)

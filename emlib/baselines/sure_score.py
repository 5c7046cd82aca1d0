r"""SURE-Score: one network learns to denoise and, from what it denoised, a prior (Aali et al. 2023)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from emlib.diffusion import Eps, diffusion_loss, predict_x0
from emlib.operators import Measurements
from emlib.schedule import Schedule
from emlib.training import TrainStep, train

ASSUMED_STD = 0.01
"""Noise that is assumed where there is none, on the [-1, 1] scale, as for masks and blur in EMDiffusion's table 1."""
STEP = 1e-3
"""Length h of the finite difference, as in the authors' code."""


def noise_time(schedule: Schedule, std: float) -> int:
    """The time t whose sigma_t / alpha_t is nearest to a noise of ``std`` on the [-1, 1] scale, as a ratio."""
    ratio = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
    return int((ratio / std).log().abs().argmin())


def denoiser(model: Eps, schedule: Schedule, std: float) -> Callable[[Tensor], Tensor]:
    r"""D(y), the clean picture in y = x + n, n ~ N(0, std^2 I); maps [B, C, H, W] to [B, C, H, W]."""
    t = noise_time(schedule, std)

    def D(y: Tensor) -> Tensor:
        # D(y) = y + s^2 score(y, s) = (alpha_t y - sigma_t eps) / alpha_t,   score = -eps / s,  s = sigma_t / alpha_t
        x_t = schedule.alpha(t) * y
        return predict_x0(model(x_t, torch.full((len(y),), t, device=y.device)), schedule, x_t, t)

    return D


def sure_loss(D: Callable[[Tensor], Tensor], Dy: Tensor, y: Tensor, std: float, probe: Tensor) -> Tensor:
    r"""Stein's unbiased estimate of E || D(y) - x ||^2 a number, from y alone (Stein 1981; Ramani et al. 2008).

    Args:
        D: the denoiser.
        Dy: D(y), [B, C, H, W], which the caller has use for, too.
        y: noisy pictures, [B, C, H, W].
        std: standard deviation of their Gaussian noise, on the scale of y.
        probe: standard normal, [B, C, H, W]; one is enough in each update.
    """
    # div D(y) = <b, D(y + h b) - D(y)> / h
    div = (probe * (D(y + STEP * probe) - Dy)).mean() / STEP
    # || D(y) - y ||^2 - s^2 + 2 s^2 div D(y), each over the count of numbers
    return (Dy - y).square().mean() - std**2 + 2 * std**2 * div


def train_sure_score(
    model: nn.Module,
    schedule: Schedule,
    measurements: Measurements,
    clean: Tensor,
    clean_steps: int,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    ema_decay: float = 0.999,
    weight: float = 0.1,
    optimizer: str = "adamw",
) -> Iterator[TrainStep]:
    r"""Trains the network to denoise y by SURE, and to be a prior of D(y) by denoising score matching.

    The loss is SURE + lambda(step) DSM(D(y)), whose gradient also goes through D. As in the authors' code lambda rises
    in proportion to the epoch, from 0; its size is in no file of theirs. Their DSM weighs the levels by sigma^2, which
    makes it half the diffusion loss, summed over numbers; ours is the mean over numbers like the SURE part. Their
    finite difference also moves the noise level, a slip; ours does not.

    The theory holds for Gaussian noise alone. Masked or blurred pictures are taken for pictures with a noise of
    :data:`ASSUMED_STD`, as the method was run in EMDiffusion's table 1: it then learns a prior of broken pictures.

    Args:
        model: eps_theta; changed in place.
        schedule: the noise levels.
        measurements: what is known of N pictures; only y and the noise's standard deviation are used.
        clean: [M, C, H, W] on [-1, 1], the few clean pictures that the network is first trained on.
        clean_steps: updates on the clean pictures, 0 or more.
        steps: updates on the measurements; each asks the network three times.
        batch, lr, seed, ema_decay, optimizer: as for :func:`emlib.training.train`.
        weight: lambda at the end.

    Raises:
        ValueError: if measurements have another shape than pictures.
    """
    if measurements.image_shape != tuple(measurements.y.shape[1:]):
        raise ValueError(
            "SURE-Score takes a measurement for a noisy picture, but the operator "
            f"{measurements.operator.name!r} changes the shape {measurements.image_shape} to "
            f"{tuple(measurements.y.shape[1:])}"
        )
    if clean_steps:
        yield from train(model, schedule, clean, clean_steps, batch, lr, seed, ema_decay, optimizer=optimizer)
    std, done = measurements.noise_std or ASSUMED_STD, 0.0

    def loss(net: Eps, schedule: Schedule, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        D = denoiser(net, schedule, std)
        Dy = D(y)
        # SURE + lambda || eps - eps_theta(alpha_t D(y) + sigma_t eps, t) ||^2
        dsm = diffusion_loss(net, schedule, Dy, t, eps)
        return sure_loss(D, Dy, y, std, torch.randn_like(y)) + weight * done * dsm

    for now in train(
        model, schedule, measurements.y, steps, batch, lr, seed + 1, ema_decay, loss=loss, optimizer=optimizer
    ):
        done = (now.step + 1) / steps
        yield now


def stopped(loop: Iterable[TrainStep], schedule: Schedule, aside: Measurements, every: int = 50) -> Eps:
    """Averaged weights at the moment when SURE on pictures that are not trained on was least.

    Stein's formula is right only for a D that does not depend on the noise in y. On pictures it is trained on, the
    estimate falls below the truth, at last below zero, while D learns their noise (data/results/sure-overfit.json).

    Args:
        loop: a training, as :func:`train_sure_score` is.
        schedule: the noise levels.
        aside: noisy pictures that the training does not have.
        every: updates between two looks, at least 1.

    Raises:
        ValueError: if there is nothing to train, or ``every`` is below 1.
    """
    if every < 1:
        raise ValueError(f"SURE is looked at every so many updates, at least 1, got every={every}")
    least, best, std = math.inf, None, aside.noise_std or ASSUMED_STD
    # the same probe each time, so that two moments differ by their networks alone
    probe = torch.randn(aside.y.shape, generator=torch.Generator().manual_seed(0)).to(aside.y.device)
    for now in loop:
        if best is None or (now.step + 1) % every == 0:
            D = denoiser(now.ema, schedule, std)
            found = estimate(D, aside.y, std, probe)
            if best is None or found < least:
                least, best = found, copy.deepcopy(now.ema)
    if best is None:
        raise ValueError("there was no update to stop after")
    return best


@torch.no_grad()
def estimate(D: Callable[[Tensor], Tensor], y: Tensor, std: float, probe: Tensor, batch: int = 250) -> float:
    """:func:`sure_loss` of D on all pictures y [N, C, H, W] with a probe of their shape, so many at a time."""
    pairs = zip(y.split(batch), probe.split(batch), strict=True)
    return sum(len(some) * sure_loss(D, D(some), some, std, z).item() for some, z in pairs) / len(y)


@torch.no_grad()
def denoise(model: Eps, schedule: Schedule, measurements: Measurements, batch: int = 250) -> Tensor:
    """D(y) of every picture, [N, C, H, W] on [-1, 1]."""
    D = denoiser(model, schedule, measurements.noise_std or ASSUMED_STD)
    return torch.cat([D(y) for y in measurements.y.split(batch)]).clamp(-1, 1)

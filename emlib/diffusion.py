r"""Diffusion without measurements: Tweedie's denoiser, the training loss and the sampler.

The sampler is a generator: it does the work, the caller watches, draws or stops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from emlib.runtime.rng import randn, streams
from emlib.schedule import Schedule, add_noise, time_grid

Eps = Callable[[Tensor, Tensor], Tensor]
"""eps_theta(x_t, t): [B, C, H, W] and times [B] -> [B, C, H, W]."""


def predict_x0(eps: Tensor, schedule: Schedule, x_t: Tensor, t: Tensor | int) -> Tensor:
    r"""Tweedie's formula: the mean of all clean pictures that x_t may have come from.

    Args:
        eps: the network's estimate of the noise in x_t, [B, C, H, W].
        schedule: the noise levels.
        x_t: noisy pictures, [B, C, H, W].
        t: time, a whole number or [B].

    Returns:
        x0_hat = E[x_0 | x_t], [B, C, H, W], on [-1, 1] up to the network's error.
    """
    # x0_hat = (x_t - sigma_t eps) / alpha_t
    return (x_t - schedule.sigma(t) * eps) / schedule.alpha(t)


def diffusion_loss(model: Eps, schedule: Schedule, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    r"""DDPM's simple loss, a number (Ho et al. 2020, eq. 14)."""
    # || eps - eps_theta(alpha_t x_0 + sigma_t eps, t) ||^2
    return (eps - model(add_noise(schedule, x0, t, eps), t)).square().mean()


def reverse_step(schedule: Schedule, x_t: Tensor, x0_hat: Tensor, t: int, s: int, eta: float, noise: Tensor) -> Tensor:
    r"""From time t to an earlier time s, given where the picture seems to be going (Song et al. 2021, eq. 12).

    Args:
        schedule: the noise levels.
        x_t: noisy pictures at time t, [B, C, H, W].
        x0_hat: their clean estimates, [B, C, H, W].
        t, s: times, s < t; s = -1 is clean.
        eta: 0 takes DDIM's deterministic path, 1 is ancestral sampling as in DDPM.
        noise: standard normal, [B, C, H, W].

    Returns:
        x_s, [B, C, H, W].
    """
    a_t, a_s, s_t, s_s = schedule.alpha(t), schedule.alpha(s), schedule.sigma(t), schedule.sigma(s)
    # eps = (x_t - alpha_t x0_hat) / sigma_t
    eps = (x_t - a_t * x0_hat) / s_t
    # fresh = eta sigma_s / sigma_t sqrt(1 - alpha_t^2 / alpha_s^2)
    fresh = eta * s_s / s_t * (1 - (a_t / a_s).square()).sqrt()
    # x_s = alpha_s x0_hat + sqrt(sigma_s^2 - fresh^2) eps + fresh z
    return a_s * x0_hat + (s_s.square() - fresh.square()).clamp_min(0).sqrt() * eps + fresh * noise


@dataclass(frozen=True)
class SampleStep:
    """One stop on the way from noise to a picture."""

    t: int
    x_t: Tensor
    """[B, C, H, W], noisy at time t; the picture itself when t = -1."""
    x0_hat: Tensor
    """[B, C, H, W], the estimate that led here."""


@torch.no_grad()
def sample(
    model: Eps,
    schedule: Schedule,
    shape: tuple[int, int, int],
    generators: list[Generator],
    steps: int,
    eta: float = 0.0,
    device: torch.device | str = "cpu",
) -> Iterator[SampleStep]:
    r"""Draws pictures from the prior; DDIM for eta = 0, ancestral DDPM for eta = 1 and ``steps`` = T.

    Args:
        model: eps_theta.
        schedule: the noise levels.
        shape: (C, H, W) of a picture.
        generators: one random stream for each picture.
        steps: network calls, 1 to T.
        eta: share of fresh noise, 0 to 1.
        device: where the network is.

    Raises:
        ValueError: if ``steps`` or ``eta`` is out of range.
    """
    check_eta(eta)
    grid = time_grid(schedule, steps)
    x = randn(generators, shape, device)
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        times = torch.full((len(x),), t, device=x.device)
        x0_hat = predict_x0(model(x, times), schedule, x, t).clamp(-1, 1)
        noise = randn(generators, shape, device) if eta > 0 and s >= 0 else torch.zeros_like(x)
        x = reverse_step(schedule, x, x0_hat, t, s, eta, noise)
        yield SampleStep(s, x, x0_hat)


def check_eta(eta: float) -> None:
    """Refuses a share of fresh noise outside [0, 1]."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta mixes DDIM (0) and ancestral sampling (1), got eta={eta}")


def check_images(images: Tensor) -> None:
    """Refuses what is no stack of pictures on [-1, 1]."""
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise ValueError(f"pictures must be floats [N, C, H, W] with N > 0, got {images.dtype} {tuple(images.shape)}")
    low, high = images.min().item(), images.max().item()
    if low != low or high == float("inf") or low == -float("inf"):  # the least of NaN and others is NaN
        first = int((~images.isfinite()).flatten(1).any(dim=1).nonzero()[0])
        raise ValueError(
            f"pictures must lie on [-1, 1], but number {first} holds NaN or infinite numbers; leave it out, or mend it"
        )
    if not -1.001 <= low <= high <= 1.001:
        raise ValueError(
            f"pictures must lie on [-1, 1], got [{low:.3g}, {high:.3g}]; "
            "from [0, 1] use x * 2 - 1, from bytes x / 127.5 - 1"
        )


def draw(
    model: Eps,
    schedule: Schedule,
    shape: tuple[int, int, int],
    count: int,
    steps: int,
    seed: int = 0,
    batch: int = 250,
    eta: float = 0.0,
    device: torch.device | str = "cpu",
    first: int = 0,
) -> Iterator[Tensor]:
    """Draws ``count`` pictures from the prior, a batch at a time; the same seed and number, the same picture.

    Args:
        model: eps_theta.
        schedule: the noise levels.
        shape: (C, H, W) of a picture.
        count: how many.
        steps: network calls of each.
        seed: seed of the experiment.
        batch: pictures at a time.
        eta: share of fresh noise: 0 for DDIM, 1 for ancestral sampling.
        device: where the network is.
        first: number of the first picture; those before it are left to others.

    Yields:
        [b, C, H, W] on [-1, 1].

    Raises:
        ValueError: if pictures are no numbers.
    """
    for start in range(first, first + count, batch):
        generators = streams(seed, "sample", range(start, min(start + batch, first + count)))
        last = deque(sample(model, schedule, shape, generators, steps, eta, device), maxlen=1).pop()
        if not bool(last.x_t.isfinite().all()):
            raise ValueError(f"samples from {start} on are NaN; the prior or its precision is bad")
        yield last.x_t.clamp(-1, 1)

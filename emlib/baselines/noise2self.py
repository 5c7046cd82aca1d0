r"""Noise2Self: learn to denoise by telling each pixel from the others alone (Batson & Royer 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emlib.diffusion import Eps
from emlib.operators import Measurements
from emlib.schedule import Schedule
from emlib.training import TrainStep, train

WIDTH = 4
"""Every WIDTH-th pixel of every WIDTH-th row is hidden at once, as in the authors' code: J is one of WIDTH^2 grids."""


def grid_of(i: int, y: Tensor) -> Tensor:
    """J number i, 0 to WIDTH^2 - 1: 1 on its pixels, [1, 1, H, W]."""
    J = torch.zeros(1, 1, *y.shape[-2:], device=y.device)
    J[..., i // WIDTH :: WIDTH, i % WIDTH :: WIDTH] = 1
    return J


def blind(y: Tensor, J: Tensor) -> Tensor:
    """y with the pixels of J replaced by a weighted mean of their eight neighbours, none of which is in J."""
    ring = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]], device=y.device, dtype=y.dtype) / 6
    channels = y.shape[1]
    around = F.conv2d(F.pad(y, [1] * 4, mode="reflect"), ring.expand(channels, 1, 3, 3), groups=channels)
    return torch.where(J.bool(), around, y)


def f(model: Eps, y: Tensor, J: Tensor) -> Tensor:
    """f(y_{J^c}): a denoised picture whose pixels in J do not depend on those of y in J, [B, C, H, W].

    The diffusion's U-Net at a fixed time serves as a plain network that corrects its input.
    """
    x = blind(y, J)
    return x + model(x, torch.zeros(len(y), dtype=torch.long, device=y.device))


def noise2self_loss(model: Eps, y: Tensor, target: Tensor, J: Tensor) -> Tensor:
    r"""Squared error on J, a number (Batson & Royer 2019; on J alone, as in their code).

    For target = y with noise independent from pixel to pixel it is the true error plus the noise's variance.
    """
    # || f(y_{J^c})_J - y_J ||^2
    error = J * (f(model, y, J) - target)
    return error.square().sum() / J.expand_as(y).sum()


def train_noise2self(
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
    optimizer: str = "adamw",
) -> Iterator[TrainStep]:
    r"""Trains a denoiser on noisy pictures, first on a few clean ones with noise of our own. It is no prior.

    Args:
        model: a U-Net; changed in place.
        schedule: the noise levels; not used, but the loop wants them.
        measurements: of N pictures with noise and nothing else.
        clean: [M, C, H, W] on [-1, 1], the few clean pictures.
        clean_steps: updates on the clean pictures, 0 or more.
        steps: updates on the measurements.
        batch, lr, seed, ema_decay, optimizer: as for :func:`emlib.training.train`.

    Raises:
        ValueError: if the operator is not the identity or there is no noise.
    """
    if not measurements.operator.identity or measurements.noise_std == 0:
        raise ValueError(
            "Noise2Self is for pictures with noise and nothing else, "
            f"got operator {measurements.operator.name!r} and noise_std {measurements.noise_std}"
        )

    def loss(net: Eps, schedule: Schedule, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return noise2self_loss(net, y, y, grid_of(int(torch.randint(WIDTH**2, ())), y))

    def clean_loss(net: Eps, schedule: Schedule, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        y = x + measurements.noise_std * eps
        return noise2self_loss(net, y, x, grid_of(int(torch.randint(WIDTH**2, ())), y))

    if clean_steps:
        yield from train(
            model, schedule, clean, clean_steps, batch, lr, seed, ema_decay, loss=clean_loss, optimizer=optimizer
        )
    yield from train(
        model, schedule, measurements.y, steps, batch, lr, seed + 1, ema_decay, loss=loss, optimizer=optimizer
    )


@torch.no_grad()
def denoise(model: Eps, measurements: Measurements, batch: int = 250) -> Tensor:
    """Every pixel from the pass in which it was hidden, WIDTH^2 passes in all, [N, C, H, W] on [-1, 1]."""
    parts = []
    for y in measurements.y.split(batch):
        x = torch.zeros_like(y)
        for J in (grid_of(i, y) for i in range(WIDTH**2)):
            # x = sum_J J * f(y_{J^c})
            x = x + J * f(model, y, J)
        parts.append(x)
    return torch.cat(parts).clamp(-1, 1)

r"""Ambient Diffusion: hide more of a masked picture and learn to tell what was hidden (Daras et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from emlib.diffusion import Eps
from emlib.operators import Measurements, random_mask
from emlib.schedule import Schedule, add_noise
from emlib.training import Loss, TrainStep, train
from emlib.unet import UNet, UNetConfig, build_unet

HIDE = 0.1
"""Share of the seen pixels that is hidden further, delta in the paper; the default of the authors' code."""


def build_ambient(cfg: UNetConfig, seed: int) -> UNet:
    """The network of ``cfg`` with one more channel, for the mask that all colours share."""
    return build_unet(replace(cfg, in_channels=cfg.in_channels + 1), seed)


def masks_of(measurements: Measurements) -> Tensor:
    """The masks that the pictures are seen through, [N, 1, H, W].

    Raises:
        ValueError: if more, or else, is wrong with the pictures than hidden pixels.
    """
    masks = measurements.operator.pixel_mask()
    if masks is None or measurements.noise_std > 0:
        found = f"operator {measurements.operator.name!r} and noise_std {measurements.noise_std}"
        raise ValueError(f"Ambient Diffusion is for masks without noise, got {found}")
    return masks.expand(len(measurements), -1, -1, -1).to(measurements.y)


def h(model: Eps, schedule: Schedule, x_t: Tensor, mask: Tensor, t: Tensor) -> Tensor:
    r"""h_theta(A, A x_t, t), the estimate of E[x_0 | A, A x_t]: the whole picture from its seen noisy pixels.

    Args:
        model: network of :func:`build_ambient`; its last channel's answer is dropped.
        x_t: noisy pictures, [B, C, H, W]; nothing that ``mask`` hides is looked at.
        mask: A, [B, 1, H, W], 1 where a pixel is seen.
        t: times, [B].
    """
    seen = mask * x_t
    # The network adds to alpha_t A x_t, which is near x_0 where there is little noise, and 0 where nothing is seen.
    return schedule.alpha(t) * seen + model(torch.cat([seen, mask], dim=1), t)[:, : x_t.shape[1]]


def ambient_loss(
    model: Eps, schedule: Schedule, x0: Tensor, mask: Tensor, further: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    r"""Error on what A shows, told from what A~ = B A leaves of it, a number (Daras et al. 2023, section 3).

    Its minimiser is E[x_0 | A~ x_t, A~] in *every* pixel: none knows whether it was hidden by A or by B.

    Args:
        x0, eps: masked pictures A x_0 and standard normal noise, [B, C, H, W].
        mask, further: A and B, [B, 1, H, W].
        t: times, [B].
    """
    x_t = add_noise(schedule, x0, t, eps)
    # || A (h_theta(A~, A~ x_t, t) - x_0) ||^2,   A~ = B A
    error = mask * (h(model, schedule, x_t, further * mask, t) - x0)
    return error.square().sum() / mask.expand_as(x0).sum()


def train_ambient(
    model: UNet,
    schedule: Schedule,
    measurements: Measurements,
    clean: Tensor,
    clean_steps: int,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    ema_decay: float = 0.999,
    hide: float = HIDE,
    optimizer: str = "adamw",
) -> Iterator[TrainStep]:
    r"""Trains h_theta on masked pictures, first on a few clean ones under random masks of the same kind.

    The loss has no weights, as in the paper; the authors' code weighs noise levels as EDM does.

    Args:
        model: network of :func:`build_ambient`; changed in place.
        measurements: of N pictures through masks, without noise; all else raises ValueError.
        clean: [M, C, H, W] on [-1, 1], the few clean pictures.
        clean_steps, steps: updates on the clean pictures, 0 or more, and on the measurements.
        schedule, batch, lr, seed, ema_decay, optimizer: as for :func:`emlib.training.train`.
        hide: share of the seen pixels to hide further, in (0, 1).
    """
    masks = masks_of(measurements)
    if not 0 < hide < 1:
        raise ValueError(f"the share of pixels hidden further must lie in (0, 1), got hide={hide}; 0.1 is usual")

    def loss(share: float | Tensor) -> Loss:
        def of(net: Eps, schedule: Schedule, packed: Tensor, t: Tensor, eps: Tensor) -> Tensor:
            x0, mask = packed[:, :-1], packed[:, -1:]
            further = (torch.rand_like(mask) >= share).to(mask)
            return ambient_loss(net, schedule, x0, mask, further, t, eps[:, :-1])

        return of

    if clean_steps:
        # A shows all of a clean picture, so B hides as much as is hidden of the others
        packed, share = torch.cat([clean, torch.ones_like(clean[:, :1])], dim=1), 1 - (1 - hide) * masks.mean()
        yield from train(
            model, schedule, packed, clean_steps, batch, lr, seed, ema_decay, loss=loss(share), optimizer=optimizer
        )
    packed = torch.cat([measurements.y, masks], dim=1)
    yield from train(
        model, schedule, packed, steps, batch, lr, seed + 1, ema_decay, loss=loss(hide), optimizer=optimizer
    )


@dataclass(frozen=True)
class AmbientPrior:
    """The prior that a trained h_theta is with one mask A~, [1, 1, H, W], held fixed ("fixed mask sampling").

    It is the same mask for all pictures, so that a batch changes none.
    """

    model: nn.Module
    schedule: Schedule
    mask: Tensor

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """eps(x_t, t), [B, C, H, W]; differentiable."""
        x0 = h(self.model, self.schedule, x_t, self.mask.expand(len(x_t), -1, -1, -1), t)
        # eps = (x_t - alpha_t h(A~, A~ x_t, t)) / sigma_t
        return (x_t - self.schedule.alpha(t) * x0) / self.schedule.sigma(t)


def ambient_prior(
    model: nn.Module, schedule: Schedule, measurements: Measurements, seed: int, hide: float = HIDE
) -> AmbientPrior:
    """To draw from, or for DPS as in the authors' code; the mask hides as many pixels as in training."""
    seen = masks_of(measurements).mean().item()
    mask = random_mask(1, measurements.y.shape[-1], 1 - (1 - hide) * seen, seed).mask
    return AmbientPrior(model, schedule, mask.to(measurements.y.device))


@torch.no_grad()
def restore(model: Eps, schedule: Schedule, measurements: Measurements, batch: int = 250) -> Tensor:
    """E[x_0 | y] in one call of the network: hidden pixels told from all seen ones, [N, C, H, W] on [-1, 1]."""
    y, t = measurements.y, torch.zeros(1, dtype=torch.long, device=measurements.y.device)
    masks = masks_of(measurements)
    pairs = zip(y.split(batch), masks.split(batch), strict=True)
    guess = torch.cat([h(model, schedule, schedule.alpha(t) * part, mask, t) for part, mask in pairs])
    return torch.where(masks.bool(), y, guess).clamp(-1, 1)  # what is seen is known

r"""How near pictures are to the truth: PSNR and SSIM; and a pattern that neither tells of."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

LEAST = 6
"""Sides, in pixels, that SSIM's window of 11 can be filled up to by mirroring."""


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio of each picture in decibels, [B].

    Args:
        x: pictures, [B, C, H, W] on [-1, 1].
        truth: what they should be, same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    check_pair(x, truth)
    # 10 log10(peak^2 / mean squared error), peak = 2 from -1 to 1
    return 10 * torch.log10(4 / (x - truth).square().mean(dim=(1, 2, 3)).clamp_min(1e-12))


@torch.no_grad()
def ssim(x: Tensor, truth: Tensor) -> Tensor:
    r"""Structural similarity of each picture to its truth, [B] (Wang et al. 2004); 1 is best.

    Windows of 11 x 11 pixels with a Gaussian weight of 1.5 pixels, by torchmetrics; colours are averaged.

    Args:
        x: pictures, [B, C, H, W] on [-1, 1]; what lies outside is clipped. Moved to [0, 1], since SSIM compares
            brightness and depends on where black is.
        truth: what they should be, same shape.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than the :data:`LEAST` pixels that can be mirrored.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_pair(x, truth)
    if min(x.shape[-2:]) < LEAST:
        raise ValueError(
            f"SSIM needs sides of {LEAST} pixels or more, got {x.shape[-2]} x {x.shape[-1]}; PSNR serves smaller ones"
        )
    truth = truth.to(x)
    x, truth = ((part.clamp(-1, 1) + 1) / 2 for part in (x, truth))
    found = structural_similarity_index_measure(x, truth, reduction="none", data_range=1.0)
    return cast(Tensor, found).view(-1)


def alternation(x: Tensor) -> float:
    r"""Power of the patterns that repeat every two pixels, against that of the frequencies beside them.

    Photographs have about 1. To a network that folds two pixels into one such patterns are constants, and a blur that
    leaves next to nothing of them does not correct it.

    Args:
        x: a crowd of pictures, [B, C, N, N] with N even, at least 4.

    Raises:
        ValueError: if the pictures are not square, or N is odd or below 4.
    """
    n = x.shape[-1]
    if x.shape[-2] != n or n % 2 or n < 4:
        raise ValueError(
            f"pictures of {x.shape[-2]} x {n} pixels; square ones with an even side of 4 or more are needed"
        )
    power = torch.fft.fft2(x.float()).abs().square().mean(dim=(0, 1))
    # sum of |X(k)|^2 over k in (0, m), (m, 0), (m, m): m = N/2 against m = N/2 - 1
    fast, beside = (power[0, m] + power[m, 0] + power[m, m] for m in (n // 2, n // 2 - 1))
    return (fast / beside).item()


def check_pair(x: Tensor, truth: Tensor) -> None:
    """Refuses two stacks of pictures that cannot be compared one by one."""
    if x.shape != truth.shape or x.ndim != 4:
        raise ValueError(f"two stacks [B, C, H, W] of one shape needed, got {tuple(x.shape)} and {tuple(truth.shape)}")

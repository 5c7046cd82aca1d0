r"""How good are the pictures: PSNR, SSIM and LPIPS against the truth, Fréchet distance between two crowds.

A Fréchet distance means nothing without its features, its sample size and its floor (two crowds of
real pictures), so its name here carries the features: FD-AlexNet. FID is kept for the Inception network.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emlib.frechet import distance, statistics

ALEXNET_FILE = "alexnet-owt-7be5be79.pth"


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
        ValueError: if the shapes differ.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_pair(x, truth)
    x, truth = ((part.clamp(-1, 1) + 1) / 2 for part in (x, truth))
    return structural_similarity_index_measure(x, truth, reduction="none", data_range=1.0).view(-1)


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


def alexnet_path() -> Path:
    """Where torch keeps AlexNet's weights; ``TORCH_HOME`` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE


def alexnet_missing() -> str:
    """Why LPIPS and FD-AlexNet cannot be had, with the remedy; empty when they can."""
    if alexnet_path().is_file():
        return ""
    return (
        f"AlexNet's weights are not at {alexnet_path()}: run `python -m emlib weights` once with a network, "
        "or set TORCH_HOME to a folder that has them"
    )


def _require_alexnet() -> None:
    # Checked first, so that no measurement tries to download 230 MB halfway through a run.
    if missing := alexnet_missing():
        raise FileNotFoundError(missing)


@cache
def _lpips() -> nn.Module:
    import lpips

    _require_alexnet()
    with warnings.catch_warnings():
        # lpips builds its AlexNet by torchvision arguments that torchvision has renamed; it works all the same.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        return lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)


@cache
def _alexnet() -> nn.Module:
    from torchvision.models import AlexNet_Weights, alexnet

    _require_alexnet()
    return alexnet(weights=AlexNet_Weights.IMAGENET1K_V1).features.eval().requires_grad_(False)


def _colour(x: Tensor, size: int | None) -> Tensor:
    """Grey to three channels, and enlarged to ``size`` pixels where given."""
    x = x.expand(-1, 3, -1, -1)
    if size is None or size == x.shape[-1]:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


@torch.no_grad()
def lpips_distance(x: Tensor, truth: Tensor, size: int | None = 64, batch: int = 250) -> Tensor:
    r"""LPIPS of each picture to its truth, AlexNet version 0.1, [B] (Zhang et al. 2018); 0 is best.

    Args:
        x: pictures, [B, C, H, W] on [-1, 1].
        truth: what they should be, same shape.
        size: pixels to enlarge to first, since AlexNet needs at least 32; None for the pictures' own.
        batch: pictures at a time.

    Raises:
        ValueError: if the shapes differ.
        FileNotFoundError: if AlexNet's weights are missing.
    """
    check_pair(x, truth)
    pairs = zip(x.split(batch), truth.split(batch), strict=True)
    return torch.cat([_lpips()(_colour(a, size), _colour(b, size)).flatten() for a, b in pairs])


@torch.no_grad()
def alexnet_features(x: Tensor, batch: int = 250) -> Tensor:
    r"""256 numbers for each picture, [B, 256]: AlexNet's last convolution averaged over the picture.

    Args:
        x: pictures, [B, C, H, W] on [-1, 1]; enlarged to 64 pixels first.
        batch: pictures at a time.

    Raises:
        FileNotFoundError: if AlexNet's weights are missing.
    """
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    def parts() -> Iterator[Tensor]:
        for part in x.split(batch):
            seen = ((_colour(part, 64) + 1) / 2 - mean) / std
            yield _alexnet()(seen).mean(dim=(2, 3))

    return torch.cat(list(parts()))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""Fréchet distance of two Gaussians fitted to two crowds of features (Heusel et al. 2017, eq. 6).

    Args:
        a, b: features, [N, D] and [M, D], both with more rows than D so that the covariances have full rank.

    Raises:
        ValueError: if the features do not match or the crowds are too small.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], got {tuple(a.shape)} and {tuple(b.shape)}")
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(f"{len(a)} and {len(b)} pictures are too few for {a.shape[1]} features; take more than that")
    return distance(statistics([a]), statistics([b]))


def fd_alexnet(samples: Tensor, real: Tensor) -> float:
    """FD-AlexNet between generated and real pictures, [N, C, H, W] and [M, C, H, W] on [-1, 1]; 0 is best."""
    return frechet_distance(alexnet_features(samples), alexnet_features(real))

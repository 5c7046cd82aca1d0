r"""Hidden pixels: inpainting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator, Parameter, with_tensors
from emlib.operators.linalg import divide
from emlib.runtime.rng import streams


@dataclass(frozen=True)
class PixelMask(Operator):
    r"""A x = m * x: hidden pixels read 0, which is mid-grey (inpainting; EMDiffusion, section 5.3).

    Attributes:
        mask: [N, 1, H, W], 1 where a pixel is seen, 0 where it is hidden; one mask per picture, or one for all.
    """

    mask: Tensor
    name: ClassVar[str] = "mask"
    hides: ClassVar[bool] = True
    rules: ClassVar[tuple[str, ...]] = ("whole",)
    classical: ClassVar[str] = "interpolation"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "fraction": Parameter(0.6, "share of hidden pixels of a mask (default: 0.6)")
    }

    def __post_init__(self) -> None:
        check_mask(self.mask)
        if self.mask.shape[1] != 1:
            raise ValueError(
                f"a mask of pixels is [N, 1, H, W], got {list(self.mask.shape)}; emlib.operators.ChannelMask hides "
                "each channel apart"
            )

    def __call__(self, x: Tensor) -> Tensor:
        check_fit(self.mask, x)
        return x * self.mask.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)  # a diagonal operator is its own adjoint

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        # A A^T = diag(m^2)
        return divide(v, self(self(torch.ones_like(v))), a, b)

    def gain(self) -> float:
        return 1.0

    def select(self, rows: Sequence[int]) -> PixelMask:
        return self if len(self.mask) == 1 else with_tensors(self, {"mask": self.mask[rows]})  # one may serve all

    def seen(self, y: Tensor) -> Tensor:
        return self(torch.ones_like(y))

    def pixel_mask(self) -> Tensor:
        return self.mask

    def prefiltered(self, y: Tensor, noise_std: float) -> Tensor:
        """As they are: a filter would smear the holes."""
        return y

    def rule(self, noise_std: float) -> str:
        """Hidden pixels can be judged by seen ones that are withheld, with noise and without."""
        return "whole"

    @classmethod
    def for_pictures(cls, count: int, size: int, seed: int, first: int = 0, **parameters: float) -> PixelMask:
        fraction = parameters["fraction"]
        if 0 < fraction < 1 and (hidden := round(fraction * size**2)) in (0, size**2):
            many = "every" if hidden else "no"
            raise ValueError(f"a fraction of {fraction} hides {many} pixel of {size} x {size}; 0.6 hides 60 %")
        return random_mask(count, size, fraction, seed, first)

    def tensors(self) -> dict[str, Tensor]:
        return {"mask": self.mask.to(torch.uint8)}


def random_mask(count: int, size: int, fraction: float, seed: int, first: int = 0) -> PixelMask:
    """Hides exactly round(fraction * size^2) pixels of each picture, drawn by the picture's index.

    Args:
        count: number of masks.
        size: height and width.
        fraction: share of hidden pixels, in (0, 1).
        seed: seed of the experiment.
        first: index of the first picture.

    Raises:
        ValueError: if ``fraction`` is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the hidden fraction must lie in (0, 1), got {fraction}; 0.6 hides 60 % of the pixels")
    mask = torch.ones(count, size * size)
    for row, g in zip(mask, streams(seed, "mask", range(first, first + count)), strict=True):
        row[torch.randperm(size * size, generator=g)[: round(fraction * size * size)]] = 0
    return PixelMask(mask.view(count, 1, size, size))


def check_mask(mask: Tensor) -> None:
    """Refuses what is no mask [N, C, H, W] of 0 and 1."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"a mask is a tensor [N, C, H, W], got {type(mask).__name__}; torch.as_tensor makes one")
    if mask.ndim != 4 or mask.numel() == 0:
        raise ValueError(f"a mask is [N, C, H, W], got {list(mask.shape)}; add the dimensions that are missing")
    for part in mask.split(1000):  # a mask may be mapped from a file
        if not bool(((part == 0) | (part == 1)).all()):
            low, high = part.min().item(), part.max().item()
            remedy = "divide it by 255" if (low, high) == (0, 255) else "(mask > t).float() makes one of shares"
            raise ValueError(f"a mask is 1 where a number is seen and 0 elsewhere, got {low:g} to {high:g}; {remedy}")


def check_fit(mask: Tensor, x: Tensor) -> None:
    """Refuses pictures that a mask [N or 1, C or 1, H, W] does not belong to."""
    n, channels, height, width = mask.shape
    if tuple(x.shape[-2:]) != (height, width) or n not in (1, len(x)) or channels not in (1, x.shape[1]):
        raise ValueError(
            f"{n} masks of {channels} x {height} x {width} do not fit pictures {tuple(x.shape)}; "
            "pick the masks of these pictures with select()"
        )

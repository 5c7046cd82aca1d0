r"""Hidden numbers, each channel apart: dead sub-pixels, or a camera's mosaic of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator
from emlib.operators.linalg import divide


@dataclass(frozen=True)
class ChannelMask(Operator):
    r"""A x = m * x with a mask for each channel; what is hidden reads 0.

    :class:`emlib.PixelMask` hides all channels of a pixel together.

    Attributes:
        mask: [N, C, H, W], 1 where a number is seen, 0 where it is hidden; one mask a picture, or one for all.
    """

    mask: Tensor
    name: ClassVar[str] = "channel_mask"
    rules: ClassVar[tuple[str, ...]] = ("whole",)

    def __post_init__(self) -> None:
        check_mask(self.mask)

    def __call__(self, x: Tensor) -> Tensor:
        check_fit(self.mask, x)
        return x * self.mask.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)  # a diagonal operator is its own adjoint

    def gain(self) -> float:
        return 1.0

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        # A A^T = diag(m)
        return divide(v, self.seen(v), a, b)

    def select(self, rows: Sequence[int]) -> ChannelMask:
        return self if len(self.mask) == 1 else ChannelMask(self.mask[rows])  # one mask may serve all

    def seen(self, y: Tensor) -> Tensor:
        return self(torch.ones_like(y))

    def prefiltered(self, y: Tensor, noise_std: float) -> Tensor:
        """As they are: a filter would smear the holes."""
        return y

    def rule(self, noise_std: float) -> str:
        """As for :class:`emlib.PixelMask`: what is hidden can be judged by what is withheld."""
        return "whole"

    def tensors(self) -> dict[str, Tensor]:
        return {"mask": self.mask.to(torch.uint8)}


def bayer_mask(height: int, width: int, pattern: str = "RGGB") -> ChannelMask:
    """One colour a pixel, as behind a camera's Bayer filter, for all pictures.

    Args:
        height, width: size of a picture.
        pattern: colours of a square of 2 x 2 pixels, row by row, of R, G and B.

    Raises:
        ValueError: if the pattern is no such word.
    """
    if len(pattern) != 4 or not set(pattern) <= set("RGB"):
        raise ValueError(f"a Bayer pattern is four letters of R, G and B such as RGGB, got {pattern!r}")
    mask = torch.zeros(1, 3, height, width)
    for i, colour in enumerate(pattern):
        mask[0, "RGB".index(colour), i // 2 :: 2, i % 2 :: 2] = 1
    return ChannelMask(mask)


def check_mask(mask: Tensor) -> None:
    """Refuses what is no mask [N, C, H, W] of 0 and 1."""
    if mask.ndim != 4:
        raise ValueError(f"a mask is [N, C, H, W], got {list(mask.shape)}; add the dimensions that are missing")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"a mask is 1 where a number is seen and 0 elsewhere, got {mask.min()} to {mask.max()}")


def check_fit(mask: Tensor, x: Tensor) -> None:
    """Refuses pictures that a mask [N or 1, C or 1, H, W] does not belong to."""
    n, channels, height, width = mask.shape
    if tuple(x.shape[-2:]) != (height, width) or n not in (1, len(x)) or channels not in (1, x.shape[1]):
        raise ValueError(
            f"{n} masks of {channels} x {height} x {width} do not fit pictures {tuple(x.shape)}; "
            "pick the masks of these pictures with select()"
        )

r"""Hidden numbers, each channel apart: dead sub-pixels, or a camera's mosaic of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator, with_tensors
from emlib.operators.linalg import divide
from emlib.operators.mask import check_fit, check_mask


@dataclass(frozen=True)
class ChannelMask(Operator):
    r"""A x = m * x with a mask for each channel; what is hidden reads 0.

    :class:`emlib.PixelMask` hides all channels of a pixel together.

    Attributes:
        mask: [N, C, H, W], 1 where a number is seen, 0 where it is hidden; one mask per picture, or one for all.
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
        return self if len(self.mask) == 1 else with_tensors(self, {"mask": self.mask[rows]})  # one may serve all

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

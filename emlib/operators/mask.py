r"""Hidden pixels: inpainting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator, Parameter
from emlib.operators.linalg import divide
from emlib.runtime.rng import streams


@dataclass(frozen=True)
class PixelMask(Operator):
    r"""A x = m * x: hidden pixels read 0, which is mid-grey (inpainting; EMDiffusion, section 5.3).

    Attributes:
        mask: [N, 1, H, W], 1 where a pixel is seen, 0 where it is hidden; one mask a picture, or one for all.
    """

    mask: Tensor
    name: ClassVar[str] = "mask"
    rules: ClassVar[tuple[str, ...]] = ("whole",)
    classical: ClassVar[str] = "interpolation"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "fraction": Parameter(0.6, "share of hidden pixels of a mask (default: 0.6)")
    }

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.mask.shape[-2:] or len(self.mask) not in (1, len(x)):
            raise ValueError(
                f"{len(self.mask)} masks of {tuple(self.mask.shape[-2:])} do not fit pictures {tuple(x.shape)}; "
                "pick the masks of these pictures with select()"
            )
        return x * self.mask.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)  # a diagonal operator is its own adjoint

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        # A A^T = diag(m^2)
        return divide(v, self(self(torch.ones_like(v))), a, b)

    def gain(self) -> float:
        return 1.0

    def select(self, rows: Sequence[int]) -> PixelMask:
        return self if len(self.mask) == 1 else PixelMask(self.mask[rows])  # one mask may serve all

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
        return random_mask(count, size, parameters["fraction"], seed, first)

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

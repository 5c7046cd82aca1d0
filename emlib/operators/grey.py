r"""Colour is lost, brightness is kept: colourisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator
from emlib.operators.linalg import divide

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue are (ITU-R BT.601); they sum to 1, so that [-1, 1] stays [-1, 1]."""


@dataclass(frozen=True)
class Grey(Operator):
    r"""A x = 0.299 red + 0.587 green + 0.114 blue, [B, 3, H, W] -> [B, 1, H, W]."""

    name: ClassVar[str] = "grey"

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError(f"grey is made of red, green and blue, but the pictures are {tuple(x.shape)}; take colour")
        # y = w_r r + w_g g + w_b b
        red, green, blue = x.split(1, 1)
        return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([weight * y for weight in LUMA], 1)

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        _, height, width = y_shape
        return 3, height, width

    def gain(self) -> float:
        # A A^T = |w|^2 I
        return sum(weight**2 for weight in LUMA)

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        return divide(v, torch.full_like(v, self.gain()), a, b)

    def view(self, y: Tensor) -> Tensor:
        """The grey picture, which A turns into y as well; the smallest x with A x = y would be green."""
        return y.expand(-1, 3, -1, -1).clone()

    def prefiltered(self, y: Tensor, noise_std: float) -> Tensor:
        """As they are: what is missing is no detail that a filter knows of."""
        return self.view(y)

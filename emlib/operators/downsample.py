r"""Fewer pixels: super-resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from emlib.operators.base import Operator, Parameter
from emlib.operators.linalg import divide


@dataclass(frozen=True)
class Downsample(Operator):
    r"""A x holds the mean of each square of factor x factor pixels, as a coarser sensor would.

    The mean is what keeps fine patterns from turning up as coarse ones (aliasing), which picking every
    factor-th pixel would do.

    Attributes:
        factor: pixels that become one, along a side; a whole number, 1 or more.
    """

    factor: int = 2
    name: ClassVar[str] = "downsample"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "factor": Parameter(2, "pixels that become one, along a side, when downsampling (default: 2)")
    }

    def __post_init__(self) -> None:
        if not self.factor >= 1 or self.factor % 1:
            raise ValueError(f"downsample needs a whole factor, 1 or more, got {self.factor}")
        object.__setattr__(self, "factor", int(self.factor))  # numbers of the command line are floats

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"a factor of {self.factor} does not divide pictures {tuple(x.shape)}; crop them")
        return F.avg_pool2d(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        # <A x, y> = <x, A^T y>: each pixel of a square has 1 / factor^2 of its mean
        return y.repeat_interleave(self.factor, dim=-1).repeat_interleave(self.factor, dim=-2) * self.gain()

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, height, width = y_shape
        return channels, self.factor * height, self.factor * width

    def gain(self) -> float:
        # A A^T = I / factor^2
        return 1 / self.factor**2

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        return divide(v, torch.full_like(v, self.gain()), a, b)

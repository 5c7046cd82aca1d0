r"""Nothing is lost, only noise is added: denoising."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator
from emlib.operators.linalg import divide


@dataclass(frozen=True)
class Identity(Operator):
    """A x = x: nothing is lost, only noise is added (denoising)."""

    name: ClassVar[str] = "noise"
    identity: ClassVar[bool] = True
    rules: ClassVar[tuple[str, ...]] = ("sure",)
    classical: ClassVar[str] = "filter"

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        return divide(v, torch.ones_like(v), a, b)

    def gain(self) -> float:
        return 1.0

    def prefiltered(self, y: Tensor, noise_std: float) -> Tensor:
        """The Wiener filter of each picture in windows of 3 x 3 pixels (scipy), which is told the noise's variance."""
        from scipy import signal  # takes its time, and nothing else here needs it

        filtered = [signal.wiener(x, 3, noise_std**2 or None) for x in y.flatten(0, 1).cpu().numpy()]
        return torch.stack([torch.from_numpy(x) for x in filtered]).view_as(y).to(y)

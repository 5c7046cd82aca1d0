r"""Gaussian blur: out of focus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from emlib.operators.base import Operator
from emlib.operators.linalg import divide

CPU = torch.device("cpu")


@dataclass(frozen=True)
class GaussianBlur(Operator):
    r"""A x = K_h x K_w^T: Gaussian blur with mirrored borders (EMDiffusion, section 5.1).

    A blur that treats rows and columns apart is one matrix on each side, and its adjoint is their
    transposes. The matrices also hold the borders, where blur is no convolution any more.

    Attributes:
        height, width: size of a picture in pixels, each larger than ``taps // 2``.
        std: standard deviation of the kernel in pixels, above 0.
        taps: length of the kernel, odd; the paper's is 9.
    """

    height: int
    width: int
    std: float = 2.0
    taps: int = 9
    name: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        if not self.std > 0 or self.taps < 1 or self.taps % 2 == 0:
            raise ValueError(f"a blur needs std > 0 and an odd number of taps, got {self.std} and {self.taps}")
        if min(self.height, self.width) <= self.taps // 2:
            raise ValueError(f"{self.taps} taps do not fit pictures of {self.height} x {self.width}; take fewer taps")

    def matrix(self, size: int) -> Tensor:
        """Blur along one axis, [size, size]; each row sums to 1."""
        return _blur_matrix(size, self.std, self.taps)

    def _matrices(self, x: Tensor) -> list[Tensor]:
        return [_blur_matrix(size, self.std, self.taps, x.device).to(x) for size in (self.height, self.width)]

    def _check(self, x: Tensor) -> None:
        if x.shape[-2:] != (self.height, self.width):
            raise ValueError(f"this blur is for {self.height} x {self.width} pixels, got pictures {tuple(x.shape)}")

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        height, width = self._matrices(x)
        return height @ x @ width.T

    def adjoint(self, y: Tensor) -> Tensor:
        # A^T y = K_h^T y K_w
        height, width = self._matrices(y)
        return height.T @ y @ width

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        self._check(v)
        u_h, s_h = _blur_svd(self.height, self.std, self.taps, v.device)
        u_w, s_w = _blur_svd(self.width, self.std, self.taps, v.device)
        # K = U S V^T for each axis, so A A^T turns U_h c U_w^T into U_h (s_h^2 s_w^2^T * c) U_w^T
        c = divide(u_h.T @ v.double() @ u_w, torch.outer(s_h, s_w).square(), a, b)
        return (u_h @ c @ u_w.T).to(v)

    @classmethod
    def for_pictures(cls, count: int, size: int, seed: int, first: int = 0, **parameters: float) -> GaussianBlur:
        return cls(size, size)

    def tensors(self) -> dict[str, Tensor]:
        return {"blur": torch.tensor([self.height, self.width, self.std, self.taps], dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> GaussianBlur:
        height, width, std, taps = tensors["blur"].tolist()
        return cls(int(height), int(width), std, int(taps))


@cache
def _blur_matrix(size: int, std: float, taps: int, device: torch.device = CPU) -> Tensor:
    if device != CPU:  # once, since a GPU would be waited for each time
        return _blur_matrix(size, std, taps).to(device)
    where = torch.arange(taps, dtype=torch.float64) - taps // 2
    kernel = torch.exp(-0.5 * (where / std).square())
    # Column j is what a lone pixel j becomes.
    mirrored = F.pad(torch.eye(size, dtype=torch.float64)[:, None], [taps // 2] * 2, mode="reflect")
    return F.conv1d(mirrored, (kernel / kernel.sum()).view(1, 1, -1))[:, 0].T.float()


@cache
def _blur_svd(size: int, std: float, taps: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Left singular vectors [size, size] and singular values [size] of the blur along one axis, in float64."""
    u, s, _ = torch.linalg.svd(_blur_matrix(size, std, taps).double())
    return u.to(device), s.to(device)

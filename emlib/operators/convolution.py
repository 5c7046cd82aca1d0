r"""Blur by any kernel, with nothing assumed about what lies outside of the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from emlib.operators.base import Operator, Parameter
from emlib.operators.kernels import box_kernel, motion_kernel
from emlib.operators.linalg import solve_by_gradients, variances


@dataclass(frozen=True)
class Convolution(Operator):
    r"""A x = R C x: convolution C with a kernel, of which R keeps what no border has touched ("valid").

    A photograph is a crop: light from outside of its frame was blurred into it. Periodic or mirrored borders invent
    that light, and a deconvolution answers with rings along the edges. Here y [B, C, H - kh + 1, W - kw + 1] is the
    blur of a picture that is larger by the kernel's reach, and that holds exactly: each number of y is a weighted sum
    of kh x kw pixels of x. The price is that pixels near the edges of x are seen by few numbers of y; the prior has to
    say what they are.

    C is computed by the Fourier transform on the frame of x, where it is periodic; what wraps around is just what R
    drops. So the cost does not depend on the kernel's size.

    Attributes:
        kernel: [kh, kw], odd sides, one for all pictures and channels (:mod:`emlib.operators.kernels`).
    """

    kernel: Tensor
    name: ClassVar[str] = "convolution"

    def __post_init__(self) -> None:
        k = self.kernel
        if k.ndim != 2 or k.shape[0] % 2 == 0 or k.shape[1] % 2 == 0:
            raise ValueError(f"a kernel is [kh, kw] with odd sides, got {list(k.shape)}; pad it with a row of zeros")
        if not k.is_floating_point() or not k.isfinite().all() or not k.any():
            raise ValueError(f"a kernel needs finite floating-point numbers, not all 0, got {k.dtype} of sum {k.sum()}")

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        size = _size(x)
        # A x = R F^-1 (k^ F x)
        return self._crop(torch.fft.irfft2(self._symbol(size, x) * torch.fft.rfft2(x), s=size))

    def adjoint(self, y: Tensor) -> Tensor:
        # A^T y = F^-1 (conj(k^) F R^T y)
        wide = self._widen(y)
        size = _size(wide)
        return torch.fft.irfft2(self._symbol(size, y).conj() * torch.fft.rfft2(wide), s=size)

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, height, width = y_shape
        return channels, height + self.kernel.shape[0] - 1, width + self.kernel.shape[1] - 1

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        """By conjugate gradients, with :meth:`approximate_solve` as the preconditioner."""
        return solve_by_gradients(lambda p: self(self.adjoint(p)), v, a, b, self.approximate_solve)

    def approximate_solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        r"""R (a I + b C C^T)^{-1} R^T v: exact but for the border, where A A^T = R C C^T R^T knows no periodicity."""
        wide = self._widen(v)
        size = _size(wide)
        a, b = variances(a, b, v)
        # C C^T is |k^|^2 in Fourier's basis
        eigenvalue = self._symbol(size, v).abs().square()
        return self._crop(torch.fft.irfft2(torch.fft.rfft2(wide) / (a + b * eigenvalue), s=size))

    def view(self, y: Tensor) -> Tensor:
        """y itself, its edges drawn out to the frame of x: to undo the blur is not a view's task."""
        kh, kw = self.kernel.shape
        return F.pad(y, [kw // 2, kw // 2, kh // 2, kh // 2], mode="replicate")

    def _symbol(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """Fourier transform of the kernel on a frame, [H, W // 2 + 1]."""
        return torch.fft.rfft2(self.kernel.to(like), s=size)

    def _crop(self, x: Tensor) -> Tensor:
        """R: drops the rows and columns that something has wrapped around into."""
        kh, kw = self.kernel.shape
        return x[..., kh - 1 :, kw - 1 :]

    def _widen(self, y: Tensor) -> Tensor:
        """R^T: zeros where R drops."""
        kh, kw = self.kernel.shape
        return F.pad(y, [kw - 1, 0, kh - 1, 0])

    def _check(self, x: Tensor) -> None:
        kh, kw = self.kernel.shape
        if x.shape[-2] < kh or x.shape[-1] < kw:
            raise ValueError(f"a kernel of {kh} x {kw} does not fit pictures {tuple(x.shape)}; take a smaller one")


class BoxBlur(Convolution):
    """The mean of side x side pixels: a coarse sensor, or a lens far out of focus."""

    name: ClassVar[str] = "box"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "side": Parameter(5, "side of the square whose mean a box blur takes, odd (default: 5)")
    }

    @classmethod
    def for_pictures(cls, count: int, size: int, seed: int, first: int = 0, **parameters: float) -> BoxBlur:
        return cls(box_kernel(parameters["side"]))


class MotionBlur(Convolution):
    """A camera that moved evenly along a straight line."""

    name: ClassVar[str] = "motion"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "length": Parameter(7, "pixels that a motion blur goes over (default: 7)"),
        "angle": Parameter(30, "its direction in degrees, 0 along rows, counter-clockwise (default: 30)"),
    }

    @classmethod
    def for_pictures(cls, count: int, size: int, seed: int, first: int = 0, **parameters: float) -> MotionBlur:
        return cls(motion_kernel(parameters["length"], parameters["angle"]))


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]

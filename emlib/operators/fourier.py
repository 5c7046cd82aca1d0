r"""Some frequencies of a real picture: magnetic resonance imaging, with one coil."""

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
class FourierMask(Operator):
    r"""A x = m * F x: kept frequencies of the orthonormal Fourier transform, real parts, then imaginary parts.

    [B, C, H, W] -> [B, 2 C, H, W], with zeros where nothing is kept. The picture is real, so that its frequencies k and
    -k are conjugate: keeping both measures the same two numbers twice.

    Attributes:
        mask: [N, 1 or C, H, W], 1 where a frequency is kept; one mask per picture, or one for all. Frequencies stand as
            in torch.fft.fft2, zero first: apply torch.fft.ifftshift to a mask with zero in the middle.
    """

    mask: Tensor
    name: ClassVar[str] = "fourier_mask"

    def __post_init__(self) -> None:
        check_mask(self.mask)

    def __call__(self, x: Tensor) -> Tensor:
        check_fit(self.mask, x)
        y = self.mask.to(x) * torch.fft.fft2(x, norm="ortho")
        return torch.cat([y.real, y.imag], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        # A^T y = Re F^H (m * y), since x is real
        real, imaginary = y.chunk(2, 1)
        check_fit(self.mask, real)
        return torch.fft.ifft2(self.mask.to(y) * torch.complex(real, imaginary), norm="ortho").real

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, height, width = y_shape
        return channels // 2, height, width

    def seen(self, y: Tensor) -> Tensor:
        return self._kept(y).expand_as(y).clone()

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        r"""Exact: A A^T ties no frequency to another but to its mirror image.

        F Re F^H v is, at k, the half (v_k + conj v_-k) / 2 that a real picture may have. Where both k and -k are kept,
        A A^T is 1 on that half and 0 on the other, v_k - conj v_-k; where k alone is kept it is 1/2.
        """
        kept = self._kept(v).expand_as(v)
        both = kept * mirrored(kept)
        sign = torch.ones_like(v)
        sign[:, v.shape[1] // 2 :] = -1  # conj turns imaginary parts about
        possible = both * (v + sign * mirrored(v)) / 2
        # (a I + b A A^T)^-1 = (a + b)^-1 on the possible half, (a + b / 2)^-1 on lone frequencies, a^-1 on the rest
        alone = (kept - both) / 2
        return divide(possible, torch.ones_like(v), a, b) + divide(v - possible, alone, a, b)

    def select(self, rows: Sequence[int]) -> FourierMask:
        return self if len(self.mask) == 1 else with_tensors(self, {"mask": self.mask[rows]})  # one may serve all

    def tensors(self) -> dict[str, Tensor]:
        return {"mask": self.mask.to(torch.uint8)}

    def _kept(self, y: Tensor) -> Tensor:
        """The mask for real and imaginary parts, [N or 1, 2 C or 1, H, W]."""
        check_fit(self.mask, y[:, : y.shape[1] // 2])
        mask = self.mask.to(y)
        return mask if mask.shape[1] == 1 else torch.cat([mask, mask], 1)


def mirrored(y: Tensor) -> Tensor:
    """At each frequency k what stands at -k, [..., H, W]."""
    return y.flip(-2, -1).roll((1, 1), (-2, -1))

r"""A reader's blur: a kernel by name or from a file, and what it means for a picture's frame.

y = k * x is known where the whole kernel lies within x. So a blurred picture [h, w] tells of a picture that is larger
by the kernel, [h + kh - 1, w + kw - 1], and nothing is assumed about what lies outside; what is written is the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from emlib.operators import Composed, Convolution, Operator, PixelMask
from emlib.operators.kernels import box_kernel, gaussian_kernel, motion_kernel, read_kernel

NAMED: dict[str, tuple[Callable[..., Tensor], str]] = {
    "gaussian": (gaussian_kernel, "gaussian:STD"),
    "box": (box_kernel, "box:SIDE"),
    "motion": (motion_kernel, "motion:LENGTH,ANGLE"),
}
"""Kernels by name, and how they are asked for."""


def kernel_of(word: str) -> Tensor:
    """The kernel of a word: ``gaussian:2``, ``box:5``, ``motion:9,30``, or a file.

    Raises:
        ValueError: if it is none of these, or its numbers are out of range.
        FileNotFoundError: if there is no such file.
    """
    name, colon, numbers = word.partition(":")
    if name not in NAMED or not colon:
        if not Path(word).is_file():
            ways = ", ".join(how for _, how in NAMED.values())
            raise ValueError(f"unknown blur {word!r}; take {ways}, or a file with a kernel (PNG, TIFF or .npy)")
        return read_kernel(word)
    make, how = NAMED[name]
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        raise ValueError(f"a blur is asked for as {how}, with numbers, got {word!r}") from None
    try:
        return make(*values)
    except (TypeError, OverflowError):
        raise ValueError(f"a blur is asked for as {how}, got {word!r}") from None


@dataclass(frozen=True)
class Frame:
    """How measurements and pictures lie on one another.

    Attributes:
        kernel: [kh, kw] of the blur; None where nothing is blurred.
    """

    kernel: Tensor | None = field(default=None, repr=False)

    @property
    def border(self) -> tuple[int, int]:
        """Rows and columns by which a picture is larger than its measurement, both sides together."""
        return (0, 0) if self.kernel is None else (self.kernel.shape[0] - 1, self.kernel.shape[1] - 1)

    def operator(self, mask: Tensor) -> Operator:
        """A for masks [N, 1, h, w] of measurements: hidden pixels of a blurred picture."""
        hidden = PixelMask(mask)
        return hidden if self.kernel is None else Composed(hidden, Convolution(self.kernel))

    def middle(self, x: Tensor, height: int, width: int) -> Tensor:
        """The part of a picture [..., H, W] that its measurement [height, width] lies on."""
        top, left = (n // 2 for n in self.border)
        return x[..., top : top + height, left : left + width]

    def told(self, height: int, width: int) -> Tensor:
        """Where :meth:`seen_through` can tell what would be measured, bool [1, height, width]."""
        out = torch.zeros(1, height, width, dtype=torch.bool)
        rows, columns = height - self.border[0], width - self.border[1]
        if min(rows, columns) > 0:
            self.middle(out, rows, columns)[...] = True
        return out

    def seen_through(self, x: Tensor) -> Tensor:
        """What would be measured of a picture [C, h, w] in the frame: as large, with nan where that cannot be told."""
        if self.kernel is None:
            return x
        out = torch.full_like(x, float("nan"))
        if min(x.shape[-2] - self.border[0], x.shape[-1] - self.border[1]) > 0:
            y = Convolution(self.kernel)(x[None])[0]
            self.middle(out, *y.shape[-2:])[...] = y
        return out

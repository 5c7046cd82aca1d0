r"""Kernels of a blur [kh, kw], odd sides, sum 1: out of focus, out of hand, or read from a file.

The centre of a kernel is its middle; it is applied as a convolution, so a picture of one bright pixel becomes the
kernel as it is drawn. All are in float64.
"""

from __future__ import annotations

from math import ceil, cos, inf, radians, sin
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emlib.data.clean import CLEAN_KINDS
from emlib.data.files import Decoded, Unreadable
from emlib.data.pillow import KINDS, decode_pillow
from emlib.data.reading import read_file
from emlib.data.tiff import decode_tiff

WIDEST = 255
"""Longest side of a kernel that is made here, in pixels."""
FINE = 16
"""Points along a pixel's side that :func:`motion_kernel` asks whether they lie on its line."""


def gaussian_kernel(std: float, taps: int | None = None) -> Tensor:
    """exp(-r^2 / 2 std^2) on taps x taps pixels, normalised: a lens out of focus.

    Args:
        std: standard deviation in pixels, above 0.
        taps: length of a side, odd; by default three standard deviations to either side.

    Raises:
        ValueError: if ``std`` is not above 0 or ``taps`` is no odd number up to :data:`WIDEST`.
    """
    if not 0 < std < inf:
        raise ValueError(f"a Gaussian kernel needs std > 0 in pixels, got {std}")
    side = _odd(2 * ceil(3 * std) + 1 if taps is None else taps, "taps")
    where = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-0.5 * (where / std).square())
    return torch.outer(line, line) / line.sum() ** 2


def box_kernel(side: float) -> Tensor:
    """The mean of side x side pixels.

    Raises:
        ValueError: if ``side`` is no odd number up to :data:`WIDEST`.
    """
    side = _odd(side, "side")
    return torch.full((side, side), 1 / side**2, dtype=torch.float64)


def motion_kernel(length: float, angle: float) -> Tensor:
    """A straight line, one pixel wide, antialiased: a camera that moved evenly while the shutter was open.

    Args:
        length: of the line in pixels, 1 to :data:`WIDEST`; 1 is no motion at all along rows and columns.
        angle: in degrees, counter-clockwise from the rows' direction: 0 is horizontal, 90 vertical.

    Returns:
        [kh, kw], the smallest odd sides that hold the line.

    Raises:
        ValueError: if ``length`` or ``angle`` is out of range.
    """
    if not 1 <= length <= WIDEST or not -inf < angle < inf:
        raise ValueError(
            f"a motion kernel needs a length of 1 to {WIDEST} pixels and an angle in degrees, "
            f"got length={length} and angle={angle}"
        )
    c, s = cos(radians(angle)), sin(radians(angle))
    # half of the line's bounding box along each axis
    half = ((length * abs(s) + abs(c)) / 2, (length * abs(c) + abs(s)) / 2)
    down, right = (_points(2 * ceil(h - 0.5 - 1e-9) + 1) for h in half)
    # along = x cos + y sin and across = y cos - x sin; y points up, rows go down
    along, across = right * c - down[:, None] * s, -down[:, None] * c - right * s
    inside = ((along.abs() <= length / 2) & (across.abs() <= 0.5)).double()
    # the share of each pixel that the line covers
    kernel = inside.view(len(down) // FINE, FINE, len(right) // FINE, FINE).mean((1, 3))
    return kernel / kernel.sum()


def read_kernel(path: str | Path) -> Tensor:
    """A kernel from a picture (PNG, TIFF, JPEG, WebP, BMP, PGM, GIF) or a ``.npy`` file, normalised to sum 1.

    A picture's brightness is taken as it is stored, 0 for black: no gamma is undone.

    Args:
        path: the file; odd sides, grey (a colour picture may be grey as well: three equal channels).

    Returns:
        [kh, kw] in float64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds no grey picture of odd sides with numbers of 0 or more, some above 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no kernel at {path}; give a PNG, TIFF or .npy file")
    values = _array(path)
    if values.ndim != 2 or values.shape[0] % 2 == 0 or values.shape[1] % 2 == 0:
        raise ValueError(f"a kernel is [kh, kw] with odd sides, but {path} holds {list(values.shape)}; crop or pad it")
    kernel = torch.from_numpy(values.astype(np.float64))
    if not kernel.isfinite().all() or kernel.min() < 0:
        raise ValueError(f"a kernel weighs light, so it has no numbers below 0, but {path} goes down to {kernel.min()}")
    if kernel.sum() == 0:
        raise ValueError(f"the kernel of {path} is 0 everywhere; nothing of a picture would be left")
    return kernel / kernel.sum()


def _array(path: Path) -> np.ndarray:
    """What a file holds, without alpha, and channels dropped where they are equal."""
    suffix = path.suffix.lower()
    decoder = _npy if suffix == ".npy" else decode_tiff if suffix in (".tif", ".tiff") else _picture
    try:
        values = read_file(path, decoder).values
    except Unreadable as error:
        raise ValueError(f"{path} {error}") from error
    if values.dtype.kind not in "buif":
        raise ValueError(f"a kernel's numbers are real, but those of {path} are {values.dtype}")
    if suffix != ".npy" and values.shape[-1] in (2, 4):
        values = values[..., :-1]
    if values.ndim == 3 and values.shape[-1] and (values == values[..., :1]).all():
        values = values[..., 0]
    return values


def _npy(path: Path) -> Decoded:
    with path.open("rb") as file:  # np.load would open an archive of that name as well
        return Decoded(np.lib.format.read_array(file, allow_pickle=False))


def _picture(path: Path) -> Decoded:
    return decode_pillow(path, (*CLEAN_KINDS, *KINDS[".tif"], *KINDS[".bmp"], "GIF"))


def _points(side: int) -> Tensor:
    """Coordinates of FINE points in each pixel of a line of pixels, 0 in the middle of the line."""
    return (torch.arange(side * FINE, dtype=torch.float64) + 0.5) / FINE - side / 2


def _odd(side: float, name: str) -> int:
    if not 1 <= side <= WIDEST or side % 2 != 1:
        raise ValueError(f"a kernel has a middle: {name} must be an odd number, 1 to {WIDEST}, got {side}")
    return int(side)

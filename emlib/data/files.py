"""What files of pictures hold, before anybody asks what they are for: one record, and the rules that all readers keep.

A picture is upright, of one frame, grey or RGB, with alpha or without, in its file's own depth; its size is known from
its header before it is decoded; nothing but a regular file is opened.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LARGEST = 64_000_000
"""Pixels that a picture may have; larger ones are refused before they are decoded."""

SUFFIXES = {
    ".png": ".png",
    ".jpg": ".jpg",
    ".jpeg": ".jpg",
    ".jpe": ".jpg",
    ".jfif": ".jpg",
    ".tif": ".tif",
    ".tiff": ".tif",
    ".webp": ".webp",
    ".bmp": ".bmp",
    ".npy": ".npy",
    ".npz": ".npz",
}
"""Suffixes that are read, in small letters, and the one that stands for their format."""

FORMATS = "PNG, JPEG, TIFF, WebP and BMP pictures and NPY and NPZ arrays"
"""What is read, in words."""


class Unreadable(ValueError):
    """A file that is not read; its sentence goes on after the file's name and says what to do."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A file's numbers before any question is asked of them.

    Attributes:
        values: [H, W, C] in the file's type and upright; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        note: what was converted; empty if nothing.
        key: name of the array in an NPZ file.
        icc: colour profile, if there is one that still fits.
    """

    values: np.ndarray
    note: str = ""
    key: str = ""
    icc: bytes | None = None


def full(dtype: np.dtype) -> int:
    """What full opacity, or white, is in this type: the largest integer, or 1 for floats."""
    return int(np.iinfo(dtype).max) if dtype.kind in "ui" else 1


def check_regular(path: Path) -> None:
    """Lets regular files pass alone: a pipe with a picture's name would never end.

    Raises:
        OSError: if it is something else, or is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")


def check_size(height: int, width: int) -> None:
    """Refuses a picture without pixels, or with more than :data:`LARGEST`, by what its header says.

    Raises:
        Unreadable: if it is one.
    """
    if height < 1 or width < 1:
        raise Unreadable(f"holds no pixel, its size is {width} x {height}; save it anew, or remove it")
    if height * width > LARGEST:
        raise Unreadable(
            f"has {width} x {height} pixels, {height * width / 1e6:.0f} megapixels, and at most "
            f"{LARGEST / 1e6:.0f} are read; cut it into pieces, or make it smaller"
        )


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and flips pixels [H, W, ...] as EXIF's orientation, 1 to 8, asks for; other numbers change nothing."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values

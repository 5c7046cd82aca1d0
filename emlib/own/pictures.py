"""What a reader's own file holds, and what it takes to write it back."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Form:
    """How a file is to be written back.

    Attributes:
        suffix: ".png", ".jpg", ".tif", ".webp", ".bmp", ".npy" or ".npz".
        dtype: type of its numbers, such as "uint8", "uint16" or "float32".
        colour: whether it had three channels.
        alpha: whether it had a channel of opacity besides.
        top: largest value of the type, 255 or 65535; None for floats.
        note: what was converted, or is lost by writing; empty if nothing.
        key: name of the array in an NPZ file; empty for other files.
        icc: colour profile embedded in the file, None if there is none.
    """

    suffix: str
    dtype: str
    colour: bool
    alpha: bool
    top: int | None
    note: str = ""
    key: str = ""
    icc: bytes | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, upright, in its file's own units.

    Attributes:
        name: path relative to the folder that was read, with "/" and the suffix.
        path: the file.
        pixels: float32 [C, H, W], C 1 or 3: 0..255, 0..65535, or floats as they are. All are finite; where nothing
            was seen they mean nothing.
        seen: bool [1, H, W], or [C, H, W] where channels differ; False where a pixel is missing.
        form: how it is written back.
        opacity: the alpha channel [H, W] in the file's type; None without one.
        root: the folder that was read, or the file if it was named alone; None for a picture that no folder gave.
    """

    name: str
    path: Path
    pixels: np.ndarray
    seen: np.ndarray
    form: Form
    opacity: np.ndarray | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Trouble:
    """A file that was left out.

    Attributes:
        name: path relative to the folder that was read, with "/".
        why: one sentence that goes on after the name and says what to do.
    """

    name: str
    why: str


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

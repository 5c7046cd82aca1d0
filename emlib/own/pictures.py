"""What a reader's own file holds, and what it takes to write it back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


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

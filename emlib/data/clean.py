"""One clean picture: upright, without gaps, its central square in the size and the channels that are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from emlib.data.files import Unreadable, full
from emlib.data.pillow import KINDS, decode_pillow
from emlib.data.reading import read_file

CLEAN_KINDS = [*KINDS[".png"], *KINDS[".jpg"], *KINDS[".webp"], "PPM"]
"""What a clean picture may hold, whatever its name says; the faces are PPM's grey sister."""


MODES = {1: "L", 3: "RGB"}
"""What Pillow calls grey and colour."""


LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey, as Pillow has them."""


class BrokenPicture(ValueError):
    """A picture with gaps where a clean one is wanted."""


def clean_picture(path: Path, size: int, channels: int) -> np.ndarray:
    """One picture's central square [size, size, channels], in its own 8 or 16 bits.

    Raises:
        ValueError: if it is none, or of another depth; BrokenPicture if it has gaps.
    """
    try:
        values = read_file(path, lambda file: decode_pillow(file, CLEAN_KINDS)).values
    except Unreadable as error:
        raise ValueError(f"{path} {error}") from error
    if values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path} holds {values.dtype}, whose white is unknown; save it as PNG of 8 or 16 bits")
    if values.shape[2] in (2, 4):
        # less than half opaque counts as missing, as in pictures that are broken already
        if (values[..., -1] < full(values.dtype) / 2).any():
            raise BrokenPicture(
                f"{path} has transparent pixels, so it is broken already. This road takes clean pictures and "
                f"breaks them itself; for your own broken ones there is `python -m emlib restore {path.parent}`"
            )
        values = values[..., :-1]
    return _fitted8(values, size, channels) if values.dtype == np.uint8 else _fitted16(values, size, channels)


def _fitted8(values: np.ndarray, size: int, channels: int) -> np.ndarray:
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else np.ascontiguousarray(values))
    return np.asarray(ImageOps.fit(image.convert(MODES[channels]), (size, size))).reshape(size, size, channels)


def _fitted16(values: np.ndarray, size: int, channels: int) -> np.ndarray:
    """As above, in floats, since Pillow scales colours of 8 bits alone."""
    colours = np.moveaxis(values.astype(np.float32), 2, 0)
    if channels == 1 and len(colours) == 3:
        # luma = 0.299 R + 0.587 G + 0.114 B
        colours = np.tensordot(LUMA, colours, 1)[None]
    scaled = [np.asarray(ImageOps.fit(Image.fromarray(colour), (size, size))) for colour in colours]
    rounded = np.rint(np.clip(np.stack(scaled, axis=2), 0, 65535)).astype(np.uint16)
    return np.ascontiguousarray(np.broadcast_to(rounded, (size, size, channels)))


def as_deep(pixels: np.ndarray, depth: int) -> np.ndarray:
    """The same brightness in this many bits: white is 255 = 65535 / 257."""
    if pixels.dtype == np.uint8:
        return pixels if depth == 8 else pixels.astype("<u2") * np.uint16(257)
    return pixels.astype("<u2") if depth == 16 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)

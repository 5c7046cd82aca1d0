"""Pictures of eight bits per channel, as Pillow decodes them."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from emlib.data.files import LARGEST, Decoded, Unreadable, check_size, upright
from emlib.data.png16 import is_png16, read_png16

KINDS = {".png": ["PNG"], ".jpg": ["JPEG", "MPO"], ".tif": ["TIFF"], ".webp": ["WEBP"], ".bmp": ["BMP", "DIB"]}
"""What Pillow calls a suffix's format; it opens the second as the first: MPO is what phones make of JPEG."""

PLAIN = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "La": "LA",
}
"""Pillow's modes that are turned into others."""

KEPT = {"L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
"""Modes that are read as they are; those of more than eight bits come from TIFF."""

SAID = {"1": "one bit", "P": "a palette", "PA": "a palette", "CMYK": "CMYK", "LAB": "Lab"}


def decode_pillow(path: Path, kinds: Collection[str]) -> Decoded:
    """Decodes PNG, JPEG, WebP, BMP and the TIFF of eight bits.

    Args:
        path: the file.
        kinds: formats that it may be of, as Pillow calls them; what it is of is told by its content.

    Raises:
        Unreadable: if the content is of another kind, moves, or is too large.
        OSError, SyntaxError, ValueError, RuntimeError: if it is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        with _opened(path, kinds) as image:
            if image.format not in kinds:
                raise Unreadable(f"ends in {path.suffix} but holds {image.format}; rename it to what it is")
            check_size(image.height, image.width)
            note = _one_frame(image)
            image.load()
            if image.format == "PNG" and is_png16(path):
                values, more, icc = _keyed(read_png16(path), image), "", image.info.get("icc_profile")
            else:
                values, more, icc = _plain(image)
            # Pillow turns a TIFF itself and then takes the tag away, so it is asked last
            turned = upright(values, image.getexif().get(0x0112, 1))
    return Decoded(turned, "; ".join(filter(None, (note, more))), icc=icc)


def _opened(path: Path, kinds: Collection[str]) -> Image.Image:
    Image.init()  # Pillow knows a few of its formats only then
    try:
        # the others too, so that a file of another kind is called so; MPO is opened as JPEG
        return Image.open(path, formats=sorted({*(known[0] for known in KINDS.values()), *kinds} - {"MPO"}))
    except Image.DecompressionBombError:
        most = f"{LARGEST / 1e6:.0f} megapixels"
        raise Unreadable(
            f"has far more than the {most} that are read; cut it into pieces, or make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise Unreadable("holds no picture, or its beginning is damaged; get it anew, or remove it") from None


def _one_frame(image: Image.Image) -> str:
    """Refuses what moves. Phones hide a second view behind a photograph, which is not missed."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "TIFF":  # whose pages are counted elsewhere
        return ""
    if image.format == "MPO":
        return f"the first of {frames} pictures in the file; the others are not written back"
    raise Unreadable(f"holds {frames} frames; save those that you want as one file each")


def _plain(image: Image.Image) -> tuple[np.ndarray, str, bytes | None]:
    """Grey or RGB, with alpha or without [H, W, C]; what was converted; the colour profile if it still fits."""
    mode, icc = image.mode, image.info.get("icc_profile")
    target = PLAIN.get(mode, mode)
    if target not in KEPT:
        raise Unreadable(f"is of Pillow's mode {mode}, which is not read; save it as grey or RGB")
    if "transparency" in image.info:
        target = {"L": "LA", "RGB": "RGBA"}.get(target, target)
    values = np.asarray(image.convert(target) if target != mode else image)
    values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim == 2:
        values = values[..., None]
    if mode in ("P", "PA") and (values[..., :1] == values[..., :3]).all():
        values, icc = values[..., [0, *range(3, values.shape[2])]], None
    note = (
        f"{SAID[mode]} in the file, written back as {'RGB' if values.shape[2] > 2 else 'grey'}" if mode in SAID else ""
    )
    return values, note, None if mode in ("CMYK", "LAB") else icc


def _keyed(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Pixels of 16 bits with an alpha channel if the file names one value that is transparent."""
    key = image.info.get("transparency")
    if key is None or values.shape[2] not in (1, 3):
        return values
    clear = (values == np.asarray(key, dtype=np.uint16)).all(axis=2, keepdims=True)
    return np.concatenate([values, np.where(clear, 0, 65535).astype(np.uint16)], axis=2)

"""TIFF: what microscopes and telescopes write, of any depth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emlib.data.files import Decoded, Unreadable, check_size, upright
from emlib.data.pillow import KINDS, decode_pillow

if TYPE_CHECKING:
    import tifffile

PREMULTIPLIED, ALPHA = 1, 2
"""TIFF's numbers for a channel of opacity that has been multiplied into the colours, and for one that has not."""

BRIGHT_IS_ZERO, DARK_IS_ZERO, RGB = 0, 1, 2
"""TIFF's numbers for what a pixel means."""


def decode_tiff(path: Path) -> Decoded:
    """Decodes a TIFF of one page, grey or RGB, with alpha or without, of 1 to 64 bits; thumbnails don't count as pages.

    Raises:
        Unreadable: if it has several pages, other channels, is too large, or packed in a way that nothing here unpacks.
        Exception: nearly any, if it is damaged.
    """
    import tifffile  # here, where there is a TIFF: few have one

    with tifffile.TiffFile(path) as file:
        page = _only_page(file)
        check_size(page.imagelength, page.imagewidth)
        plain = page.photometric in (BRIGHT_IS_ZERO, DARK_IS_ZERO, RGB)
        if plain:
            _check_channels(page)
        if page.bitspersample < 8 or page.bitspersample == 8 and not (plain and page.dtype in ("u1", "i1")):
            # one to seven bits, which tifffile counts as whole bytes or cannot unpack; CMYK, palettes
            return decode_pillow(path, KINDS[".tif"])
        if not plain or page.dtype is None or page.dtype.kind not in "uif":
            raise Unreadable(f"holds {page.bitspersample} bits of {_name(page.photometric)}; save it as grey or RGB")
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _unpacked(path, page)
        tag = page.tags.get("Orientation")
        return Decoded(upright(_arranged(values, page), tag.value if tag else 1), icc=page.iccprofile)


def _only_page(file: tifffile.TiffFile) -> Any:
    whole = [page for page in file.pages if not (getattr(page, "subfiletype", 0) & 1)]  # the bit of smaller copies
    pages = len(whole)
    # ImageJ keeps a stack of thousands behind one page, so what the whole has besides Y, X and samples counts too
    for series in file.series[:1]:
        pages = max(pages, math.prod(n for n, axis in zip(series.shape, series.axes) if axis not in "YXS"))
    if pages > 1:
        raise Unreadable(f"holds {pages} pages; split it into one file a page")
    return whole[0] if whole else file.pages[0]


def _check_channels(page: Any) -> None:
    extra = [int(kind) for kind in page.extrasamples]
    alpha = bool(extra) and extra[-1] in (PREMULTIPLIED, ALPHA)
    if page.samplesperpixel - alpha not in (1, 3) or page.samplesperpixel == 3 and alpha:
        raise Unreadable(
            f"has {page.samplesperpixel} channels, {'one' if alpha else 'none'} of them marked as alpha; "
            "save it as grey or RGB, with alpha or without, or each channel as a file"
        )


def _arranged(values: np.ndarray, page: Any) -> np.ndarray:
    """Page as decoded -> [H, W, C], larger numbers brighter, colours not multiplied by alpha."""
    values = values.reshape(page.shape)
    values = np.moveaxis(values, page.axes.index("S"), -1) if "S" in page.axes else values[..., None]
    if page.photometric == BRIGHT_IS_ZERO:
        if values.dtype.kind != "u" or values.shape[2] > 1:
            raise Unreadable("counts white as zero in numbers with a sign or with alpha; save it with black as zero")
        values = np.iinfo(values.dtype).max - values
    if PREMULTIPLIED in page.extrasamples:
        values = _divided(values)
    return values


def _divided(values: np.ndarray) -> np.ndarray:
    """Undoes the multiplication of colours by opacity, [H, W, C] -> the same."""
    whole = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1
    share = values[..., -1:].astype(np.float64) / whole
    colours = np.divide(values[..., :-1], share, out=np.zeros(values[..., :-1].shape), where=share > 0)
    if values.dtype.kind in "ui":
        colours = np.rint(np.minimum(colours, whole))
    return np.concatenate([colours.astype(values.dtype), values[..., -1:]], axis=2)


def _unpacked(path: Path, page: Any) -> Decoded:
    """By Pillow, which knows more ways of packing but keeps more than eight bits in grey alone."""
    kept = page.samplesperpixel == 1 and page.photometric == DARK_IS_ZERO and page.dtype in ("u2", "i4", "f4")
    if page.dtype != "u1" and not kept:
        raise Unreadable(
            f"is packed by {_name(page.compression)}, which is not unpacked here in {page.bitspersample} bits and "
            f"{page.samplesperpixel} channels; save it unpacked or with Deflate, or pip install imagecodecs"
        )
    decoded = decode_pillow(path, KINDS[".tif"])
    if decoded.values.dtype != page.dtype:
        raise Unreadable(f"of {page.dtype} comes as {decoded.values.dtype}; save it unpacked or with Deflate")
    return decoded


def _name(number: Any) -> str:
    return str(getattr(number, "name", number))

"""Which pixels are missing: transparent, not a number, of a value that says so, or black in a mask."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from emlib.data.files import SUFFIXES, Decoded, Unreadable, full
from emlib.own.listing import list_pictures

LOSSY = {".jpg", ".webp"}
"""Formats whose black may come back as dark grey; a mask in them is cut at half its range."""


def covered(opacity: np.ndarray) -> tuple[np.ndarray, str]:
    """Where an alpha channel [H, W] is at least half opaque, bool [H, W], and a note if it has values in between.

    Raises:
        Unreadable: if its range is unknown, or left.
    """
    if opacity.dtype.kind in "ui" and opacity.dtype.newbyteorder("=") not in ("uint8", "uint16"):
        raise Unreadable(f"has an alpha channel of {opacity.dtype}; save it as uint8, uint16 or floats from 0 to 1")
    most = full(opacity.dtype)
    if not (np.isfinite(opacity).all() and opacity.min() >= 0 and opacity.max() <= most):
        raise Unreadable(f"has an alpha channel beyond 0 to {most}; scale it to that, or leave it out")
    partly = int(((opacity > 0) & (opacity < most)).sum())
    note = f"{partly} pixels are partly transparent; those below half count as missing" if partly else ""
    return opacity >= most / 2, note


def is_value(values: np.ndarray, missing: float) -> np.ndarray:
    """Where all channels of [H, W, C] have the value that stands for "missing", bool [H, W].

    Raises:
        Unreadable: if no number of this type has the value.
    """
    if values.dtype.kind in "ui":
        low, high = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
        if not (float(missing).is_integer() and low <= missing <= high):
            raise Unreadable(
                f"holds {values.dtype}, which is never {missing:g}; give a whole number of {low} to {high}"
            )
    return (values == values.dtype.type(missing)).all(axis=2)


def mask_index(masks: Path) -> dict[str, list[str]]:
    """The pictures of a folder of masks by their names without suffix.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    index: dict[str, list[str]] = {}
    for name in list_pictures(masks).files:
        index.setdefault(_stem(name), []).append(name)
    return index


def mask_of(name: str, index: dict[str, list[str]]) -> str:
    """The name of a picture's mask: the same, or one that differs in its suffix alone.

    Raises:
        Unreadable: if there is none, or several.
    """
    found = index.get(_stem(name), [])
    if name in found:
        return name
    if not found:
        raise Unreadable(f"has no mask; add {_stem(name)}.png, or another suffix, to the folder of masks")
    if len(found) > 1:
        raise Unreadable(f"has several masks, {' and '.join(found)}; leave one of them")
    return found[0]


def mask_seen(mask: Decoded, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Where a mask lets a picture be seen, bool [1, H, W] or [C, H, W].

    Any number but zero counts as seen, in JPEG and WebP any from half their range on. A mask whose colours differ
    speaks of each channel of a colour picture, as a sensor's pattern of colours does, and of a grey one wherever it is
    not black. What is transparent in a mask, or not a number, is missing.

    Args:
        mask: the mask as decoded.
        name: its name, for its suffix and for errors.
        shape: [C, H, W] of the picture.

    Raises:
        Unreadable: if the sizes differ.
    """
    height, width, channels = mask.values.shape
    if (height, width) != shape[1:]:
        size = f"{shape[2]} x {shape[1]}"
        raise Unreadable(f"has {size} pixels and its mask {name} {width} x {height}; make them the same size")
    alpha = channels in (2, 4)
    values = mask.values[..., :-1] if alpha else mask.values
    least = (full(values.dtype) + 1) // 2 if SUFFIXES[PurePosixPath(name).suffix.lower()] in LOSSY else None
    white = values >= least if least else (values != 0) & np.isfinite(values)
    if alpha:
        white = white & covered(mask.values[..., -1])[0][..., None]
    seen = np.moveaxis(white, 2, 0)
    return narrowed(seen) if shape[0] == 3 else np.any(seen, axis=0, keepdims=True)


def narrowed(seen: np.ndarray) -> np.ndarray:
    """[C, H, W] as [1, H, W] if all channels are the same."""
    return seen[:1] if np.array_equal(seen, np.broadcast_to(seen[:1], seen.shape)) else seen


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))

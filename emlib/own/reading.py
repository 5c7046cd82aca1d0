"""Folders of people's own pictures: every file is read in full or named with what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from emlib.data.files import FORMATS, SUFFIXES, Decoded, Unreadable
from emlib.data.listing import Trouble
from emlib.data.reading import read_file
from emlib.own.listing import list_pictures
from emlib.own.missing import covered, is_value, mask_index, mask_of, mask_seen, narrowed
from emlib.own.pictures import Form, Picture

__all__ = ["Form", "Picture", "Trouble", "read_folder", "read_picture"]

EXACT = 2**24
"""Integers up to here are themselves in float32."""


def read_folder(
    folder: Path, missing: float | None = None, masks: Path | None = None
) -> tuple[list[Picture], list[Trouble]]:
    """Reads all pictures of a folder and those below it; a single file counts as a folder of one.

    Pixels are missing where a picture is less than half opaque, is not a finite number, has the value ``missing`` in
    all channels, or has black in its mask; a JPEG's pixels hardly have one value, so a mask serves it better. Hidden
    files and the folder of masks are passed over. Nothing is written.

    Args:
        folder: the folder, or one file.
        missing: value that stands for "missing", in the files' units; None for none.
        masks: folder with a mask for each picture, of the same relative name with any suffix that is read (white or
            nonzero where it was seen, black where it is missing); one file for one picture. None for no masks.

    Returns:
        The pictures in the order of their names, all in memory, and the files that look like pictures and were left
        out, each with the reason.

    Raises:
        FileNotFoundError: if there is no such folder, or none of masks.
        ValueError: if no picture can be read, or the masks' folder is that of the pictures.
    """
    folder, masks = Path(folder), Path(masks) if masks is not None else None
    found = list_pictures(folder, masks)
    mask = _masks(folder, masks) if masks is not None else None
    pictures, troubles = [], list(found.troubles)
    for name, path in found.files.items():
        try:
            pictures.append(read_picture(path, name, missing, mask(name) if mask else None, found.root))
        except Unreadable as error:
            troubles.append(Trouble(name, str(error)))
    troubles.sort(key=lambda trouble: trouble.name)
    if not pictures:
        left = f"; the first of {len(troubles)} left out: {troubles[0].name} {troubles[0].why}" if troubles else ""
        raise ValueError(
            f"{folder} holds no picture that is read, and {found.ignored} other files; read are {FORMATS}{left}"
        )
    return pictures, troubles


def read_picture(
    path: Path,
    name: str | None = None,
    missing: float | None = None,
    mask: Path | None = None,
    root: Path | None = None,
) -> Picture:
    """Reads one picture, as :func:`read_folder` does.

    Args:
        path: the file.
        name: its name in the pictures' folder; that of the file if None.
        missing: value that stands for "missing"; None for none.
        mask: file of its mask; None for none.
        root: the folder that it was found in.

    Raises:
        ValueError: if it cannot be read; the sentence goes on after the file's name.
    """
    decoded = read_file(path)
    seen, notes = _finite(decoded.values), [decoded.note]
    alpha = decoded.values.shape[2] in (2, 4)
    values = decoded.values[..., :-1] if alpha else decoded.values
    pixels = _floats(values)
    if alpha:
        opaque, note = covered(decoded.values[..., -1])
        seen, notes = seen & opaque, [*notes, note]
    if missing is not None:
        seen = seen & ~is_value(values, missing)
    if mask is not None:
        seen = seen & mask_seen(_mask(mask), mask.name, pixels.shape)
    if not seen.any():
        raise Unreadable(
            "has no pixel that was seen; check its mask, its alpha channel, and the value for missing ones"
        )
    form = _form(SUFFIXES[path.suffix.lower()], values.dtype, values.shape[2] == 3, alpha, notes, decoded)
    opacity = np.ascontiguousarray(decoded.values[..., -1]) if alpha else None
    return Picture(name or path.name, path, pixels, narrowed(seen), form, opacity, root)


def _masks(folder: Path, masks: Path) -> Callable[[str], Path]:
    """From a picture's name to its mask."""
    if masks.is_file():
        if folder.is_dir():
            raise ValueError(f"{masks} is one mask, and {folder} a folder; give a folder with a mask for each picture")
        return lambda name: masks
    index = mask_index(masks)
    if masks.resolve() == folder.resolve():
        raise ValueError(f"masks and pictures lie in the same folder, {folder}; put the masks into one of their own")
    return lambda name: masks / mask_of(name, index)


def _mask(path: Path) -> Decoded:
    if path.suffix.lower() not in SUFFIXES:
        raise Unreadable(f"has a mask of a kind that is not read ({path.name}); save it as PNG")
    try:
        return read_file(path)
    except Unreadable as error:
        raise Unreadable(f"has a mask, {path.name}, that {error}") from error


def _finite(values: np.ndarray) -> np.ndarray:
    """Where colours [H, W, C] are finite, bool [C without alpha, H, W]."""
    channels = 3 if values.shape[2] > 2 else 1
    return np.isfinite(np.moveaxis(values[..., :channels], 2, 0))


def _floats(values: np.ndarray) -> np.ndarray:
    """Colours [H, W, C] of any type -> float32 [C, H, W], zero where not finite.

    Raises:
        Unreadable: if they don't fit.
    """
    finite = np.isfinite(values)
    if not np.can_cast(values.dtype, np.float32):  # wide types, of which most pictures hold small numbers
        largest = np.abs(values[finite].astype(np.float64)).max(initial=0)
        if largest > (EXACT if values.dtype.kind in "ui" else np.finfo(np.float32).max):
            raise Unreadable(f"has numbers as large as {largest:.3g}, which float32 does not hold; scale them down")
    pixels = np.ascontiguousarray(np.moveaxis(values, 2, 0), dtype=np.float32)
    return pixels if finite.all() else np.where(np.moveaxis(finite, 2, 0), pixels, np.float32(0))


def _form(suffix: str, dtype: np.dtype, colour: bool, alpha: bool, notes: list[str], decoded: Decoded) -> Form:
    if suffix == ".jpg":
        notes = [*notes, "JPEG loses a little each time it is written, here at quality 95"]
    if suffix == ".bmp" and alpha:
        notes = [*notes, "BMP is written back without its alpha channel"]
    if dtype.itemsize == 8 and dtype.kind == "f":
        notes = [*notes, "float64 is computed with in float32, seven digits"]
    top = int(np.iinfo(dtype).max) if dtype.kind in "ui" else None
    note = "; ".join(filter(None, notes))
    return Form(suffix, dtype.name, colour, alpha, top, note, decoded.key, decoded.icc)

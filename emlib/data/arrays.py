"""NumPy's arrays as pictures; nothing in a file is run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from emlib.data.files import Decoded, Unreadable, check_size

FIX = "save an array [H, W], [H, W, 3] or [H, W, 4] of integers or floats"


def decode_npy(path: Path) -> Decoded:
    """The array of an NPY file; type and shape are checked before its numbers are read.

    Raises:
        Unreadable: if it is no picture.
        OSError, ValueError: if it is damaged.
    """
    with path.open("rb") as file:
        return _decode(file)


def decode_npz(path: Path) -> Decoded:
    """The array of an NPZ file that has exactly one, as :func:`decode_npy` reads it; its name is kept.

    Raises:
        Unreadable: if it is no picture, or there are several arrays or none.
        OSError, ValueError, zipfile.BadZipFile: if it is damaged.
    """
    with zipfile.ZipFile(path) as box:
        members = box.namelist()
        if len(members) != 1 or not members[0].endswith(".npy"):
            raise Unreadable(f"holds {len(members)} arrays ({', '.join(members[:5])}); save one array a file")
        with box.open(members[0]) as file:
            return _decode(file, members[0].removesuffix(".npy"))


def _decode(file: IO[bytes], key: str = "") -> Decoded:
    shape, dtype = _header(file)
    _check(shape, dtype)
    file.seek(0)
    values = np.lib.format.read_array(file, allow_pickle=False)
    note = ""
    if values.dtype == bool:
        values, note = values.astype(np.uint8) * np.uint8(255), "true and false are written back as 255 and 0"
    return Decoded(values[..., None] if values.ndim == 2 else values, note, key)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # only names of fields with letters beyond Latin-1 ask for another
        raise Unreadable(f"is of version {version} of NumPy's format, which holds no plain array; {FIX}")
    return shape, dtype


def _check(shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise Unreadable(f"holds numbers of type {dtype}, which make no picture; {FIX}")
    if len(shape) != 2 and not (len(shape) == 3 and shape[2] in (3, 4)):
        hint = "; np.moveaxis(a, 0, -1) puts channels last" if len(shape) == 3 and shape[0] in (3, 4) else ""
        raise Unreadable(f"holds an array of shape {list(shape)}; {FIX}{hint}")
    check_size(*shape[:2])

"""Folders of pictures as one array of bytes: decoded once, kept beside the data sets, mapped by every process."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from tqdm import tqdm

from emlib.data.clean import MODES, as_deep, clean_picture
from emlib.data.files import SUFFIXES as KNOWN
from emlib.data.listing import Trouble, files_below, warn_of
from emlib.data.png16 import is_png16
from emlib.runtime.distributed import first_before_others, ranks
from emlib.runtime.files import atomic_file, write_json
from emlib.runtime.locks import locked
from emlib.runtime.tensors import read_array

SUFFIXES = {suffix for suffix, kind in KNOWN.items() if kind in (".png", ".jpg", ".webp")}
"""What is taken for a clean picture; other kinds have scales of their own, or none."""


READER = 2
"""Goes up when the same files are read otherwise, so that what was decoded before is decoded anew."""


TYPES: dict[Any, str] = {8: "|u1", 16: "<u2"}
"""NumPy's names of what is kept, by the bits of a number."""


BLOCK = 256
"""Pictures that a thread decodes in one go."""


LONE = 2048
"""Bytes of a file for each thread. With small files Python's part of the work, which only one thread does at a time,
is the larger one, and threads are in each other's way: 6,144 JPEGs of 32 pixels (1 kB) took one of them 1.1 s, two 1.5,
sixteen 2.9; of 200 pixels (5 kB) two are a tenth faster than one, and sixteen slower by half (two cores)."""


def datasets_dir() -> Path:
    """Folder of the data sets, and of what is made of them once: ``EMLIB_DATASETS``, or ~/.cache/emlib."""
    return Path(os.environ.get("EMLIB_DATASETS") or Path.home() / ".cache" / "emlib")


def pictures_below(root: Path) -> list[str]:
    """Names of all PNG, JPEG and WebP files below a folder, relative to it, in order.

    A warning names what else looks like pictures and is left out: hidden files such as macOS's ``._x.png``, links to
    folders, folders that cannot be opened, pictures of other kinds.

    Raises:
        OSError: if the folder itself cannot be read.
    """
    os.listdir(root)
    found = files_below(root)
    others = [path for path in found.paths if KNOWN.get(path.suffix.lower()) in (".tif", ".bmp")]
    why = "is of a kind that is not read here; save it as PNG"
    troubles = found.troubles + [Trouble(path.relative_to(root).as_posix(), why) for path in sorted(others)]
    warn_of(root, troubles, [path for path in found.hidden if path.suffix.lower() in KNOWN])
    names = [os.path.relpath(path, root) for path in found.paths if path.suffix.lower() in SUFFIXES]
    # folder by folder, as paths are ordered: the fingerprints of recorded runs hang on it
    return sorted(names, key=lambda name: name.split(os.sep))


def decoded(root: Path, names: Sequence[str], size: int, channels: int) -> tuple[np.ndarray, str]:
    """Pictures of a folder, each cut to its central square and scaled to ``size`` (bicubic, antialiased).

    Each is turned upright as its EXIF tag asks. 0 is black, and white the largest number of the file's type.

    They are kept below :func:`datasets_dir`, and decoded again once a file's name, size or time of change is another,
    or what was kept is damaged.
    Of several processes one decodes and the others wait. What cannot be kept costs a warning, memory, and the time
    to decode at each call.

    Args:
        root: the folder.
        names: files in it, in the order wanted.
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 [N, size, size, channels], or uint16 if there is a PNG of 16 bits among them; read-only where it is mapped
        from its file. And the fingerprint of these bytes.

    Raises:
        ValueError: if ``size`` or ``channels`` makes no sense, or a file is no picture, or one with gaps.
    """
    if channels not in MODES:
        raise ValueError(f"pictures have 1 or 3 channels, got channels={channels}")
    if size < 1:
        raise ValueError(f"pictures are at least one pixel wide, got size={size}")
    made_of = _made_of(root, names, size, channels)
    kept = _place(made_of)
    with first_before_others():
        if (found := _kept(kept)) is None and ranks().first:
            try:
                _keep(kept, made_of, root, names)
            except OSError as error:  # no right to write, a full disk, a file system without locks
                warnings.warn(
                    f"pictures are decoded at each start, since {kept.parent} cannot keep them ({error}); "
                    "EMLIB_DATASETS names another folder",
                    stacklevel=2,
                )
            found = _kept(kept)
        if found is not None:
            return found
    pixels = np.concatenate(list(_blocks(root, names, made_of)))
    return pixels, fingerprint_of(pixels)


def _made_of(root: Path, names: Sequence[str], size: int, channels: int) -> dict[str, Any]:
    """All that the decoded pictures hang on; the files by their names, sizes and times of change."""
    listing, total = hashlib.sha256(), 0
    for name in names:
        file = _stat(root / name)
        listing.update(os.fsencode(name) + f"\0{file.st_size}\0{file.st_mtime_ns}\n".encode())
        total += file.st_size
    return {
        "folder": str(root.resolve()),
        "files": len(names),
        "bytes": total,
        "listing": listing.hexdigest(),
        "size": size,
        "channels": channels,
        "depth": 16 if any(_is_deep(root / name) for name in names) else 8,
        "reader": READER,
        "pillow": PIL.__version__,
    }


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:  # a link that leads nowhere
        raise ValueError(f"{path} cannot be opened ({error.strerror}); allow reading it, or move it away") from error


def _is_deep(path: Path) -> bool:
    """Whether it holds 16 bits per channel; what is no regular file is refused when it is read."""
    return path.suffix.lower() == ".png" and path.is_file() and is_png16(path)


def _place(made_of: dict[str, Any]) -> Path:
    """Where the array of this origin is; another origin has another place, so no reader meets half a change."""
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    name = f"{Path(made_of['folder']).name[:60]}-{made_of['size']}px-{made_of['channels']}-{key}.npy"
    return datasets_dir() / "decoded" / name


def _note(path: Path) -> dict[str, Any]:
    """What is written beside an array; empty if there is nothing, or no more than a kill or a bad disk has left."""
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _kept(kept: Path) -> tuple[np.ndarray, str] | None:
    """The array and its fingerprint if all of it is there and as it was written; the note is written last."""
    note = _note(kept.with_suffix(".json"))
    fingerprint = note.get("fingerprint")
    try:
        pixels = read_array(kept, "r")
    except (OSError, ValueError):  # missing or damaged
        return None
    if not isinstance(fingerprint, str):
        return None
    if pixels.dtype.str != TYPES.get(note.get("depth")) or fingerprint_of(pixels) != fingerprint:
        warnings.warn(f"{kept} is damaged: its content is not what its note says, so it is decoded anew", stacklevel=3)
        return None
    return pixels, fingerprint


def fingerprint_of(pixels: np.ndarray) -> str:
    """Sixteen letters that differ for other pixels."""
    return hashlib.sha256(pixels.data).hexdigest()[:16]


def _keep(kept: Path, made_of: dict[str, Any], root: Path, names: Sequence[str]) -> None:
    """Decodes into a file, unless another program does so at this moment: then it waits for that one's."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    size, channels, digest = made_of["size"], made_of["channels"], hashlib.sha256()
    depth = TYPES[made_of["depth"]]
    with locked(kept.parent / "lock"):
        if _kept(kept) is not None:
            return
        with atomic_file(kept) as part, part.open("wb") as file:
            shape = (len(names), size, size, channels)
            np.lib.format.write_array_header_1_0(file, {"descr": depth, "fortran_order": False, "shape": shape})
            for block in _blocks(root, names, made_of):
                # Written, not mapped: a full disk is then an error and not the end of the process.
                file.write(block.data)
                digest.update(block.data)
        write_json(kept.with_suffix(".json"), {**made_of, "fingerprint": digest.hexdigest()[:16]})
        _sweep(kept, made_of)


def _sweep(kept: Path, made_of: dict[str, Any]) -> None:
    """Removes what was made of the same folder before it changed."""
    for note in kept.parent.glob("*.json"):
        same = (_note(note).get(key) == made_of[key] for key in ("folder", "size", "channels"))
        if note.stem != kept.stem and all(same):
            note.unlink()
            note.with_suffix(".npy").unlink(missing_ok=True)


def _blocks(root: Path, names: Sequence[str], made_of: dict[str, Any]) -> Iterator[np.ndarray]:
    """uint8 or uint16 [b, size, size, channels], in the order of the names; large files on all cores at once."""
    size, channels, depth = made_of["size"], made_of["channels"], made_of["depth"]

    def block(first: int) -> np.ndarray:
        return np.stack([as_deep(clean_picture(root / n, size, channels), depth) for n in names[first : first + BLOCK]])

    starts = range(0, len(names), BLOCK)
    threads = min(_cores(), max(1, made_of["bytes"] // max(1, len(names)) // LONE))
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from tqdm(pool.map(block, starts), "decoding", len(starts), leave=False, unit="block", delay=2)
        finally:  # after an error nobody waits for the rest
            pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

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
from PIL import Image, ImageOps
from tqdm import tqdm

from emlib.runtime.distributed import first_before_others, ranks
from emlib.runtime.files import atomic_file, write_json
from emlib.runtime.locks import locked

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


MODES = {1: "L", 3: "RGB"}
"""What Pillow calls grey and colour."""


BLOCK = 256
"""Pictures that a thread decodes in one go."""


def datasets_dir() -> Path:
    """Folder of the data sets, and of what is made of them once: ``EMLIB_DATASETS``, or ~/.cache/emlib."""
    return Path(os.environ.get("EMLIB_DATASETS") or Path.home() / ".cache" / "emlib")


def pictures_below(root: Path) -> list[str]:
    """Names of all PNG, JPEG and WebP files below a folder, relative to it, in order.

    Raises:
        OSError: if the folder, or one in it, cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    names = []
    for folder, _, files in os.walk(root, onerror=refuse):
        inside = os.path.relpath(folder, root)
        pictures = (name for name in files if os.path.splitext(name)[1].lower() in SUFFIXES)
        names += [os.path.normpath(os.path.join(inside, name)) for name in pictures]
    # folder by folder, as paths are ordered: the fingerprints of recorded runs hang on it
    return sorted(names, key=lambda name: name.split(os.sep))


def decoded(root: Path, names: Sequence[str], size: int, channels: int) -> tuple[np.ndarray, str]:
    """Pictures of a folder, each cut to its central square and scaled to ``size`` (bicubic, antialiased).

    They are kept below :func:`datasets_dir`, and decoded again once a file's name, size or time of change is another.
    Of several processes one decodes and the others wait. What cannot be kept costs a warning, memory, and the time
    to decode at each call.

    Args:
        root: the folder.
        names: files in it, in the order wanted.
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 [N, size, size, channels], read-only where it is mapped from its file, and the fingerprint of these bytes.

    Raises:
        ValueError: if ``size`` or ``channels`` makes no sense, or a file is no picture.
    """
    if channels not in MODES:
        raise ValueError(f"pictures have 1 or 3 channels, got channels={channels}")
    if size < 1:
        raise ValueError(f"pictures are at least one pixel wide, got size={size}")
    made_of = _made_of(root, names, size, channels)
    kept = _place(made_of)
    with first_before_others():
        if ranks().first and not _is_whole(kept):
            try:
                _keep(kept, made_of, root, names)
            except OSError as error:  # no right to write, a full disk, a file system without locks
                warnings.warn(
                    f"pictures are decoded at each start, since {kept.parent} cannot keep them ({error}); "
                    "EMLIB_DATASETS names another folder",
                    stacklevel=2,
                )
        if _is_whole(kept):
            return np.load(kept, mmap_mode="r", allow_pickle=False), _note(kept)["fingerprint"]
    pixels = np.concatenate(list(_blocks(root, names, size, channels)))
    return pixels, hashlib.sha256(pixels.data).hexdigest()[:16]


def _made_of(root: Path, names: Sequence[str], size: int, channels: int) -> dict[str, Any]:
    """All that the decoded pictures hang on; the files by their names, sizes and times of change."""
    listing, total = hashlib.sha256(), 0
    for name in names:
        file = os.stat(os.path.join(root, name))
        listing.update(os.fsencode(name) + f"\0{file.st_size}\0{file.st_mtime_ns}\n".encode())
        total += file.st_size
    return {
        "folder": str(root.resolve()),
        "files": len(names),
        "bytes": total,
        "listing": listing.hexdigest(),
        "size": size,
        "channels": channels,
        "pillow": PIL.__version__,
    }


def _place(made_of: dict[str, Any]) -> Path:
    """Where the array of this origin is; another origin has another place, so no reader meets half a change."""
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    name = f"{Path(made_of['folder']).name[:60]}-{made_of['size']}px-{made_of['channels']}-{key}.npy"
    return datasets_dir() / "decoded" / name


def _note(kept: Path) -> dict[str, Any]:
    return json.loads(kept.with_suffix(".json").read_text())


def _is_whole(kept: Path) -> bool:
    """Whether it is all there; the note is written last."""
    return kept.with_suffix(".json").is_file() and kept.is_file()


def _keep(kept: Path, made_of: dict[str, Any], root: Path, names: Sequence[str]) -> None:
    """Decodes into a file, unless another program does so at this moment: then it waits for that one's."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    size, channels, digest = made_of["size"], made_of["channels"], hashlib.sha256()
    with locked(kept.parent / "lock"):
        if _is_whole(kept):
            return
        with atomic_file(kept) as part, part.open("wb") as file:
            shape = (len(names), size, size, channels)
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for block in _blocks(root, names, size, channels):
                # Written, not mapped: a full disk is then an error and not the end of the process.
                file.write(block.data)
                digest.update(block.data)
        write_json(kept.with_suffix(".json"), {**made_of, "fingerprint": digest.hexdigest()[:16]})
        _sweep(kept, made_of)


def _sweep(kept: Path, made_of: dict[str, Any]) -> None:
    """Removes what was made of the same folder before it changed."""
    for note in kept.parent.glob("*.json"):
        same = (json.loads(note.read_text()).get(key) == made_of[key] for key in ("folder", "size", "channels"))
        if note.stem != kept.stem and all(same):
            note.unlink()
            note.with_suffix(".npy").unlink(missing_ok=True)


def _blocks(root: Path, names: Sequence[str], size: int, channels: int) -> Iterator[np.ndarray]:
    """uint8 [b, size, size, channels], in the order of the names; Pillow decodes on all cores at once."""

    def block(first: int) -> np.ndarray:
        return np.stack([_picture(root / name, size, channels) for name in names[first : first + BLOCK]])

    starts = range(0, len(names), BLOCK)
    with ThreadPoolExecutor(_cores()) as pool:
        try:
            yield from tqdm(pool.map(block, starts), "decoding", len(starts), leave=False, unit="block", delay=2)
        finally:  # after an error nobody waits for the rest
            pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BrokenPicture(ValueError):
    """A picture with gaps where a clean one is wanted."""


def has_gaps(image: Image.Image) -> bool:
    """Whether a picture has a pixel that is more than half transparent, as a missing one."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return int(lowest) < 128  # type: ignore[arg-type]


def _picture(path: Path, size: int, channels: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if has_gaps(image):
                raise BrokenPicture(
                    f"{path} has transparent pixels, so it is broken already. This road takes clean pictures and "
                    f"breaks them itself; for your own broken ones there is `python -m emlib restore {path.parent}`"
                )
            fitted = ImageOps.fit(image.convert(MODES[channels]), (size, size))
    except BrokenPicture:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); get it anew, or remove it") from error
    return np.asarray(fitted).reshape(size, size, channels)

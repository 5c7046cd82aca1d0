"""Which files of a folder are pictures, which only look like some, and how many are neither."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from emlib.data.files import FORMATS, SUFFIXES
from emlib.data.listing import Files, Trouble, files_below

UNREAD = (
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"),  # cameras
    *(".czi", ".dcm", ".fit", ".fits", ".fts", ".lif", ".lsm", ".mrc", ".nd2", ".nii", ".svs"),  # instruments
    *(".avif", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".pbm", ".pcx", ".pgm"),
    *(".pnm", ".ppm", ".psd", ".svg", ".tga", ".xcf"),
)
"""Suffixes of pictures that are not read; files with them are named, and those of other kinds only counted."""


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        root: the folder, or the file if it was named alone.
        files: the pictures' paths by name, in the order of the names' letters whatever the locale.
        troubles: what looks like a picture, or may hold some, and is left out.
        ignored: number of files that are no pictures, such as README.txt; hidden ones are not counted.
    """

    root: Path
    files: dict[str, Path]
    troubles: list[Trouble]
    ignored: int


def list_pictures(folder: Path, without: Path | None = None) -> Listing:
    """Lists a folder and those below it; a single file counts as a folder of one.

    Hidden files and folders are passed over, and links to folders are named and not followed.

    Args:
        folder: the folder, or one file.
        without: a folder that is left out with all below it, such as that of the masks.

    Raises:
        FileNotFoundError: if nothing is there.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no folder or file at {folder}; check the path")
    found = files_below(folder, without) if folder.is_dir() else Files([folder])
    files: dict[str, Path] = {}
    troubles, ignored = found.troubles, 0
    for path in sorted(found.paths):
        name = _name(path, folder)
        if isinstance(name, Trouble):
            troubles.append(name)
        elif path.suffix.lower() in SUFFIXES:
            files[name] = path
        elif path.suffix.lower() in UNREAD:
            troubles.append(Trouble(name, _unread(path)))
        else:
            ignored += 1
    return Listing(folder, dict(sorted(files.items())), troubles, ignored)


def _name(path: Path, folder: Path) -> str | Trouble:
    """The name relative to the folder; a trouble if no page or table could show it."""
    name = path.name if path == folder else path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode(errors="replace")
        return Trouble(shown, "has a name that is not UTF-8; rename it")
    return name


def _unread(path: Path) -> str:
    what = path.suffix.lower()
    if what == ".gif":
        return "is a GIF, which is not read, moving or not; save the frames that you want as PNG"
    return f"is a picture of a kind that is not read ({what}); save it as TIFF, PNG or NPY (read are {FORMATS})"

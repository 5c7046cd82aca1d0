r"""Places to write, tried before any work: a run of hours must not end at a name that was never going to do.

Each is really tried, since rights alone tell little: a disk may be mounted read-only, full, or belong to a system that
takes no files. Nothing is left behind. What is there already is replaced only where it is one of ours.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

LONGEST_NAME = 255 - len(".safetensors.4194304.part")
"""Bytes of a file's or a folder's name: less than file systems take, since it is first written under a longer one."""


def try_file(path: Path, ending: str | Sequence[str], ours: Callable[[Path], object], kind: str) -> None:
    """Refuses a file that could not be written, or would replace what is not ours.

    Args:
        path: the file.
        ending: what its name must end in, or several of these.
        ours: says whether an existing file is one that may be replaced; raising ValueError means that it is not.
        kind: what such a file is, in words.

    Raises:
        ValueError: with the remedy.
    """
    endings = (ending,) if isinstance(ending, str) else tuple(ending)
    check_name(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path} does not end in {' or '.join(endings)}, as {kind} does; name another file")
    there = _status(path)
    if there is None:
        _try_in(path.parent, f"{path.name}.{os.getpid()}.part")
        return
    if stat.S_ISDIR(there.st_mode):
        raise ValueError(f"{path} is a folder, where {kind} is to be written; name a file")
    if not stat.S_ISREG(there.st_mode):
        raise ValueError(f"{path} is no regular file, so {kind} is not written there; name another file")
    if not _is_ours(ours, path):
        raise ValueError(f"{path} is there already and is not {kind} of emlib's; name another file or move it away")
    _try_in(Path(os.path.realpath(path)).parent, f"{path.name}.{os.getpid()}.part")


def try_folder(path: Path, remedy: str = "name another folder") -> None:
    """Refuses a folder that cannot be written to, or that cannot be made where it is not there.

    Args:
        path: the folder.
        remedy: what to do instead, for the refusal.

    Raises:
        ValueError: with the remedy.
    """
    check_name(path)
    there = _status(path, remedy)
    if there is not None and not stat.S_ISDIR(there.st_mode):
        raise ValueError(f"{path} is no folder that can be written to; {remedy}")
    _try_in(path, f".{os.getpid()}.part", remedy)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if _exists(place))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, before Python 3.12
        return False


def check_room(folder: Path, need: float) -> None:
    """Refuses what does not fit on the disk.

    Raises:
        ValueError: with the remedy.
    """
    if need > (free := shutil.disk_usage(existing(folder)).free):
        said = f"{need / 1e9:.3g} GB needed in {folder}, {free / 1e9:.3g} GB free"
        raise ValueError(f"{said}; ask for less, or name a --folder on a larger disk")


def _is_ours(ours: Callable[[Path], object], path: Path) -> bool:
    try:
        return bool(ours(path))
    except (ValueError, OSError):
        return False


def check_name(path: Path) -> None:
    """Refuses a name that files of weights cannot have, and that not every terminal can show.

    Raises:
        ValueError: with the remedy.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise ValueError(f"{shown} is no name in UTF-8, which the files of weights need; name another place") from None
    if long := next((part for part in path.parts if len(os.fsencode(part)) > LONGEST_NAME), ""):
        raise ValueError(f"{long[:40]}... is longer than the {LONGEST_NAME} bytes of a name; name another place")


def _status(path: Path, remedy: str = "name another place") -> os.stat_result | None:
    """What is at a path, links followed; None if nothing is."""
    try:
        return path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError(f"{path} is a link that leads nowhere; delete it or {remedy}") from None
        return None
    except (OSError, ValueError) as error:  # below a file, in a loop of links, too long; a name with a zero byte
        raise ValueError(f"{path} cannot be written to ({_why(error)}); {remedy}") from None


def _try_in(folder: Path, name: str, remedy: str = "name another place") -> None:
    """Writes a byte to a new file in a folder, or where the first of the folders that are not there would be made.

    None is made for the trial: another command that tries the same folder would find it, and then find it gone.
    """
    try:
        there = [place for place in reversed([folder, *folder.parents]) if _status(place) is not None]
        file = there[-1] / name
        with file.open("xb") as trial:
            try:
                trial.write(b"0")
                trial.flush()
            finally:
                file.unlink()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to ({_why(error)}); {remedy}") from None


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        return "its file system takes no new files"
    return (error.strerror if isinstance(error, OSError) else str(error)) or str(error)

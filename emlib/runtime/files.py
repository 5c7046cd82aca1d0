"""Files that are whole or not there at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Gives a place to write to, which takes the name ``path`` only once all is written and on the disk.

    A run that is stopped halfway thus never leaves half a file under that name. The folder is made. What a killed
    process left of the same file goes with the next writing of it.

    Raises:
        OSError: if it cannot be written, also since something is there that is no regular file: a folder, a pipe, a
            device.
    """
    path = Path(os.path.realpath(path))  # a link stays one, and what it leads to is written
    if is_taken(path):
        said = "no regular file, so nothing is written in its place; name another or move it away"
        raise OSError(errno.EEXIST, said, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        if not _alive(old.name.split(".")[-2]):
            old.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same file at once
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _alive(number: str) -> bool:
    """Whether a process of this number runs; what is no number is left alone."""
    if not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def check_free(path: Path) -> None:
    """Refuses a folder that is there, unless it is empty.

    Raises:
        ValueError: with the remedy.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already; name another folder or delete it")


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which takes the place of ``path`` only once all is written.

    Raises:
        ValueError: if something is there already.
    """
    path = Path(path)
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as room:
        part = Path(room) / path.name
        part.mkdir()
        yield part
        part.replace(path)


def json_text(content: Any) -> str:
    """JSON as :func:`write_json` writes it."""
    return json.dumps(content, indent=1) + "\n"


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON to a file."""
    with atomic_file(path) as part:
        part.write_text(json_text(content))


def is_taken(path: Path) -> bool:
    """Whether something stands there that is no regular file: a folder, a pipe, a link that leads nowhere."""
    return not path.is_file() and (path.is_symlink() or path.exists())


SEAL = "sha256"
"""Key of an object's own checksum; files of older releases have none."""


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum, so that a bit that turned in its file is found."""
    said = json.loads(json.dumps({key: x for key, x in content.items() if key != SEAL}))
    return {**said, SEAL: hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}


def unsealed(content: dict[str, Any]) -> dict[str, Any]:
    """What :func:`sealed` was given; an object without a checksum as it is.

    Raises:
        ValueError: if it is another by now.
    """
    said = {key: x for key, x in content.items() if key != SEAL}
    if SEAL in content and content[SEAL] != sealed(said)[SEAL]:
        raise ValueError("it is damaged: its content is not what its checksum says")
    return said


def read_json(path: str | Path, kind: type = dict) -> Any:
    """Reads a JSON file.

    Args:
        path: the file.
        kind: what it must hold, ``dict`` for an object or ``list``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no JSON, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; check the path, or run the command that writes it")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON or no text, or nested a thousand times
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(said, kind):
        wanted = "object" if kind is dict else kind.__name__
        raise ValueError(f"{path} holds no JSON {wanted}, but {type(said).__name__}")
    return said

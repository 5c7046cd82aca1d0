"""Files that are whole or not there at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Lets one process at a time into a block with this file's name; a process that dies lets the next one in.

    Raises:
        OSError: if the file cannot be made, or its file system knows no locks.
    """
    import fcntl  # Linux and macOS alone have it, and nothing else here needs it

    with Path(path).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Gives a place to write to, which takes the name ``path`` only once all is written.

    A run that is stopped halfway thus never leaves half a file behind. The folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which takes the place of ``path`` only once all is written.

    Raises:
        ValueError: if something is there already.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already; name another folder or delete it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as room:
        part = Path(room) / path.name
        part.mkdir()
        yield part
        part.replace(path)


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON to a file."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def read_tensors(path: str | Path, kind: str) -> tuple[str, dict[str, Tensor]]:
    """Reads a safetensors file of ours; no code in it is run.

    Args:
        path: the file.
        kind: the note that such a file carries, "unet" or "measurements".

    Returns:
        The note, and the tensors by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file or lacks the note.
    """
    notes = read_notes(path)
    if kind not in notes:
        raise ValueError(f"{path} carries no note {kind!r}, so emlib did not write it as such; name another file")
    with _opened(path) as file:
        return notes[kind], {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict


def read_notes(path: str | Path) -> dict[str, str]:
    """The words kept in a safetensors file, such as the command that trained the network in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file.
    """
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: str | Path) -> Iterator[safe_open]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; check the path, or run the command that writes it")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file ({error}); nothing else is read, since it could run code"
        ) from None

r"""Named tensors in safetensors files: no code in one is run, and a bit that has turned is found.

A file carries the checksum of its tensors and notes as one more note, so it may be moved and renamed. The same
content is the same bytes, whoever writes it, so that ``sha256sum`` tells whether two networks are one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emlib.runtime.files import atomic_file

CHECKSUM = "sha256"
"""The note that holds the checksum; files of older releases have none."""


def checksum(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    """SHA-256 of named tensors, their types, shapes and notes."""
    digest = hashlib.sha256(json.dumps(sorted(notes.items())).encode())
    for name in sorted(tensors):
        x = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}\n".encode())
        digest.update(x.flatten().view(torch.uint8).numpy().data)  # numpy has no bfloat16
    return digest.hexdigest()


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Writes tensors with notes and their checksum to one file, whole or not at all.

    Raises:
        OSError: if it cannot be written, naming the file.
    """
    state = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    notes = dict(notes or {})
    notes |= {CHECKSUM: checksum(state, notes)}
    with atomic_file(path) as part:
        try:
            save_file(state, part, metadata=notes)
            _sort_notes(part)
        except SafetensorError as error:  # a full disk comes as one of these
            raise OSError(errno.ENOSPC, f"cannot be written ({error})", str(path)) from None


def _sort_notes(path: Path) -> None:
    """Puts the notes in order where they stand: safetensors writes them in another one each time."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        said = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(said) > length:
            raise OSError(f"the notes of {path} cannot be put in order: {len(said)} bytes in place of {length}")
        file.seek(8)
        file.write(said.ljust(length))


def load_tensors(path: str | Path, remedy: str = "name another file") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a safetensors file, and holds it against its checksum where it has one.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the refusal.

    Returns:
        The tensors and the notes by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file, or damaged.
    """
    with _opened(path, remedy) as file:
        notes = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    wanted = notes.pop(CHECKSUM, None)
    if wanted is not None and wanted != checksum(tensors, notes):
        raise ValueError(f"{path} is damaged: its content is not what its checksum says; {remedy}")
    return tensors, notes


def usable(path: str | Path, again: str) -> dict[str, Tensor]:
    """The tensors of a file that can be made again: none, and a warning, where it is damaged; none where it is missing.

    Args:
        path: the file.
        again: what happens instead, for the warning, such as "so it is drawn again".
    """
    if not Path(path).is_file():
        return {}
    try:
        return load_tensors(path, again)[0]
    except ValueError as error:
        warnings.warn(str(error), stacklevel=3)
        return {}


def read_tensors(path: str | Path, kind: str, remedy: str = "name another file") -> tuple[str, dict[str, Tensor]]:
    """Reads a safetensors file of ours; no code in it is run.

    Args:
        path: the file.
        kind: the note that such a file carries, "unet" or "measurements".
        remedy: what to do about another or a damaged one, for the refusal.

    Returns:
        The note, and the tensors by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file, is damaged or lacks the note.
    """
    tensors, notes = load_tensors(path, remedy)
    if kind not in notes:
        raise ValueError(f"{path} carries no note {kind!r}, so emlib did not write it as such; {remedy}")
    return notes[kind], tensors


def read_notes(path: str | Path) -> dict[str, str]:
    """The words kept in a safetensors file, such as the command that trained the network in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file.
    """
    with _opened(path, "name another file") as file:
        notes = file.metadata() or {}
    notes.pop(CHECKSUM, None)
    return notes


@contextmanager
def _opened(path: str | Path, remedy: str) -> Iterator[safe_open]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; check the path, or run the command that writes it")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file or is damaged ({error}); nothing else is read, since it could run code; "
            f"{remedy}"
        ) from None


def read_array(path: str | Path, mode: Literal["r", "c"]) -> np.ndarray:
    """Maps a NumPy file into memory: "r" to look at, "c" to change one's own copy of what is changed.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is damaged.
    """
    try:
        x: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy's reader raises nearly everything on a damaged head
        raise ValueError(" ".join(str(error).split())[:150]) from None
    return x

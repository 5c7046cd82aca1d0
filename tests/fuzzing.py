"""How much is tried at random: little and always the same in the suite, more with ``EMLIB_FUZZ=10000``."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings

TRIES = int(os.environ.get("EMLIB_FUZZ", "0"))
"""Inputs of each test; 0 for as many as the suite has time for."""


Read = TypeVar("Read")


def tried(few: int) -> settings:
    """Settings of a property: ``few`` examples, always the same ones, or as many others as were asked for."""
    return settings(
        max_examples=TRIES or few,
        derandomize=not TRIES,
        database=None,
        deadline=None,  # no test hangs on speed
        suppress_health_check=list(HealthCheck),
    )


def damaged(whole: bytes, few: int, others: list[bytes], kept: tuple[int, ...] = ()) -> Iterator[tuple[int, bytes]]:
    """(seed, a file that something has happened to): cut, turned bits, a hole, another's middle, or all another's.

    ``kept`` are seeds that a reader once stumbled over.
    """
    for seed in sorted({*range(TRIES or few), *kept}):
        rng = random.Random(seed)
        content = bytearray(whole)
        kind = rng.choice(("cut", "bits", "bits", "head", "hole", "graft", "foreign", "noise", "longer"))
        at = rng.randrange(max(1, len(content)))
        if kind == "cut":
            del content[at:]
        elif kind in ("bits", "head"):
            for _ in range(rng.choice((1, 1, 3, 30))):
                place = rng.randrange(max(1, min(len(content), 400 if kind == "head" else len(content))))
                content[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == "hole":
            content[at : at + rng.randrange(1, 200)] = bytes(rng.randrange(1, 200))
        elif kind == "graft":
            other = rng.choice(others)
            content[at:] = other[min(at, len(other)) :]
        elif kind == "foreign":
            content = bytearray(rng.choice(others))
        elif kind == "noise":
            content = bytearray(rng.randbytes(rng.randrange(2000)))
        else:
            content += rng.randbytes(rng.randrange(1, 2000))
        yield seed, bytes(content)


def files_in(folder: Path) -> set[Path]:
    """All that lies below a folder."""
    return set(folder.rglob("*"))


def read_or_said(read: Callable[[Path], Read], path: Path, seed: object, *parts: Path) -> Read | None:
    """What a reader makes of a file, or None if it says in a sentence of ours what is wrong with it.

    Of a kind that commands show as one line, and with the file's name; or that of one of ``parts``, where it is a
    folder.
    """
    try:
        return read(path)
    except Exception as error:
        named = any(part.name in str(error) for part in parts or (path,))
        if not (isinstance(error, (ValueError, FileNotFoundError)) and named):
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}") from error
    return None

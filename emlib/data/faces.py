"""Faces of the Olivetti Research Laboratory: 400 grey photographs of 40 people, a stand-in for CelebA of 4 MB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emlib.data.decode import decoded

PEOPLE, EACH = 40, 10
"""How many people there are, and photographs of each."""

CLEAN_PEOPLE, HELD_OUT_PEOPLE = 5, 8
"""People whose photographs start EM, and people whom it never meets."""

FACES_HELP = (
    "The faces are never downloaded. Whoever uses them credits the Olivetti Research Laboratory (F. Samaria and A. "
    "Harter, 1994); unpack the set so that {folder} holds s1/1.pgm to s40/10.pgm. EMLIB_DATASETS names the folder "
    "that holds orl-faces"
)


def face_files(root: Path) -> tuple[Path, list[str]]:
    """The folder of the photographs, and their names in it, ten a person, person after person.

    Args:
        root: folder of the data sets, which holds ``orl-faces``.

    Raises:
        FileNotFoundError: if one is missing; it says which, and how to get it.
    """
    folder = root / "orl-faces"
    names = [f"s{person}/{i}.pgm" for person in range(1, PEOPLE + 1) for i in range(1, EACH + 1)]
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"the faces lack {len(absent)} of {len(names)} pictures, {folder / absent[0]} first. "
            + FACES_HELP.format(folder=folder)
        )
    return folder, names


def face_pixels(root: Path, size: int, channels: int = 1) -> tuple[np.ndarray, str]:
    """The photographs, cut from 92 x 112 pixels to the central square: uint8 [400, size, size, channels], fingerprint.

    Raises:
        FileNotFoundError: as :func:`face_files`.
    """
    folder, names = face_files(root)
    return decoded(folder, names, size, channels)


def by_people(order: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Rows of the clean, the corrupted and the held-out part: nobody's face is in two of them.

    Args:
        order: people 0 to 39, shuffled.
    """
    rows = [person * EACH + i for person in order for i in range(EACH)]
    first, last = CLEAN_PEOPLE * EACH, (PEOPLE - HELD_OUT_PEOPLE) * EACH
    return rows[:first], rows[first:last], rows[last:]

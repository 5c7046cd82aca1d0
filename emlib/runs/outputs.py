r"""What commands write, tried before they begin: a recorded run with its picture beside it, weights, pictures."""

from __future__ import annotations

from pathlib import Path

from emlib.runs.record import read_result
from emlib.runtime.places import try_file
from emlib.runtime.tensors import read_notes
from emlib.viz.figures import KINDS, is_grid


def try_result(path: Path, experiment: str, *beside: str) -> None:
    """Refuses a place for a recorded run; an older record of the same kind may be replaced, and its pictures.

    Args:
        path: JSON file.
        experiment: name that such a record carries.
        beside: what is put in place of ``.json`` for pictures beside it.

    Raises:
        ValueError: with the remedy.
    """
    try_file(path, ".json", lambda file: is_record(file, experiment), f"a recorded run of {experiment}")
    for ending in beside:
        picture = path.with_name(f"{path.stem}{ending}")
        try_file(picture, ".png", lambda file: is_record(path, experiment) or is_grid(file), "a picture of pictures")


def is_record(file: Path, experiment: str) -> bool:
    """Whether a file is a recorded run of this name."""
    try:
        return file.is_file() and read_result(file)["experiment"] == experiment
    except ValueError:
        return False


def try_weights(path: Path) -> None:
    """Refuses a place for a network's weights; older weights may be replaced.

    Raises:
        ValueError: with the remedy.
    """
    try_file(path, ".safetensors", lambda file: "unet" in read_notes(file), "a file of weights")


def try_picture(path: Path) -> None:
    """Refuses a place for a picture of pictures; an older one may be replaced.

    Raises:
        ValueError: with the remedy.
    """
    try_file(path, list(KINDS), is_grid, "a picture of pictures")

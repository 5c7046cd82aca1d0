"""The rows of pictures in a file that ``save_grid`` wrote, where a recorded run kept no other form of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PAD = 4
"""White columns that stand at least between the names of the rows and the pictures."""


def read_grid(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of a saved grid without the names drawn beside them, as :func:`emlib.viz.strips` draws them.

    Args:
        path: a file that :func:`emlib.viz.save_grid` wrote.
        names: what the rows are called, from above.

    Returns:
        Name -> row of pictures, bytes [H, W, 3].

    Raises:
        ValueError: if the file holds another number of rows, or no names beside them.
    """
    sheet = np.asarray(Image.open(path).convert("RGB"))
    drawn: np.ndarray = np.any(sheet < 255, axis=2)
    # what is drawn farthest to the right, after a white gap, are the pictures: their names end before it
    blocks = _runs(_closed(np.any(drawn, axis=0), PAD))
    if len(blocks) < 2:
        raise ValueError(f"{path} has no names left of its pictures, so it is no saved grid")
    left, right = blocks[-1]
    bands = _runs(np.any(drawn[:, left:right], axis=1))
    if len(bands) != len(names):
        raise ValueError(f"{path} holds {len(bands)} rows of pictures, but there are {len(names)} names: {names}")
    return {name: sheet[top:bottom, left:right] for name, (top, bottom) in zip(names, bands, strict=True)}


def _closed(marks: np.ndarray, gap: int) -> np.ndarray:
    """Marks with gaps shorter than ``gap`` filled."""
    filled = marks.copy()
    for start, end in _runs(~marks):
        filled[start:end] = end - start < gap
    return filled


def _runs(marks: np.ndarray) -> list[tuple[int, int]]:
    """Beginning and end of each run of true marks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(int)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]

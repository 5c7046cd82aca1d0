"""Pictures of pictures: every figure leaves here with alt text and a caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from emlib.data.pixels import to_pixels
from emlib.runtime.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def to_bytes(x: Tensor) -> np.ndarray:
    """Pictures [N, C, H, W] on [-1, 1] -> bytes [N, H, W, 3]; what lies outside is clipped."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"pictures must be [N, 1 or 3, H, W], got {tuple(x.shape)}")
    return to_pixels(x.cpu()).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def tile(x: Tensor, columns: int, gap: int = 2) -> np.ndarray:
    """One picture made of many, [rows H, columns W, 3] bytes with grey gaps."""
    pixels = to_bytes(x)
    n, h, w, _ = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 160, dtype=np.uint8)
    for i, picture in enumerate(pixels):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = picture
    return sheet


def grid(rows: Mapping[str, Tensor], columns: int = 10) -> Figure:
    """Rows of pictures, each with its name at the left.

    Args:
        rows: name of a row -> pictures [N, C, H, W] on [-1, 1]; the first ``columns`` are shown.
    """
    return _filled(_new(_size(rows)), rows, columns)


def _new(size: tuple[float, float]) -> Figure:
    """An empty figure of pyplot's, which is asked for here: a refusal or a run without figures need not wait for it."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size)


def _size(rows: Mapping[str, Any]) -> tuple[float, float]:
    return 8, 0.86 * len(rows)


def _filled(fig: Figure, rows: Mapping[str, Tensor], columns: int) -> Figure:
    columns = min(columns, max(len(x) for x in rows.values()))
    return _strips(fig, {name: tile(x[:columns], columns) for name, x in rows.items()})


def strips(rows: Mapping[str, np.ndarray]) -> Figure:
    """Rows of pictures that are tiled already, bytes [H, W, 3], each with its name at the left."""
    return _strips(_new(_size(rows)), rows)


def _strips(fig: Figure, rows: Mapping[str, np.ndarray]) -> Figure:
    axes = fig.subplots(len(rows), 1, squeeze=False)
    for ax, (name, sheet) in zip(axes[:, 0], rows.items(), strict=True):
        ax.imshow(sheet, interpolation="nearest")
        ax.set_yticks([])
        ax.set_xticks([])
        ax.spines[:].set_visible(False)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    fig.tight_layout(pad=0.3)
    return fig


def curves(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Lines over a common axis, told apart by marker as well as by colour; ``levels`` are dashed.

    Args:
        x: places on the axis.
        lines: name of a line -> its values.
        xlabel, ylabel: what the axes show, with units.
        levels: name -> height of a horizontal line.
        ax: where to draw; a new figure where None.
    """
    fig = ax.figure if ax is not None else _new((5, 3.2))
    ax = ax or fig.add_subplot()
    for (name, values), marker in zip(lines.items(), "osD^vP*X"[: len(lines)], strict=True):
        ax.plot(x, values, marker=marker, label=name)
    for (name, value), colour in zip((levels or {}).items(), cycle(("0.3", "0.6", "tab:red", "tab:purple"))):
        ax.axhline(value, linestyle="--", color=colour, label=name)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)
    return cast("Figure", fig)


MARK = "emlib, a grid of pictures"
"""Stands in the files that :func:`save_grid` writes, so that no other picture is replaced by one."""

KINDS = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
"""Endings of pictures of pictures, and where a file of this kind names what wrote it."""


def save_grid(rows: Mapping[str, Tensor], path: Path) -> None:
    """Writes rows of pictures, each with its name, to a file, whole or not at all; leaves the caller's figures alone.

    Raises:
        ValueError: if the file's ending is not one of :data:`KINDS`.
    """
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"{path} does not end in {' or '.join(KINDS)}, as a picture does; name another file")
    from matplotlib.figure import Figure

    # Not by pyplot, which would ask for a screen, or for a backend that is the caller's to choose.
    fig = _filled(Figure(figsize=_size(rows)), {name: x.cpu() for name, x in rows.items()}, 10)
    kind = path.suffix.lower()
    with atomic_file(path) as part:
        how: dict[str, Any] = {"format": kind[1:], "metadata": {KINDS[kind]: MARK}}
        fig.savefig(part, dpi=110, bbox_inches="tight", facecolor="white", **how)


def is_grid(path: Path) -> bool:
    """Whether :func:`save_grid` wrote a file."""
    return MARK.encode() in path.read_bytes()

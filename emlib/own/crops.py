r"""Squares cut from pictures of any size: what a network learns from, and how a whole picture is fitted to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Window:
    """A square of a picture: number of the picture, and its upper left corner."""

    picture: int
    top: int
    left: int


def windows(sizes: Sequence[tuple[int, int]], side: int, count: int, seed: int) -> list[Window]:
    """Squares of pictures, drawn at random without regard to what they show, larger pictures more often.

    Args:
        sizes: height and width of each picture; one that is smaller than a square has a single one, at its corner.
        side: of a square, in pixels.
        count: how many are wanted; there are at least as many as pictures, and no two are the same.
        seed: seed of the draw.
    """
    places = [(max(1, h - side + 1), max(1, w - side + 1)) for h, w in sizes]
    g = Generator().manual_seed(seed)
    found = {Window(i, *_place(places[i], g)) for i in range(len(sizes))}
    possible = sum(h * w for h, w in places)
    odds = torch.tensor([h * w / (side * side) + 1.0 for h, w in places])
    while len(found) < min(count, possible):
        i = int(torch.multinomial(odds, 1, generator=g))
        found.add(Window(i, *_place(places[i], g)))
    ordered = sorted(found, key=lambda w: (w.picture, w.top, w.left))
    return [ordered[i] for i in torch.randperm(len(ordered), generator=g).tolist()]


def _place(places: tuple[int, int], g: Generator) -> tuple[int, int]:
    top, left = (int(torch.randint(n, (1,), generator=g)) for n in places)
    return top, left


def cut(pictures: Sequence[Tensor], where: Sequence[Window], side: int, fill: float = 0.0) -> Tensor:
    """The squares, [N, C, side, side]; what a small picture lacks, right and below, is ``fill``."""
    return torch.stack([_square(pictures[w.picture], w.top, w.left, side, fill) for w in where])


def _square(x: Tensor, top: int, left: int, side: int, fill: float) -> Tensor:
    part = x[..., top : top + side, left : left + side]
    height, width = part.shape[-2:]
    return F.pad(part, (0, side - width, 0, side - height), value=fill)


def padded(x: Tensor, height: int, width: int, fill: float = 0.0) -> Tensor:
    """A picture [C, H, W] with room to the right and below, [C, height, width]."""
    return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), value=fill)

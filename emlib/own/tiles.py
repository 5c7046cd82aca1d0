r"""A network on pictures larger than those it was trained on: in overlapping tiles, blended into one answer.

The tiles are the network's affair alone. A sampler sees one large picture and one large measurement, so that a blur
passes over seams, and every pixel's noise is its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from emlib.diffusion import Eps
from emlib.posterior import BLOCK

AT_ONCE = 64
"""Tiles that go through the network at a time; with a gradient, further ones are computed again on the way back."""


def tiled(model: Eps, size: int, overlap: int) -> Eps:
    """The network on pictures of any size that is at least ``size``.

    Args:
        model: eps_theta on [B, C, size, size].
        size: height and width of a tile, in pixels.
        overlap: pixels that neighbours share at least, 0 to size - 1.

    Raises:
        ValueError: if the overlap is out of range; from the network, if a picture is smaller than a tile.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"tiles of {size} pixels overlap by 0 to {size - 1}, got {overlap}")

    def eps(x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if (height, width) == (size, size):
            return model(x, t)
        if min(height, width) < size:
            raise ValueError(f"tiles of {size} pixels do not fit {height} x {width}; pad the picture first")
        corners = [(top, left) for top in starts(height, size, overlap) for left in starts(width, size, overlap)]
        tiles = torch.cat([x[..., top : top + size, left : left + size] for top, left in corners])
        answers = _in_batches(model, tiles, t.expand(len(x)).repeat(len(corners))).chunk(len(corners))
        window = _window(size, max(overlap, 1)).to(x)
        total, weight = torch.zeros_like(x), x.new_zeros(1, 1, height, width)
        for (top, left), answer in zip(corners, answers, strict=True):
            place = (..., slice(top, top + size), slice(left, left + size))
            total[place] = total[place] + window * answer
            weight[place] += window
        return total / weight

    return eps


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: evenly apart, the first at its start, the last at its end."""
    count = 1 if length == size else -(-(length - overlap) // (size - overlap))
    return [round(i * (length - size) / max(1, count - 1)) for i in range(count)]


def _window(size: int, overlap: int) -> Tensor:
    """Weight of a tile's pixels, [size, size]: 1 within, falling towards its border, nowhere 0."""
    far = torch.arange(size) + 0.5
    rise = (torch.minimum(far, size - far) / overlap).clamp(max=1)
    return torch.outer(rise, rise)


def _in_batches(model: Eps, tiles: Tensor, t: Tensor) -> Tensor:
    """The network's answers for all tiles; each batch is filled up, so that a tile never depends on the others."""
    answers = []
    for first in range(0, len(tiles), AT_ONCE):
        part, times = tiles[first : first + AT_ONCE], t[first : first + AT_ONCE]
        rest = -len(part) % BLOCK
        if rest:
            part, times = (torch.cat([v, v[-1:].expand(rest, *v.shape[1:])]) for v in (part, times))
        if torch.is_grad_enabled() and part.requires_grad and len(tiles) > AT_ONCE:
            answer = checkpoint(model, part, times, use_reentrant=False)
        else:
            answer = model(part, times)
        answers.append(answer[: len(answer) - rest])
    return torch.cat(answers)

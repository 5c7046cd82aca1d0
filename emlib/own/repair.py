r"""From measurements of whole pictures to several draws of each: small ones together, large ones in tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice

import torch
from torch import Tensor

from emlib.diffusion import Eps
from emlib.operators import Measurements
from emlib.own.blur import Frame
from emlib.own.crops import padded
from emlib.own.tiles import starts, tiled
from emlib.planning.budgets import calls_and_steps
from emlib.posterior import BLOCK, Sampler, mmps, reconstruct_pairs
from emlib.posterior.base import draw_pair
from emlib.schedule import Schedule

WHOLE = 128 * 128
"""Pixels up to which a picture goes through the network whole."""
FINER = 2
"""Times as many network calls for a repair as for a draw that EM learns from: on photographs of which 60 % was missing
the mean of draws gained 0.3 dB by it, a single draw nothing."""


def measurements(
    y: Sequence[Tensor], seen: Sequence[Tensor], noise_std: float, index: Sequence[int], frame: Frame
) -> Measurements:
    """Pictures of one size as measurements: gaps read 0, as :class:`emlib.PixelMask` has it.

    Args:
        y: [C, H, W] each, on [-1, 1].
        seen: [1, H, W] bool each.
        noise_std: standard deviation of the noise on [-1, 1].
        index: what keys each picture's random stream.
        frame: how they were blurred, if they were.
    """
    mask = torch.stack(list(seen)).float()
    shown = torch.stack(list(y)) * mask
    # What is checked is the picture without its brightest: a star may be a thousand times as bright as the scale's end.
    m = Measurements(shown.clamp(-1, 1), frame.operator(mask), noise_std, tuple(index))
    return m.changed(y=shown)


def draws(
    model: Eps,
    schedule: Schedule,
    y: Sequence[Tensor],
    seen: Sequence[Tensor],
    wanted: Sequence[int],
    frame: Frame,
    noise_std: float,
    side: int,
    stride: int,
    steps: int,
    count: int,
    seed: int,
    purpose: str,
    batch: int,
) -> Iterator[tuple[int, Tensor]]:
    """Several draws from the posterior of each picture that is wanted, pictures of one size after another.

    Draws come in pairs of opposite noise (:func:`emlib.posterior.reconstruct_pairs`): on the same photographs the mean
    of two was as near to the truth as that of very many independent ones.

    Args:
        model: eps_theta, trained on squares of ``side`` pixels.
        schedule: the noise levels.
        y, seen: as for :func:`measurements`, all pictures, of any sizes.
        wanted: numbers of those to draw; a picture's stream is keyed by its number.
        frame, noise_std: as for :func:`measurements`.
        side: of the squares.
        stride: both sides of what the network takes are multiples of it.
        steps: network calls of a draw, or what costs as much (:func:`solver`).
        count: draws of each picture.
        seed, purpose: key the random streams, as for :func:`emlib.reconstruct`.
        batch: squares at a time; a small picture counts as its share of them.

    Yields:
        (number of the picture, [count, C, H, W] on [-1, 1], on the CPU).
    """
    calls, solved = solver(frame, noise_std, steps)
    sampler, device = partial(mmps, steps=calls, cg_steps=solved), schedule.beta.device
    down, across = frame.border
    alike = defaultdict(list)
    for i in wanted:
        alike[fitted(y[i].shape[-2] + down, y[i].shape[-1] + across, side, stride)].append(i)
    for (height, width), rows in alike.items():
        fit = [[padded(x[i], height - down, width - across) for i in rows] for x in (y, seen)]
        m = measurements(fit[0], fit[1], noise_std, rows, frame).on(device)
        if height * width <= WHOLE:
            at_once = max(BLOCK, batch * side**2 // (height * width))
            found = _together(model, schedule, m, sampler, rows, count, seed, purpose, at_once)
        else:
            large = tiled(model, 2 * side, side // 2)
            found = (
                (i, _alone(large, schedule, m.select([k]), sampler, count, seed, purpose)) for k, i in enumerate(rows)
            )
        for i, x in found:
            yield i, frame.middle(x, y[i].shape[-2], y[i].shape[-1]).contiguous()


def solver(frame: Frame, noise_std: float, calls: int) -> tuple[int, int]:
    """Network calls and solver steps of MMPS, at the cost of so many calls with a step each, or half as much again.

    A blur with gaps has a preconditioner that is only near, so it takes a second step in as many calls.
    """
    return calls_and_steps(calls, noise_std) if frame.kernel is None else (calls, 2)


def _together(
    model: Eps,
    schedule: Schedule,
    m: Measurements,
    sampler: Sampler,
    rows: Sequence[int],
    count: int,
    seed: int,
    purpose: str,
    batch: int,
) -> Iterator[tuple[int, Tensor]]:
    for first in range(0, len(rows), batch):
        part = range(first, min(first + batch, len(rows)))
        some, how = m.select(part), (seed, purpose, batch)
        many = [x for d in range(0, count, 2) for x in _two(sampler, model, schedule, some, *how, d)][:count]
        for k, j in enumerate(part):
            yield rows[j], torch.stack([x[k] for x in many])


def _two(
    sampler: Sampler, model: Eps, schedule: Schedule, m: Measurements, seed: int, purpose: str, batch: int, d: int
) -> list[Tensor]:
    """The d-th draw of each picture and the one after it."""
    firsts, seconds = zip(*reconstruct_pairs(sampler, model, schedule, m, seed, f"{purpose} {d}", batch), strict=True)
    return [torch.cat(firsts).cpu(), torch.cat(seconds).cpu()]


def _alone(
    model: Eps, schedule: Schedule, m: Measurements, sampler: Sampler, count: int, seed: int, purpose: str
) -> Tensor:
    """One large picture, without company: a batch of sixteen of them would be sixteen times the work."""
    pairs = (draw_pair(sampler, model, schedule, m, seed, f"{purpose} {d}") for d in range(0, count, 2))
    return torch.stack([x[0].cpu() for x in islice(chain.from_iterable(pairs), count)])


def fitted(height: int, width: int, side: int, stride: int) -> tuple[int, int]:
    """The size that a picture is padded to: multiples of the stride, at least a square, or a tile where it is large."""
    h, w = (max(side, -(-n // stride) * stride) for n in (height, width))
    return (h, w) if h * w <= WHOLE else (max(h, 2 * side), max(w, 2 * side))


def squares(sizes: Sequence[tuple[int, int]], side: int, stride: int) -> float:
    """How many squares of ``side`` pixels a draw of all pictures costs."""
    total = 0.0
    for height, width in sizes:
        h, w = fitted(height, width, side, stride)
        if h * w <= WHOLE:
            total += h * w / side**2
        else:
            total += 4 * len(starts(h, 2 * side, side // 2)) * len(starts(w, 2 * side, side // 2))
    return total

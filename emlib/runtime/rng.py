"""One random stream for each picture, so that nothing depends on batches, ranks or interruptions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Generator, Tensor

from emlib.runtime.device import sent


def streams(seed: int, purpose: str, indices: Iterable[int]) -> list[Generator]:
    """Random generators, one per picture, each keyed by (seed, purpose, index of the picture).

    Args:
        seed: seed of the whole experiment.
        purpose: what the numbers are for, such as "mask" or "e-step 3"; other words, other numbers.
        indices: index of each picture in its data set, not in its batch.
    """
    generators = []
    for index in indices:
        # A hash, since neighbouring seeds are not promised to give independent streams.
        key = hashlib.blake2b(f"{seed}|{purpose}|{int(index)}".encode(), digest_size=8).digest()
        generators.append(Generator().manual_seed(int.from_bytes(key, "big") >> 1))
    return generators


class Opposite(Generator):
    """A stream whose normal numbers are those of another one, with the other sign."""


def opposite(generators: Iterable[Generator]) -> list[Generator]:
    """Streams that go on with the same normal numbers as these, each with the other sign.

    A picture drawn with them is the antithetic partner of one drawn with ``generators``: as probable a draw, and the
    mean of both is free of all that is odd in the noise (Hammersley and Morton 1956).
    """
    found: list[Generator] = []
    for g in generators:
        partner = Opposite()
        partner.set_state(g.get_state())
        found.append(partner)
    return found


def randn(generators: list[Generator], shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers [B, *shape], the i-th drawn from the i-th stream (on the CPU, then moved)."""
    device = torch.device(device)
    # in place, and for a GPU at once where it can be sent from: the CPU is to be ahead of the GPU
    numbers = torch.empty(len(generators), *shape, pin_memory=device.type == "cuda")
    for g, place in zip(generators, numbers, strict=True):
        torch.randn(shape, generator=g, out=place)
        if isinstance(g, Opposite):
            place.neg_()
    return sent(numbers, device)

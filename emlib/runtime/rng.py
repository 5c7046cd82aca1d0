"""One random stream for each picture, so that nothing depends on batches, ranks or interruptions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Generator, Tensor

from emlib.runtime.device import sent


def streams(seed: int, purpose: str, indices: Iterable[int]) -> list[Generator]:
    """Random generators, one a picture, each keyed by (seed, purpose, index of the picture).

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


def randn(generators: list[Generator], shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers [B, *shape], the i-th drawn from the i-th stream (on the CPU, then moved)."""
    return sent(torch.stack([torch.randn(shape, generator=g) for g in generators]), torch.device(device))

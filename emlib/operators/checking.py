r"""What measurements must be, found out where they are made and not hours later: one check a function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from emlib.operators.base import Operator

CHUNK = 1000
"""Pictures that are looked at together: measurements may lie in a mapped file and be larger than memory."""

ROOM = 4
"""How many times what an operator makes of two pictures, white and of random black and white, y may reach."""


def check_noise_std(noise_std: float) -> None:
    """Refuses what is no standard deviation: negative, endless, or no number."""
    if not isinstance(noise_std, Real) or not 0 <= noise_std < float("inf"):
        raise ValueError(f"noise_std must be 0 or more on the [-1, 1] scale, got {noise_std}")


def check_measurements(y: Tensor, operator: Operator, noise_std: float, index: Sequence[int]) -> None:
    """Refuses measurements that no sampler could use, or that would give it a wrong idea of the pictures.

    Raises:
        ValueError: naming the value and the remedy.
    """
    check_noise_std(noise_std)
    check_floats("y", y)
    check_index(index, len(y))
    if not isinstance(operator, Operator):
        raise ValueError(f"measurements need an operator such as emlib.Identity(), got {operator!r}; make one")
    most = _reach(operator, y) + 10 * noise_std
    for first, part, seen in _parts(operator, y):
        _check_finite(part, first)
        if bool(((seen == 0) & (part != 0)).any()):
            raise ValueError(
                f"y holds numbers such as {part[(seen == 0) & (part != 0)][0]:.3g} where {operator.name} hides "
                "everything; such gaps read 0: y * operator.seen(y)"
            )
        if (largest := part.abs().max().item()) > most:
            raise ValueError(
                f"y reaches {largest:.3g}, too far for pictures on [-1, 1] through {operator.name}; bring both to "
                "that scale, from bytes by x / 127.5 - 1"
            )


def check_floats(name: str, x: Any) -> None:
    """Refuses what is no stack of pictures in floating point."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a tensor [N, C, H, W], got {type(x).__name__}; torch.as_tensor makes one")
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(f"{name} must be [N, C, H, W] with nothing of it 0, got {list(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(
            f"{name} must hold floats on the scale of [-1, 1], got {x.dtype}; from bytes that is {name} / 127.5 - 1"
        )


def check_index(index: Sequence[int], count: int) -> None:
    """Refuses numbers of pictures that are missing, or would give two pictures the same random stream."""
    if len(index) != count:
        raise ValueError(f"{count} pictures need as many numbers in index, got {len(index)}; tuple(range({count}))")
    if bad := [i for i in index if not isinstance(i, Integral)]:
        raise ValueError(f"index holds whole numbers, one a picture, got {bad[0]!r}; tuple(range({count}))")
    number, times = Counter(index).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"index has {number} for {times} pictures, which would all be drawn with the same noise; "
            f"give each its own, such as tuple(range({count}))"
        )


def _check_finite(part: Tensor, first: int) -> None:
    bad = ~part.isfinite().flatten(1).all(dim=1)
    if bool(bad.any()):
        number = first + int(bad.nonzero()[0])
        raise ValueError(f"y of picture {number} holds NaN or infinite numbers; hide them by a mask, and put 0 there")


def _parts(operator: Operator, y: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(number of the first picture, some of y, where it was measured), a chunk at a time."""
    for first in range(0, len(y), CHUNK):
        part = y[first : first + CHUNK]
        try:
            own = operator if len(part) == len(y) else operator.select(range(first, first + len(part)))
        except IndexError:
            raise ValueError(
                f"{operator.name} is for fewer pictures than y, which has {len(y)}; make as many"
            ) from None
        yield first, part, own.seen(part)


def _reach(operator: Operator, y: Tensor) -> float:
    """The largest number that may well be in A x with x on [-1, 1]; at least 1."""
    _, *shape = y.shape
    white = torch.ones(1, *operator.image_shape((shape[0], shape[1], shape[2])), dtype=y.dtype, device=y.device)
    signs = torch.randint(0, 2, white.shape, generator=torch.Generator().manual_seed(0)).to(white) * 2 - 1
    A = operator.select([0])
    return ROOM * max(1.0, *(A(x).abs().max().item() for x in (white, signs)))

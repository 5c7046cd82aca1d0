"""What all posterior samplers share: their interface, their time grid, and the loop over many pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from torch import Generator, Tensor, nn

from emlib.diffusion import Eps, SampleStep
from emlib.operators import Measurements
from emlib.runtime.rng import opposite, streams
from emlib.schedule import Schedule

Sampler = Callable[[Eps, Schedule, Measurements, list[Generator]], Iterator[SampleStep]]
"""A sampler with its own settings filled in, as :func:`functools.partial` gives."""


GRID_POWER = 1.5
"""Posterior samplers crowd their times towards 0: what y leaves open is decided late (see :func:`time_grid`)."""


BLOCK = 16
"""Batches are filled up to a multiple of this. Convolutions and matrix products of other sizes take other code,
which rounds otherwise in the last bit, and a sampler magnifies that: DPS to 0.1 on [-1, 1]. Filled up, a picture
comes out bit for bit the same whatever its batch (measured on CPUs). On a GPU that does not suffice: on an H200, in
float32, single pixels of MMPS moved by up to 0.19 between batches of 512 and of 100 (see :data:`GPU_BATCH`)."""


GPU_BATCH = 256
"""On a GPU every batch has exactly this size, or the size that is asked for where that is smaller: the same code for
each, which is also recorded but once. On an H200 a picture then came out the same in any company: bit for bit in
bfloat16, to 1e-4 in float32, and to 0.02 in float32 with convolutions in TF32, which is PyTorch's default. A step of
MMPS took 69 microseconds per picture in batches of 128 with the network of preset `colab`, 60 in 256, 56 in 512."""


class NotFinite(ValueError):
    """A sampler drew pictures that are no numbers."""


def reconstruct(
    sampler: Sampler,
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    seed: int,
    purpose: str,
    batch: int,
) -> Iterator[Tensor]:
    """Runs a sampler over all measurements, a batch at a time; yields the pictures of each batch.

    Args:
        sampler: :func:`dps` or :func:`mmps` with their settings filled in.
        model: eps_theta.
        schedule: the noise levels.
        measurements: what is known of the pictures.
        seed: seed of the experiment.
        purpose: names the random streams, such as "e-step 3".
        batch: pictures at a time; changes memory and speed, not the pictures (see :data:`BLOCK`; on a GPU only those of
            batches below :data:`GPU_BATCH`).

    Yields:
        [b, C, H, W] on [-1, 1], in the order of the measurements.

    Raises:
        NotFinite: a ValueError, instead of the batch in which a picture is no number, such as after a push that was
            too strong.
        ValueError: if measurements are in float64 and the network is not.
    """
    check_same_type(model, measurements)
    for count, part in _filled(measurements, batch):
        yield _drawn(sampler(model, schedule, part, streams(seed, purpose, part.index)), count, purpose)


def reconstruct_pairs(
    sampler: Sampler,
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    seed: int,
    purpose: str,
    batch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Two draws of each picture whose noise is the same but for its sign (:func:`emlib.runtime.rng.opposite`).

    Each is a draw like any other; together they are worth more, since what one is too bright by for its noise the other
    is too dark by. Where a posterior is nearly Gaussian their mean is that of very many draws.

    Args:
        sampler, model, schedule, measurements, seed, purpose, batch: as for :func:`reconstruct`, which draws the first.

    Yields:
        Two of [b, C, H, W] on [-1, 1], in the order of the measurements.

    Raises:
        NotFinite, ValueError: as :func:`reconstruct`.
    """
    check_same_type(model, measurements)
    for count, part in _filled(measurements, batch):
        first, second = draw_pair(sampler, model, schedule, part, seed, purpose)
        yield first[:count], second[:count]


def draw_pair(
    sampler: Sampler, model: Eps, schedule: Schedule, part: Measurements, seed: int, purpose: str
) -> Iterator[Tensor]:
    """One batch of :func:`reconstruct_pairs`, as large as it is: the draws, then, if it is wanted, their partners."""
    generators = streams(seed, purpose, part.index)
    partners = opposite(generators)  # before the first walk moves the streams on
    for g in (generators, partners):
        yield _drawn(sampler(model, schedule, part, g), len(part), purpose)


def _drawn(walk: Iterator[SampleStep], count: int, purpose: str) -> Tensor:
    """Where a walk ends, on [-1, 1]; of pictures that only fill up a batch nothing."""
    x = deque(walk, maxlen=1).pop().x_t[:count]
    if not bool(x.isfinite().all()):  # asked before what is infinite becomes black or white
        raise NotFinite(
            f"{purpose!r} drew pictures that are no numbers (NaN); take a lower guidance scale if there is one, or "
            "look at the prior"
        )
    return x.clamp(-1, 1)


def _filled(measurements: Measurements, batch: int) -> Iterator[tuple[int, Measurements]]:
    """Batches and how many of their rows count; the rest repeats the last one (:data:`BLOCK`)."""
    block = BLOCK
    if measurements.y.is_cuda:
        block = batch = min(batch, GPU_BATCH)
    for start in range(0, len(measurements), batch):
        rows = list(range(start, min(start + batch, len(measurements))))
        yield len(rows), measurements.select(rows + rows[-1:] * (-len(rows) % block)).on(measurements.y.device)


def check_same_type(model: Eps, measurements: Measurements) -> None:
    """Refuses measurements in float64 for a network that is not, which it would meet with a raw error."""
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if weights is not None and measurements.y.dtype.itemsize > weights.dtype.itemsize > 2:
        raise ValueError(
            f"y holds {measurements.y.dtype} and the network {weights.dtype}; make Measurements of y.float()"
        )

r"""Choosing DPS's guidance scale lambda without a clean picture.

A rule of :mod:`emlib.guidance.rules` scores a scale on a few pictures, :func:`search` looks for the least score in
few runs, and :func:`searched_dps` does so anew in each EM iteration. :func:`sweep` runs a whole grid, and
:func:`oracle` takes the best of it by the truth: both for figures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emlib.diffusion import Eps, SampleStep
from emlib.guidance import rules
from emlib.guidance.rules import RULES
from emlib.operators import Measurements
from emlib.posterior import BLOCK, dps, reconstruct
from emlib.posterior.base import NotFinite
from emlib.schedule import Schedule

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The grid a search walks on by default, for the plain norm of one picture."""


PROBE = 32
"""Pictures that a search looks at."""


CALLS = 6
"""Scores that a search asks for at most: 6 runs of 32 pictures are less than a fifth of an E-step of 1,000."""


@dataclass(frozen=True)
class Tried:
    """A scale and its score; infinity where the sampler went astray."""

    scale: float
    score: float


def search(
    score: Callable[[float], float],
    scales: Iterable[float] = SCALES,
    start: float | None = None,
    calls: int = CALLS,
) -> Iterator[Tried]:
    """Looks for the least score (EMDiffusion, eq. 12): walks on the grid while the score falls, then halves the step.

    The paper's score is the residual || y - A x ||^2 of whole posterior samples; here any rule's will do.

    The grid is thus searched to half its step in log lambda, and no more of it than needed. If the score
    has one valley and ``calls`` suffice, every start ends at the same scale.

    Args:
        score: lambda -> what to make small.
        scales: the grid, each above 0.
        start: walk from the grid's scale nearest to this one, such as the last EM iteration's; by default
            from the middle.
        calls: scores to ask for, at most.

    Yields:
        Each scale with its score; the least of them is the answer.

    Raises:
        ValueError: if a scale or the start is not above 0, or ``calls`` is less than 1.
    """
    grid = sorted(set(check_scales(scales)))
    if calls < 1:
        raise ValueError(f"a search needs at least one call, got calls={calls}")
    if start is None:
        start = grid[(len(grid) - 1) // 2]
    (start,) = check_scales([start])
    known: dict[float, float] = {}

    def look(scale: float) -> Iterator[Tried]:
        if scale not in known and len(known) < calls:
            value = float(score(scale))
            known[scale] = value if math.isfinite(value) else math.inf
            yield Tried(scale, known[scale])

    def best() -> float:
        return min(known, key=known.__getitem__)

    first = min(range(len(grid)), key=lambda i: abs(math.log(grid[i] / start)))
    yield from look(grid[first])
    for way in (-1, 1):
        i = first + way
        while 0 <= i < len(grid):
            yield from look(grid[i])
            if best() != grid[i] and known[best()] < math.inf:  # the score rose: stop
                break
            i += way
        if best() != grid[first]:  # one way went down, so the other goes up
            break
    at = grid.index(best())
    sides = [grid[i] for i in (at - 1, at + 1) if 0 <= i < len(grid)]
    for side in sorted(sides, key=lambda side: known.get(side, math.inf)):
        # halfway in log lambda: sqrt(lambda_1 lambda_2), towards the better neighbour first
        middle = math.sqrt(side * grid[at])
        yield from look(middle)
        if best() == middle:
            break


def check_scales(scales: Iterable[float]) -> list[float]:
    """Refuses candidates that are no finite numbers above 0."""
    scales = list(scales)
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"candidates for the guidance scale must be above 0, got {scales}")
    return scales


@dataclass
class SearchedDPS:
    """An E-step that keeps the last EM iteration's scale to start the next search from (see :func:`searched_dps`).

    Attributes:
        tried: scales and scores of the latest search.
        network_calls: spent on searches so far, counted for each picture, those that fill up a batch included.
        last: the scale that the latest search chose; None before the first one, which then starts in the
            middle of the grid, also when a run resumes.
        say: is told the scale in words after each search, where given.
        sampler: takes steps and scale, as :func:`emlib.posterior.dps` does.
    """

    rule: str
    probe: Measurements
    schedule: Schedule
    steps: int
    seed: int
    scales: list[float]
    tried: list[Tried] = field(default_factory=list)
    network_calls: int = 0
    last: float | None = None
    say: Callable[[str], None] | None = None
    sampler: Callable[..., Iterator[SampleStep]] = dps

    def __call__(self, prior: Eps, k: int) -> functools.partial[Iterator[SampleStep]]:
        def run(scale: float, measurements: Measurements, sample: int) -> Tensor:
            n = len(measurements)
            self.network_calls += self.steps * -(-n // BLOCK) * BLOCK
            sampler = functools.partial(self.sampler, steps=self.steps, scale=scale)
            purpose = f"probe {k} sample {sample}"
            try:
                return torch.cat(list(reconstruct(sampler, prior, self.schedule, measurements, self.seed, purpose, n)))
            except NotFinite:  # the worst of scores, and the search goes on elsewhere
                return torch.full((n, *measurements.image_shape), math.nan, device=measurements.y.device)

        score = functools.partial(RULES[self.rule], run, self.probe, self.seed)
        self.tried = list(search(score, self.scales, self.last))
        best = min(self.tried, key=lambda tried: tried.score)
        if best.score == math.inf:
            raise ValueError(
                f"DPS gave no finite picture at the guidance scales {[t.scale for t in self.tried]} of EM iteration "
                f"{k}; try smaller scales or look at the prior"
            )
        self.last = best.scale
        if self.say:
            self.say(f"E-step {k}: guidance scale {best.scale:g} by {self.rule}")
        return functools.partial(self.sampler, steps=self.steps, scale=best.scale)


def searched_dps(
    rule: str,
    probe: Measurements,
    schedule: Schedule,
    steps: int,
    seed: int,
    scales: Iterable[float] = SCALES,
    sampler: Callable[..., Iterator[SampleStep]] = dps,
) -> SearchedDPS:
    """An E-step that looks for DPS's scale anew in each EM iteration, on a few pictures.

    Args:
        rule: one of :data:`RULES`; "auto" picks by the measurements (:func:`emlib.guidance.rules.pick`).
        probe: measurements of the few pictures; a rule that takes two runs for a score looks at half of them.
        schedule: the noise levels.
        steps: network calls of a posterior sample.
        seed: seed of the probe's random streams.
        scales: the grid of :func:`search`.
        sampler: :func:`emlib.posterior.dps`, or another one that takes steps and scale.

    Returns:
        (prior, number of the EM iteration) -> the sampler with steps and scale filled in.

    Raises:
        ValueError: if there is no such rule, the measurements do not feed it, or a scale is not above 0.
    """
    rules.check(rule, probe)
    few = probe.select(range(max(1, len(probe) // rules.runs(rule, probe))))
    return SearchedDPS(rule, few, schedule, steps, seed, check_scales(scales), sampler=sampler)

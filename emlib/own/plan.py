r"""How much of an order fits into its minutes: squares to learn from, network, updates, draws of each picture."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from emlib.own.order import SIDES, Found, Order
from emlib.own.repair import FINER, solver, squares
from emlib.planning import budgets
from emlib.planning.budgets import timed_here
from emlib.planning.minutes import plan_minutes
from emlib.planning.plan import Plan, plan_in
from emlib.runs.presets import Preset, preset
from emlib.runtime.numbers import is_whole

OVERLAP = 4
"""Squares that each pixel lies in, on average, where squares are plenty."""
START = 0.25
"""Share of the updates for the first prior, which learns from as many pictures as all others."""
ITERATIONS = 2
"""EM iterations where a filter's pictures begin: they are so near that a third gains less than longer M-steps do. On
200 photographs of which 60 % was missing the mean of draws was 0.5 dB ahead of the filter after two iterations in 14
minutes, and 0.3 after three in 11."""
DRAWS = range(2, 9)
"""Draws of each picture, at least and at most."""
SHARE = 0.2
"""Share of the time for the repairs themselves, where more draws than the fewest are made."""
JUDGED = 48
"""Pictures that judge, at most."""
SHOWN = 64
"""Squares drawn from the last prior: the report shows them, and compares them with the clean ones."""


@dataclass(frozen=True)
class OwnPlan:
    """What the time suffices for.

    Attributes:
        em: network, observations and updates.
        side: of the squares that it learns from.
        clean: clean squares that EM starts from; 0 without clean pictures.
        draws: of each picture.
    """

    em: Plan
    side: int
    clean: int
    draws: int

    def __post_init__(self) -> None:
        """It may come from a file, where anything may stand."""
        if bad := [x for x in (self.side, self.clean, self.draws) if not is_whole(x) or x < 0]:
            raise ValueError(f"a plan takes whole numbers of 0 or more, got {bad[0]!r:.80}")

    def sizes(self, channels: int) -> Preset:
        """As a preset: all that EM is told."""
        p = self.em.sizes(base(self.side, channels, self.clean or 1, 1))
        return replace(p, em=replace(p.em, clean_copies=0))  # what EM begins with is not all clean


def base(side: int, channels: int, clean: int, held_out: int) -> Preset:
    """The preset that a plan departs from."""
    p = preset("pocket")
    unet = replace(p.unet, in_channels=channels)
    em = replace(p.em, flip=True)
    return replace(p, name="own", size=side, unet=unet, em=em, clean=clean, held_out=held_out, samples=SHOWN)


def make_plan(order: Order, found: Found, device: str, begin: float) -> OwnPlan:
    """Times this machine and shares out the order's minutes.

    Args:
        order, found: what is to be done, and what there is.
        device: where the network is.
        begin: moment of ``time.perf_counter`` at which the time began.

    Raises:
        ValueError: if the time does not suffice.
    """
    channels, side = found.y[0].shape[0], found.side if device == "cuda" and order.start != "gaussian" else SIDES[0]
    area = sum(h * w for h, w in found.sizes)
    there = max(len(found.y), round(OVERLAP * area / side**2))
    good = sum(x.shape[-2] * x.shape[-1] for x in found.clean)
    clean = max(len(found.clean), round(OVERLAP * good / side**2)) if order.start == "clean" else 0
    timed = cache(timed_here(base(side, channels, 1, 1), device))
    # every picture, and those that judge once more
    down, across = found.frame.border
    whole = squares([(h + down, w + across) for h, w in found.sizes], side, budgets.BUDGETS[-1].unet.stride)
    calls, steps = solver(found.frame, found.noise_std, FINER * budgets.BUDGETS[-1].e_steps)
    # passes of a draw, as many backward as the solver has steps, for those of an E-step
    whole *= calls * (1 + steps) / (2 * budgets.BUDGETS[-1].e_steps)
    whole *= 1 + min(JUDGED, len(found.y)) / len(found.y)
    affordable = int(SHARE * 60 * order.minutes / (whole * timed(budgets.BUDGETS[-1]).picture))
    draws = order.draws or min(DRAWS[-1], max(DRAWS[0], affordable // 2 * 2))
    p = base(side, channels, max(clean, 1), round(whole * draws))
    iterations = None if order.start == "gaussian" else ITERATIONS
    shares = plan_minutes(p, order.minutes, there, timed, time.perf_counter() - begin, START, iterations)
    return OwnPlan(shares, side, clean, draws)


def kept(folder: Path) -> OwnPlan | None:
    """The plan of an order that has begun, if it has."""
    return plan_in(folder, lambda said: OwnPlan(**{**said, "em": Plan(**said["em"])}))

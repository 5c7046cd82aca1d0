r"""Choosing DPS's guidance scale lambda without a clean picture.

A rule looks at what a scale did to a few pictures (a :class:`Trial`) and never at the truth. The paper
takes the least residual (eq. 12); where the measurements are noisy, the discrepancy rule asks instead
that the residual be as large as the noise, neither larger (y ignored) nor smaller (noise copied).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emlib.operators import Measurements, measured
from emlib.posterior import dps, reconstruct
from emlib.schedule import Schedule

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The grid a search tries by default, for the plain norm of one picture."""
PROBE = 32
"""Pictures that a search looks at."""


@dataclass(frozen=True)
class Trial:
    """What one scale did.

    Attributes:
        scale: lambda.
        residual: || y - A x || of each picture, [B].
        x: the reconstructions, [B, C, H, W] on [-1, 1].
    """

    scale: float
    residual: Tensor
    x: Tensor


def sweep(run: Callable[[float], Tensor], probe: Measurements, scales: Iterable[float] = SCALES) -> Iterator[Trial]:
    """Reconstructs a few pictures with each scale in turn.

    Args:
        run: lambda -> reconstructions of the probe, [B, C, H, W].
        probe: measurements of a few pictures.
        scales: candidates, each above 0.

    Raises:
        ValueError: if a candidate is not above 0.
    """
    scales = list(scales)
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(f"candidates for the guidance scale must be above 0, got {scales}")
    for scale in scales:
        x = run(scale)
        yield Trial(scale, (probe.y - probe.operator(x)).flatten(1).norm(dim=1), x)


def least_residual(trials: list[Trial]) -> float:
    r"""The paper's rule: lambda* = argmin E || y - A x_lambda ||^2 (EMDiffusion, eq. 12)."""
    return min(trials, key=lambda trial: float(trial.residual.square().mean())).scale


def discrepancy(trials: list[Trial], probe: Measurements) -> float:
    r"""Morozov's rule: the residual of the truth is the noise, so look for a residual of that size.

    Args:
        trials: from :func:`sweep` over the same probe.
        probe: the measurements, with noise.

    Returns:
        The scale whose mean squared residual is nearest, as a ratio, to that of the noise.

    Raises:
        ValueError: if there is no noise to compare with.
    """
    check_noisy(probe)
    # E || y - A x ||^2 = m noise_std^2 for the true x and m measured numbers
    numbers = measured(probe.operator, probe.y).flatten(1).sum(dim=1)
    expected = numbers * probe.noise_std**2
    ratio = [float((trial.residual.square() / expected).mean().clamp_min(1e-12).log().abs()) for trial in trials]
    return trials[ratio.index(min(ratio))].scale


def check_noisy(probe: Measurements) -> None:
    """Refuses measurements without noise, which the discrepancy rule cannot use."""
    if probe.noise_std == 0:
        raise ValueError("the discrepancy rule compares with the noise, but noise_std is 0; use least_residual")


RULES = ("residual", "discrepancy")
"""Names that :func:`searched_dps` knows."""


def searched_dps(
    rule: str, probe: Measurements, schedule: Schedule, steps: int, seed: int, scales: Iterable[float] = SCALES
) -> Callable[[nn.Module, int], functools.partial]:
    """An E-step that looks for DPS's scale anew in each EM iteration, on a few pictures.

    Args:
        rule: "residual" for :func:`least_residual`, or "discrepancy".
        probe: measurements of the few pictures.
        schedule: the noise levels.
        steps: network calls of a posterior sample.
        seed: seed of the probe's random streams.
        scales: candidates.

    Returns:
        (prior, number of the EM iteration) -> :func:`emlib.posterior.dps` with steps and scale filled in.

    Raises:
        ValueError: if there is no such rule, or the discrepancy rule has no noise to compare with.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r} for the guidance scale; there are {' and '.join(RULES)}")
    if rule == "discrepancy":
        check_noisy(probe)

    def e_step(prior: nn.Module, k: int) -> functools.partial:
        def run(scale: float) -> Tensor:
            sampler = functools.partial(dps, steps=steps, scale=scale)
            return torch.cat(list(reconstruct(sampler, prior, schedule, probe, seed, f"probe {k}", len(probe))))

        trials = list(sweep(run, probe, scales))
        chosen = least_residual(trials) if rule == "residual" else discrepancy(trials, probe)
        return functools.partial(dps, steps=steps, scale=chosen)

    return e_step

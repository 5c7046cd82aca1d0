r"""What a guidance scale is worth, judged from the measurements alone: the smaller the score, the better.

Every rule has one signature, ``rule(run, probe, seed, scale)``, and meets the truth nowhere. Where its
formula promises the error "up to a constant", the constant is the same for all scales, since each
scale meets the same withheld pixels, the same added noise and the same random streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators import Measurements, Operator
from emlib.runtime.rng import randn, streams

Run = Callable[[float, Measurements, int], Tensor]
"""(lambda, measurements, number of the sample) -> reconstructions; the same number, the same random streams."""


SHARE = 0.1
"""Share of the measured pixels that is withheld."""


SAMPLES = 2
"""Samples that :func:`held_out` averages."""


STRENGTH = 0.5
"""Noise that recorruption adds, as a share of the noise that is there: a in the formulas."""


FLOOR = 0.05
"""Least error, as a share of the noise's variance, that is believed of a picture."""


LEAST = 1e-5
"""And without noise: 53 dB."""


PILOT = 1.0
"""Scale of the stand-ins that :func:`bootstrap` takes for the truth."""


def residual(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    r"""|| y - A x ||^2 a number (EMDiffusion, eq. 12). Without noise only: x = y has none."""
    return _mean((probe.y - probe.operator(run(scale, probe, 0))).square(), probe.operator.seen(probe.y))


def discrepancy(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    r"""| log(|| y - A x ||^2 / (m noise_std^2)) | (Morozov 1966): the truth's residual is the noise."""
    return abs(math.log(max(residual(run, probe, seed, scale) / probe.noise_std**2, 1e-12)))


def held_out(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    r"""Error of the mean of samples on pixels withheld from the guidance (cross-validation).

    A single sample's error also counts its own spread; a mean of S samples counts a share 1/S of it.
    Up to noise_std^2 this is the error where nothing was measured, and says nothing of where it was.
    """
    seen = probe.operator.seen(probe.y)
    part, keep = withhold(probe, seed)
    x = torch.stack([run(scale, part, sample) for sample in range(SAMPLES)]).mean(dim=0)
    return _mean((probe.y - probe.operator(x)).square(), seen - keep)


def recorrupted(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    """Mean of the estimated errors in decibels, the negative of a PSNR (see :func:`recorrupted_error`)."""
    return _decibels(recorrupted_error(run, probe, seed, scale), probe)


def recorrupted_error(run: Run, probe: Measurements, seed: int, scale: float) -> Tensor:
    r"""|| A (x(y1) - truth) ||^2 a number, estimated (Recorrupted-to-Recorrupted, Pang et al. 2021), [B].

    E || y2 - A x(y1) ||^2 is it plus noise_std^2 (1 + 1/a^2), as y1 and y2 have independent noises; and
    noise_std^2 / a^2 of that is || z / a ||^2, which is known for each picture: we added z ourselves.
    The error is that at noise larger by sqrt(1 + a^2).
    """
    seen = probe.operator.seen(probe.y)
    first, second = recorrupt(probe, seed)
    squares = (second - probe.operator(run(scale, first, 0))).square() - (second - probe.y).square()
    return (squares * seen).flatten(1).sum(dim=1) / seen.flatten(1).sum(dim=1) - probe.noise_std**2


def sure(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    r"""Stein's unbiased risk estimate (Stein 1981), with the divergence by one probe (Ramani et al. 2008).

    || y - x ||^2 / m - noise_std^2 + 2 noise_std^2 / m div_y x,   div_y x = <b, x(y + h b) - x(y)> / h

    Defined where A is the identity, the noise is Gaussian and x is (almost) differentiable in y with
    the random streams held fixed. Both runs draw the same streams; h is a tenth of noise_std.
    """
    b = randn(streams(seed, "divergence", probe.index), tuple(probe.y.shape[1:]), probe.y.device)
    h = 0.1 * probe.noise_std
    x, moved = run(scale, probe, 0), run(scale, probe.changed(y=probe.y + h * b), 0)
    div = (b * (moved - x)).mean() / h  # of each number
    return float((probe.y - x).square().mean() + probe.noise_std**2 * (2 * div - 1))


def whole(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    """Mean of the whole pictures' estimated errors in decibels (see :func:`whole_error`); for masks."""
    return _decibels(whole_error(run, probe, seed, scale), probe)


def whole_error(run: Run, probe: Measurements, seed: int, scale: float) -> Tensor:
    r"""Squared error of whole pictures, estimated: hidden pixels and seen ones, each by its share, [B].

    f || x - truth ||^2 on the withheld pixels, which stand for the hidden ones, a share f of the picture,
    + (1 - f) || x - truth ||^2 on the others (by :func:`recorrupt`; without noise simply the residual).
    The sampler sees a tenth less. One sample, as the E-step keeps one: its spread is part of its error.
    """
    seen = probe.operator.seen(probe.y)
    first, second = recorrupt(probe, seed)
    part, keep = withhold(first, seed)
    Ax = probe.operator(run(scale, part, 0))
    noise, n = probe.noise_std**2, seen.flatten(1).sum(dim=1)
    withheld = ((probe.y - Ax).square() - noise) * (seen - keep)
    others = ((second - Ax).square() - (second - probe.y).square() - noise) * keep
    # each sum over the number expected in it, since a small picture may have none withheld
    withheld = withheld.flatten(1).sum(dim=1) / (SHARE * n)
    others = others.flatten(1).sum(dim=1) / ((1 - SHARE) * n)
    f = 1 - n / seen[0].numel()
    return f * withheld + (1 - f) * others


def _decibels(error: Tensor, probe: Measurements) -> float:
    """Mean over pictures as in PSNR, so that one bad picture does not rule it.

    An estimated error may come out negative; none is believed to be below a share of the noise.
    """
    return float(10 * error.clamp_min(max(FLOOR * probe.noise_std**2, LEAST)).log10().mean())


def bootstrap(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    r"""|| x(y') - x' ||^2 a number for stand-ins x' of the truth (parametric bootstrap, Efron 1979).

    x' are reconstructions at the scale :data:`PILOT`, y' = A x' + n' are measurements of them. So the error
    is known in the whole picture, also in what A destroyed. The prior likes x' better than the truth, so
    the error is too small: the rule is right as far as both want the same scale.
    """
    x = run(PILOT, probe, 0)
    n = randn(streams(seed, "bootstrap", probe.index), tuple(probe.y.shape[1:]), probe.y.device)
    y = probe.operator(x) + probe.noise_std * n * probe.operator.seen(probe.y)
    return float((run(scale, probe.changed(y=y), 1) - x).square().mean())


def pick(probe: Measurements) -> str:
    """The rule for these measurements: "whole" for masks, "recorrupted" with noise, otherwise "bootstrap"."""
    return probe.operator.rule(probe.noise_std)


def runs(rule: str, probe: Measurements) -> int:
    """Runs of the sampler that one score takes."""
    return {"held_out": SAMPLES, "sure": 2, "bootstrap": 2}.get(pick(probe) if rule == "auto" else rule, 1)


def auto(run: Run, probe: Measurements, seed: int, scale: float) -> float:
    """The score by the rule that :func:`pick` names."""
    return RULES[pick(probe)](run, probe, seed, scale)


RULES = {rule.__name__: rule for rule in (auto, residual, discrepancy, held_out, recorrupted, sure, whole, bootstrap)}
"""The rules by name."""


NOISY = ("discrepancy", "recorrupted", "sure")
"""Rules that work with the noise."""


SPECIAL = {"sure": "noise alone", "whole": "masks"}
"""Rules that hold for some operators only, those that list them (:attr:`emlib.operators.Operator.rules`)."""


def check(rule: str, probe: Measurements) -> None:
    """Refuses a rule that there is not, or that these measurements cannot feed.

    Raises:
        ValueError: with the remedy.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r} for the guidance scale; there are {', '.join(RULES)}")
    if not len(probe):
        raise ValueError("a guidance scale is judged on some pictures, but the probe has 0; select at least one")
    if rule in NOISY and probe.noise_std == 0:
        raise ValueError(f"the rule {rule!r} works with the noise, but noise_std is 0; use residual or auto")
    if rule in SPECIAL and rule not in probe.operator.rules:
        raise ValueError(
            f"{rule} is defined for {SPECIAL[rule]}, but the operator is {probe.operator.name!r}; use auto"
        )


def recorrupt(probe: Measurements, seed: int) -> tuple[Measurements, Tensor]:
    """Splits noisy measurements in two with independent noises: (y1 to guide with, y2 to score against)."""
    z = randn(streams(seed, "recorruption", probe.index), tuple(probe.y.shape[1:]), probe.y.device)
    z = probe.noise_std * z * probe.operator.seen(probe.y)
    # y1 = y + a z,   y2 = y - z / a,   Cov(n + a z, n - z / a) = noise_std^2 - noise_std^2 = 0
    a = STRENGTH
    first = probe.changed(y=probe.y + a * z, noise_std=probe.noise_std * math.sqrt(1 + a**2))
    return first, probe.y - z / a


def withhold(probe: Measurements, seed: int) -> tuple[Measurements, Tensor]:
    """Hides a random tenth of what was measured, all channels of a pixel together.

    Returns:
        The measurements that are left, and 1 where they are, [B, C, H, W].

    Raises:
        ValueError: if the pictures are too few and small for a tenth of them.
    """
    seen = probe.operator.seen(probe.y)
    generators = streams(seed, "withheld", probe.index)
    u = torch.stack([torch.rand((1, *seen.shape[2:]), generator=g) for g in generators]).to(seen)
    keep = seen * (u >= SHARE)
    if not 0 < keep.sum() < seen.sum():
        raise ValueError(f"no tenth can be withheld of {int(seen.sum())} measured numbers; take more pictures")
    return probe.changed(y=keep * probe.y, operator=Kept(probe.operator, keep)), keep


@dataclass(frozen=True)
class Kept(Operator):
    """K A x with K = 1 where a number is kept and 0 where it is withheld."""

    operator: Operator
    keep: Tensor
    name: ClassVar[str] = "kept"

    def __call__(self, x: Tensor) -> Tensor:
        return self.keep * self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(self.keep * y)

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return self.operator.image_shape(y_shape)

    def seen(self, y: Tensor) -> Tensor:
        return self.keep.to(y) * self.operator.seen(y)

    def select(self, rows: Sequence[int]) -> Kept:
        return Kept(self.operator.select(rows), self.keep[rows])

    def tensors(self) -> dict[str, Tensor]:
        return {**self.operator.tensors(), "keep": self.keep}


def _mean(values: Tensor, where: Tensor) -> float:
    return float((values * where).sum() / where.sum())

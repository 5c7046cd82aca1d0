r"""Who mends best, told without the truth: something of what was measured is withheld, and asked for.

Gaps are judged by pixels that were seen and are withheld. Noise is judged by splitting it: y + a z is mended, where z
is fresh noise of the same standard deviation, and held against y - z / a, whose noise has nothing to do with that of
y + a z (Pang et al. 2021, as lambda is judged in chapter 6). A filter asked for a withheld pixel would first have to
fill it in, and would be judged for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emlib.own.blur import Frame
from emlib.own.filters import methods
from emlib.runtime.rng import streams

SHARE = 0.05
"""Share of the seen pixels that is withheld: few, since neither prior nor filter gets them."""
SAMPLES = 2000
"""Bootstrap samples of an interval."""


def withhold(seen: Sequence[Tensor], seed: int, share: float = SHARE) -> list[Tensor]:
    """Pixels to withhold of each picture, [1, H, W] bool each: a random share of those seen, at least one.

    Args:
        seen: [1, H, W] bool of each picture.
        seed: seed of the draw; each picture has its own stream.
        share: how many, in (0, 1).
    """
    found = []
    for mask, g in zip(seen, streams(seed, "withheld", range(len(seen))), strict=True):
        rows = mask.flatten().nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=g)[: max(1, round(share * len(rows)))]]
        out = torch.zeros(mask.numel(), dtype=torch.bool)
        out[rows] = True
        found.append(out.view_as(mask))
    return found


SPLIT = 0.5
"""a, the share of fresh noise: what is mended has sqrt(1 + a^2) of the noise."""


@dataclass(frozen=True)
class Question:
    """A picture as those are given it who are judged, and what their answer is held against.

    Attributes:
        y: [C, H, W] on [-1, 1], with fresh noise where there is noise.
        seen: [1, H, W] bool, without what is withheld.
        noise_std: of y.
        withheld: [C, H, W], what was measured at the pixels ``asked`` for.
        asked: [1, H, W] bool.
        split: [C, H, W], y - z / a.
        std: standard deviation of the picture's own noise.
        missing: share of the pixels that nobody saw.
        frame: how the picture was blurred; its answer is blurred likewise, since the rest nobody measured.
    """

    y: Tensor
    seen: Tensor
    noise_std: float
    withheld: Tensor
    asked: Tensor
    split: Tensor
    std: float
    missing: float
    frame: Frame

    def error(self, x: Tensor) -> float:
        """Mean squared error of an answer [C, H, W] over the whole picture, as far as it can be told."""
        found, Ax = 0.0, self.frame.seen_through(x)
        if self.hidden:
            # E|A x - y|^2 = E|A x - A x_0|^2 + std^2 at a pixel that x knows nothing of
            found += self.hidden * (_mse(Ax, self.withheld, self.asked) - self.std**2)
        if self.std:
            # E|A x - (y - z / a)|^2 = E|A x - A x_0|^2 + std^2 (1 + 1 / a^2)
            found += (1 - self.hidden) * (_mse(Ax, self.split, self.seen) - self.std**2 * (1 + SPLIT**-2))
        return found

    @property
    def hidden(self) -> float:
        """Share of the answer that withheld pixels stand for; all of it where there is a blur and no noise."""
        return 1.0 if self.frame.kernel is not None and not self.std else self.missing


def tells(seen: Tensor, asked: Tensor, frame: Frame, noise_std: float) -> bool:
    """Whether a picture has anything to mend, and anything left within a blur's border to hold an answer against.

    Args:
        seen, asked, frame, noise_std: as for :func:`questions`, of one picture.
    """
    told, gaps = frame.told(*seen.shape[-2:]), not bool(seen.all())
    by_pixels = gaps or (frame.kernel is not None and not noise_std)
    parts = ([asked] if by_pixels else []) + ([seen & ~asked if gaps else seen] if noise_std else [])
    return bool(parts) and all(bool((told & part).any()) for part in parts)


def questions(
    y: Sequence[Tensor],
    seen: Sequence[Tensor],
    asked: Sequence[Tensor],
    frame: Frame,
    noise_std: float,
    seed: int,
) -> list[Question]:
    """What each picture's answer will be held against.

    Args:
        y: [C, H, W] of each picture on [-1, 1].
        seen: [1, H, W] bool of each, what was measured.
        asked: [1, H, W] bool of each, what is withheld of it.
        frame: how they were blurred, if they were.
        noise_std: standard deviation of the noise on [-1, 1].
        seed: seed of the fresh noise.
    """
    found = []
    for one, mask, out, g in zip(y, seen, asked, streams(seed, "split", range(len(y))), strict=True):
        z = noise_std * torch.randn(one.shape, generator=g)
        missing = 1 - float(mask.float().mean())
        pure = not missing and noise_std > 0  # noise alone is judged by its split, and nothing need be withheld
        kept = mask if pure else mask & ~out
        std = noise_std * (1 + SPLIT**2) ** 0.5
        found.append(
            Question((one + SPLIT * z) * kept, kept, std, one, out, one - z / SPLIT, noise_std, missing, frame)
        )
    return found


def _mse(x: Tensor, y: Tensor, where: Tensor) -> float:
    return float((x - y)[where.expand_as(y)].square().nanmean())


LOST = 1e-9
"""Mean squared error, on [-1, 1], that counts as none: one less its noise may fall to zero and below."""


@dataclass(frozen=True)
class Judgement:
    """What each way to mend came to.

    Attributes:
        errors: way -> mean squared error of each picture judged, on the [-1, 1] scale.
        strengths: filter -> the strength that did best.
    """

    errors: Mapping[str, tuple[float, ...]]
    strengths: Mapping[str, float]

    def mean(self, way: str) -> float:
        """Mean squared error of a way over the pictures."""
        return float(np.mean(self.errors[way]))

    def is_lost(self, way: str) -> bool:
        """Whether nothing is left of a way's error once the noise is taken off, so that no lead can be told in dB."""
        return self.mean(way) <= LOST

    @property
    def filter(self) -> str:
        """The best filter."""
        return min(self.strengths, key=self.mean)

    def lead(self, way: str, over: str) -> tuple[float, float, float]:
        """How far one way is ahead of another, in dB, with the ends of its 95 % bootstrap interval over pictures."""
        a, b = (np.array(self.errors[name]) for name in (way, over))
        rows = np.random.default_rng(0).integers(len(a), size=(SAMPLES, len(a)))
        many = 10 * np.log10(np.maximum(b[rows].mean(1), LOST) / np.maximum(a[rows].mean(1), LOST))
        whole = 10 * np.log10(max(b.mean(), LOST) / max(a.mean(), LOST))
        low, high = np.quantile(many, [0.025, 0.975])
        return float(whole), float(low), float(high)

    @property
    def recommended(self) -> str:
        """The way with the least error among the mean of draws and the filters."""
        return min(("mean", *self.strengths), key=self.mean)


def judge_filters(asked: Sequence[Question]) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
    """Errors of each classical method at its best strength, and that strength."""
    errors, strengths = {}, {}
    for method in methods(asked[0].noise_std, asked[0].frame):
        tried = {
            strength: tuple(q.error(mend(method.name, q.y, q.seen, q.noise_std, strength, q.frame)) for q in asked)
            for strength in method.strengths
        }
        strengths[method.name] = min(tried, key=lambda s: float(np.mean(tried[s])))
        errors[method.name] = tried[strengths[method.name]]
    return errors, strengths


def mend(name: str, y: Tensor, seen: Tensor, noise_std: float, strength: float, frame: Frame) -> Tensor:
    """One picture by the classical method of this name, [C, H, W] on [-1, 1]."""
    method = next(m for m in methods(noise_std, frame) if m.name == name)
    done = method.mend(y.numpy(), seen[0].numpy(), noise_std, strength)
    return torch.from_numpy(np.asarray(done, dtype=np.float32)).clamp(-1, 1)

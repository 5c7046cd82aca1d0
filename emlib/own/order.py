r"""What ``emlib restore`` is told, and what it finds: pictures on one scale, gaps, noise, and pixels to withhold."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emlib.data.listing import Trouble
from emlib.own.blur import Frame, kernel_of
from emlib.own.listing import list_pictures
from emlib.own.noise import estimate_noise
from emlib.own.pictures import Picture
from emlib.own.reading import read_folder
from emlib.own.scale import Scale, find_scale
from emlib.own.withheld import withhold
from emlib.runs.job import STARTS

SMALLEST = 16
"""Least height and width of a picture that is repaired, in pixels."""
SIDES = (32, 48, 64)
"""Sides of the squares that a network may be trained on."""


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        broken: folder of broken pictures, or one picture.
        out: folder for all that is made; never the one that the pictures lie in.
        clean: folder of a few good pictures of the same kind, if there are any.
        blur: word for a kernel (:func:`emlib.own.blur.kernel_of`); empty where nothing is blurred.
        noise: standard deviation of the noise in the files' own units; None to have it estimated, 0 for none.
        start: one of :data:`emlib.runs.job.STARTS`.
        minutes: how long it may take.
        missing: value that stands for a missing pixel, if one does.
        masks: folder of masks, white where a pixel was seen.
        truth: folder of the originals, read for scores alone.
        draws: draws of each picture; None leaves that to the plan.
        seed: seed of everything random.
    """

    broken: Path
    out: Path
    clean: Path | None = None
    blur: str = ""
    noise: float | None = 0.0
    start: str = "clean"
    minutes: float = 20.0
    missing: float | None = None
    masks: Path | None = None
    truth: Path | None = None
    draws: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"unknown start {self.start!r}; there are {', '.join(STARTS)}")
        if self.start == "clean" and self.clean is None:
            raise ValueError(
                "name a folder of a few good pictures with --clean, or begin without any: --start preprocessed "
                "(filtered pictures) or --start gaussian"
            )
        if self.noise is not None and self.noise < 0:
            raise ValueError(f"the noise's standard deviation must be 0 or more, got {self.noise}")
        if not 0 < self.minutes < inf:
            raise ValueError(f"--minutes takes a number above 0, got {self.minutes}")
        if self.draws is not None and self.draws < 2:
            raise ValueError(f"a mean and its uncertainty take at least two draws, got {self.draws}")
        inside = Path(os.path.realpath(self.out))
        for place in filter(None, (self.broken, self.clean, self.masks, self.truth)):
            real = Path(os.path.realpath(place))
            if inside == real or inside in real.parents or real in inside.parents:
                raise ValueError(f"{self.out} and {place} lie in one another; name another folder with --out")
        whole = Path(os.path.realpath(self.broken))
        for place in filter(None, (self.clean, self.truth)):
            real = Path(os.path.realpath(place))
            if whole in real.parents:
                raise ValueError(f"{place} lies in {self.broken}, whose pictures all count as broken; move it out")

    def about(self) -> dict[str, Any]:
        """All that numbers depend on, for the run's folder; time and truth change none."""
        free = ("out", "minutes", "truth", "draws")
        return {key: str(x) if isinstance(x, Path) else x for key, x in asdict(self).items() if key not in free}


@dataclass(frozen=True)
class Found:
    """What was read, as tensors on [-1, 1].

    Attributes:
        pictures: the broken ones, as files have them.
        troubles: files that could not be used, and why.
        y: [C, H, W] of each, gaps read 0.
        seen: [1, H, W] bool of each.
        asked: [1, H, W] bool of each: seen, and withheld until the end.
        clean: [C, H, W] of each good picture.
        scale: the files' units on [-1, 1].
        frame: how they were blurred, if they were.
        noise_std: on the [-1, 1] scale.
        said: what a reader ought to know of all this.
    """

    pictures: list[Picture]
    troubles: list[Trouble]
    y: list[Tensor]
    seen: list[Tensor]
    asked: list[Tensor]
    clean: list[Tensor]
    scale: Scale
    frame: Frame
    noise_std: float
    said: list[str]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each picture."""
        return [(x.shape[-2], x.shape[-1]) for x in self.y]

    @property
    def kept(self) -> list[Tensor]:
        """What EM learns from: seen and not withheld."""
        return [seen & ~asked for seen, asked in zip(self.seen, self.asked, strict=True)]

    @property
    def side(self) -> int:
        """Side of the squares to train on: as large as half of the pictures allow."""
        shorter = sorted(min(size) for size in self.sizes)[len(self.sizes) // 2]
        return max((side for side in SIDES if side <= shorter), default=SIDES[0])


def find(order: Order) -> Found:
    """Reads all that the order names.

    Raises:
        ValueError: if nothing can be repaired, or the noise cannot be told.
        FileNotFoundError: if a folder is missing.
    """
    pictures, troubles = read_folder(order.broken, order.missing, order.masks)
    found, pictures = pictures, []
    for p in found:
        if min(p.pixels.shape[-2:]) < SMALLEST:
            troubles.append(Trouble(p.name, f"smaller than {SMALLEST} pixels a side; leave it out"))
        elif not p.seen.all(0).any():
            channels = ", in all its colours" if len(p.seen) > 1 else ""
            troubles.append(Trouble(p.name, f"has no pixel that was seen{channels}; leave it out"))
        else:
            pictures.append(p)
    if not pictures:
        raise ValueError(
            f"nothing in {order.broken} can be repaired: " + "; ".join(f"{t.name} {t.why}" for t in troubles)
        )
    good, more = read_folder(order.clean) if order.clean else ([], [])
    troubles += more
    scale, said = find_scale([*pictures, *good]), []
    channels = max(p.pixels.shape[0] for p in (*pictures, *good))
    noise = order.noise
    if noise is None:
        noise = estimate_noise(pictures)
        said.append(f"the noise's standard deviation was estimated: {noise:.3g} in the files' units")
    seen = [torch.from_numpy(p.seen.all(0, keepdims=True)) for p in pictures]
    y = [_tensor(p, scale, channels) * mask for p, mask in zip(pictures, seen, strict=True)]
    whole = [_tensor(p, scale, channels) for p in good if p.seen.all()]
    if order.start == "clean" and not whole:
        raise ValueError(f"no picture in {order.clean} can be used as a clean one: all have gaps, or none can be read")
    if len(whole) < len(good):
        said.append(f"{len(good) - len(whole)} pictures of {order.clean} have gaps and were left out")
    noise_std = scale.noise(noise)
    frame = Frame(kernel_of(order.blur) if order.blur else None)
    if noise_std == 0 and not order.blur and all(bool(mask.all()) for mask in seen):
        raise ValueError(
            "no pixel is missing and there is neither noise nor blur, so nothing is left to repair; name the noise "
            "with --noise, in the files' own units, the blur with --blur, or what marks a missing pixel with --missing "
            "or --masks"
        )
    if order.truth and not list_pictures(order.truth).files:
        raise ValueError(f"{order.truth} holds no picture; name the folder of the originals with --truth, or none")
    if max(frame.border) > SIDES[0] // 2:
        raise ValueError(f"a blur of {max(frame.border) + 1} pixels is too wide; up to {SIDES[0] // 2 + 1} are mended")
    return Found(pictures, troubles, y, seen, withhold(seen, order.seed), whole, scale, frame, noise_std, said)


def _tensor(picture: Picture, scale: Scale, channels: int) -> Tensor:
    """[C, H, W] on [-1, 1]; a grey picture among colour ones gets three equal channels."""
    x = scale.to_unit(picture.pixels).nan_to_num(0.0)
    return x.expand(channels, -1, -1).clone()

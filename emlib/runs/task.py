"""A task is a data set, an operator and the measurements drawn from them, all from one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emlib.data.datasets import load
from emlib.operators import Measurements, Operator, check_noise_std, find_operator, measure
from emlib.operators.registry import own_parameters
from emlib.runs.presets import Preset
from emlib.runtime.numbers import is_whole


@dataclass(frozen=True)
class Task:
    """What EM is given, and beside it what only the scores may see.

    Attributes:
        clean: [M, C, H, W] on [-1, 1], the few clean pictures.
        apart: all that the set keeps apart as clean, of which ``clean`` are the first.
        measurements: of N pictures, what EM learns from.
        held_out: measurements of pictures that EM never meets.
        truth: [N, C, H, W], originals of ``measurements``; for scores and figures only.
        held_out_truth: originals of ``held_out``; likewise.
        real: all originals of the set's corrupted part, the crowd for Fréchet distances; likewise.
        about: names and numbers that pin the task down.
    """

    clean: Tensor
    apart: Tensor
    measurements: Measurements
    held_out: Measurements
    truth: Tensor
    held_out_truth: Tensor
    real: Tensor
    about: dict[str, str | float | int]

    def on(self, device: torch.device | str) -> Task:
        """The same with what is measured on a device; what only the scores may see stays where it is."""
        return replace(self, measurements=self.measurements.on(device), held_out=self.held_out.on(device))


SEEDS = 2**32
"""Seeds lie below this, so that what is made of one fits into torch's generators."""

LOUDEST = 1000.0
"""Most noise that is taken for meant, where pictures lie on [-1, 1]."""


def check_seed(seed: object) -> None:
    """Refuses what is no seed.

    Raises:
        ValueError: naming it.
    """
    if not is_whole(seed) or not 0 <= seed < SEEDS:
        raise ValueError(f"a seed is a whole number from 0 to {SEEDS - 1}, got {seed!r:.80}")


def check_task(
    preset: Preset, operator: str | type[Operator], parameters: Mapping[str, float], noise_std: float
) -> Measurements:
    """Refuses what :func:`make_task` would, as far as no picture is needed.

    Args:
        preset: gives the pictures' size.
        operator: as for :func:`make_task`.
        parameters: of the operator, by name.
        noise_std: as for :func:`make_task`.

    Returns:
        Measurements of one black picture, to ask others with.

    Raises:
        ValueError: if a value is out of range or a name unknown.
    """
    check_noise_std(noise_std)
    if noise_std > LOUDEST:
        raise ValueError(
            f"noise_std is on the scale of pictures on [-1, 1], so {noise_std:g} is too much; see --noise-std"
        )
    kind = find_operator(operator) if isinstance(operator, str) else operator
    if kind.identity and noise_std == 0:
        raise ValueError("the noise task without noise leaves nothing to do; set noise_std, for example 0.2")
    A = kind.for_pictures(1, preset.size, 0, 0, **own_parameters(kind, parameters))
    return measure(torch.zeros(1, preset.unet.in_channels, preset.size, preset.size), A, noise_std, 0)


def make_task(
    preset: Preset,
    operator: str | type[Operator] = "mask",
    fraction: float = 0.6,
    noise_std: float = 0.0,
    seed: int = 0,
    data: str | None = None,
    **parameters: float,
) -> Task:
    """Sets up a task of a preset's size.

    Args:
        preset: gives the data set and the number of pictures.
        operator: "mask", "blur", "noise" or another of :data:`emlib.operators.registry.OPERATORS`; or an operator of
            yours: its class, or FILE.py:CLASS.
        fraction: share of hidden pixels, in (0, 1); for masks.
        noise_std: standard deviation of the noise on the [-1, 1] scale, 0 or more; above 0 for "noise".
        seed: seed of masks and noise.
        data: another data set than the preset's, as :func:`emlib.data.datasets.load` takes it.
        parameters: further ones of the operator.

    Raises:
        ValueError: if a value is out of range, the data does not fit the network or is too small.
    """
    kind = find_operator(operator) if isinstance(operator, str) else operator
    parameters = own_parameters(kind, {"fraction": fraction, **parameters})
    check_task(preset, kind, parameters, noise_std)
    channels = preset.unet.in_channels
    split = load(data or preset.data, size=preset.size, channels=channels)
    _, found, size, width = split.corrupted.shape
    if found != channels or size % preset.unet.stride or size != width:
        raise ValueError(
            f"{split.name} has {found} channel(s) of {size} x {width} pixels, but the network of preset {preset.name} "
            f"takes {channels} channel(s) and sides in multiples of {preset.unet.stride}; take another preset or data"
        )
    wanted = {"clean": preset.clean, "corrupted": preset.observations, "held_out": preset.held_out}
    for part, count in wanted.items():
        if (there := len(getattr(split, part))) < count:
            raise ValueError(
                f"preset {preset.name} needs {count} {part} pictures, but {split.name} has {there}; "
                "take a smaller preset or more pictures"
            )

    def observe(x: Tensor, first: int) -> Measurements:
        A = kind.for_pictures(len(x), size, seed, first, **parameters)
        return measure(x, A, noise_std, seed, first)

    truth, held_out = split.corrupted[: preset.observations], split.held_out[: preset.held_out]
    about: dict[str, str | float | int] = {
        "data": split.name,
        "fingerprint": split.fingerprint,
        "operator": kind.name,
        **parameters,
        "noise_std": noise_std,
        "seed": seed,
    }
    return Task(
        split.clean[: preset.clean],
        split.clean,
        observe(truth, 0),
        observe(held_out, len(split.corrupted)),  # numbered on, so that no random stream is used twice
        truth,
        held_out,
        split.corrupted,
        about,
    )

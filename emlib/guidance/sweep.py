r"""A whole grid of guidance scales, and the best of it by the truth: for figures, never inside EM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from emlib.guidance.search import SCALES, check_scales
from emlib.metrics.image import psnr
from emlib.operators import Measurements


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
    for scale in check_scales(scales):
        x = run(scale)
        yield Trial(scale, (probe.y - probe.operator(x)).flatten(1).norm(dim=1), x)


def oracle(trials: list[Trial], truth: Tensor) -> float:
    """The scale of the best PSNR. It looks at the truth: for figures, never inside EM."""
    return max(trials, key=lambda trial: float(psnr(trial.x, truth).mean())).scale

"""What EM tells while it works."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from emlib.diffusion import Eps

ENOUGH = "enough"
"""Sent to :func:`emlib.run_em`, a generator, in a training: what it has learnt so far becomes the prior.

The rate falls along a cosine to the end, so little is lost near it, and more before. The run is then complete as it is,
and not gone on with."""


@dataclass(frozen=True)
class Progress:
    """How far a stage has come."""

    iteration: int
    stage: str
    """"first prior", "E-step" or "M-step"."""
    done: int
    total: int
    value: Tensor | float = float("nan")
    """Training loss of the update, which a GPU may still be computing; nan in an E-step."""
    images: int = 1
    """Pictures, those of all processes, that stand behind each one of ``done``."""

    @property
    def loss(self) -> float:
        """Training loss of the update; waits for a GPU."""
        return float(self.value)


@dataclass(frozen=True)
class Iteration:
    """What one EM iteration made; iteration 0 is the first prior, with no reconstructions."""

    iteration: int
    reconstructions: Tensor
    """[N, C, H, W] on [-1, 1], on the CPU, drawn with the previous prior."""
    rows: tuple[int, ...]
    """Which of the measurements these are: in phase 1 perhaps a part, else all."""
    prior: Eps
    """The network after this M-step, averaged weights."""
    phase: int
    """1, weights inherited, or 2, fresh weights; 0 for the first prior."""
    scale: float | None
    """Guidance scale of the E-step, if its sampler has one."""
    seconds: float
    """Time the iteration took; what was read from disk took none."""
    updates: int | None = None
    """Updates of the prior, if they are fewer than the settings say (:data:`ENOUGH`)."""

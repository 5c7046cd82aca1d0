r"""What the EM loop is told: its sizes, and when to stop inheriting weights (EMDiffusion, section 4.3).

In phase 1 the network goes on from its last weights, on a part of the observations. In phase 2 it is trained from
fresh weights on all of them, since inherited weights keep "a memory" of early, bad reconstructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from emlib.runtime.precision import FLOAT32, Speed


@dataclass(frozen=True)
class Phases:
    """How the two phases go; the default is phase 1 alone, on everything.

    Attributes:
        subset: share of the observations in phase 1, in (0, 1]; the paper's is 0.1.
        reset_iterations: EM iterations of phase 2, after the switch; the paper has 3 on CIFAR-10.
        reset_updates: training updates of an M-step from fresh weights.
        switch_scale: phase 2 begins once lambda is below this; 1 on the paper's scale (norm of a batch of 250) is
            1 / sqrt(250) = 0.063 for the norm of one picture.
        patience: or once lambda has not decreased for more than this many iterations.
    """

    subset: float = 1.0
    reset_iterations: int = 0
    reset_updates: int = 0
    switch_scale: float = 250**-0.5
    patience: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.subset <= 1:
            raise ValueError(f"phase 1 takes a share of the observations in (0, 1], got subset={self.subset}")
        if self.reset_iterations < 0 or (self.reset_iterations > 0) != (self.reset_updates > 0):
            raise ValueError(
                "phase 2 needs both reset_iterations and reset_updates above 0, or neither, "
                f"got {self.reset_iterations} and {self.reset_updates}"
            )


@dataclass(frozen=True)
class EMSettings:
    """Sizes of the EM loop.

    Attributes:
        iterations: how often E-step and M-step alternate in phase 1.
        init_updates: training updates of the first prior, on the clean pictures.
        m_updates: training updates of one M-step.
        last_updates: those of the last one of phase 1, where there are more: the priors in between only have to serve
            an E-step, the last one is to be drawn from. 0 for as many as the others.
        train_batch: pictures in an update.
        init_lr: highest learning rate from fresh weights.
        m_lr: highest learning rate of an M-step that goes on from inherited weights.
        ema_decay: decay of the averaged weights.
        e_batch: pictures sampled at a time; changes memory and speed, not the pictures.
        shard: pictures of an E-step in one file, done by one process.
        snapshot: training updates after which a training halfway is kept on disk.
        phases: the second phase, if there is one.
        flip: whether training mirrors half of the pictures: right where a mirrored picture is as likely as the
            picture. E-steps know nothing of it.
        speed: how the network computes.
        e_speed: how it computes in E-steps, where not so; float16 is allowed there.
        optimizer: what takes a training step, a key of :data:`emlib.muon.OPTIMIZERS`.
        clean_copies: how often each picture that EM starts from is among those of an M-step, where these are clean; 0
            leaves them out, as the paper does.
        seed: seed of everything random.
    """

    iterations: int
    init_updates: int
    m_updates: int
    train_batch: int
    init_lr: float
    m_lr: float
    ema_decay: float
    e_batch: int
    shard: int = 128
    snapshot: int = 200
    phases: Phases = Phases()
    flip: bool = False
    speed: Speed = FLOAT32
    e_speed: Speed | None = None
    optimizer: str = "adamw"
    clean_copies: int = 0
    last_updates: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        most = max(self.init_updates, self.m_updates, self.last_updates, self.phases.reset_updates)
        # what training counts up to, with a hundred processes: it must fit into 63 bits
        if (abs(self.seed) + 1) * 1000 * max(1, most) * 100 >= 2**63:
            raise ValueError(
                f"seed={self.seed} is too large for the random numbers of {most} updates; take nine digits"
            )
        if self.last_updates and self.phases.reset_iterations:
            raise ValueError(
                "a longer last M-step is for runs of one phase, whose last iteration is known beforehand, got "
                f"last_updates={self.last_updates} and reset_iterations={self.phases.reset_iterations}"
            )

    def updates_of(self, k: int) -> int:
        """Training updates of the M-step of iteration k in phase 1."""
        return self.last_updates if self.last_updates and k == self.iterations else self.m_updates

    @property
    def sampling(self) -> Speed:
        """How the network computes when it samples."""
        return self.e_speed or self.speed


def over(scales: Sequence[float | None], iterations: int, phases: Phases) -> bool:
    """Whether phase 1 is over.

    Args:
        scales: lambda of each EM iteration so far; None where the sampler has none (MMPS).
        iterations: the most iterations that phase 1 may take; reached, it is over whatever lambda does.
        phases: the rule. Without a phase 2 to switch to, lambda is not looked at.
    """
    if len(scales) >= iterations:
        return True
    known = [scale for scale in scales if scale is not None]
    if not phases.reset_iterations or not known:
        return False
    if known[-1] < phases.switch_scale:
        return True
    since_lowest = len(known) - 1 - known.index(min(known))
    return since_lowest > phases.patience


def iterations(settings: EMSettings) -> Iterator[tuple[int, int, list[float | None]]]:
    """(number, phase, scales so far, for the caller to lengthen): phase 1 until it is over, then phase 2."""
    scales: list[float | None] = []
    while not over(scales, settings.iterations, settings.phases):
        yield len(scales) + 1, 1, scales
    for k in range(len(scales) + 1, len(scales) + 1 + settings.phases.reset_iterations):
        yield k, 2, scales


def rows_of(total: int, settings: EMSettings, phase: int) -> list[int]:
    """The observations of a phase: in phase 1 always the same part, drawn by the seed."""
    if phase == 2 or settings.phases.subset == 1:
        return list(range(total))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(settings.seed))
    return sorted(order[: max(1, round(settings.phases.subset * total))].tolist())

r"""The training loop, for clean pictures and for the M-step alike: a generator that can be stopped and gone on with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Generator, Tensor, nn

from emlib.diffusion import check_images, diffusion_loss
from emlib.muon import OPTIMIZERS
from emlib.runtime.device import placed, sent
from emlib.runtime.distributed import ranks
from emlib.runtime.precision import FLOAT32, Speed
from emlib.schedule import Schedule
from emlib.training.snapshot import check_snapshot, go_on, parts_of
from emlib.training.update import Loss, updating


@dataclass(frozen=True)
class TrainStep:
    """What one update of the network left behind."""

    step: int
    value: Tensor
    """The loss of the pictures that this process saw, a number; perhaps a GPU is still computing it."""
    ema: nn.Module
    """Moving average of the weights: the network to use."""
    model: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...]
    rng: Generator

    @property
    def loss(self) -> float:
        """The loss; waits for a GPU.

        Raises:
            ValueError: if it is no finite number.
        """
        loss = self.value.item()
        if not isfinite(loss):
            raise ValueError(_diverged(self.step, loss))
        return loss

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers still; waits for a GPU."""
        return all(bool(w.isfinite().all()) for net in (self.model, self.ema) for w in net.parameters())

    def check(self) -> None:
        """Refuses weights that are no numbers; waits for a GPU.

        Raises:
            ValueError: if the training has diverged.
        """
        if not self.finite:
            raise ValueError(_diverged(self.step, self.value.item()))

    def snapshot(self) -> dict[str, Tensor]:
        """All that :func:`train` needs to go on from here to the same bits, as named tensors (copies).

        Raises:
            ValueError: if the training has diverged, so that nobody goes on from NaN.
        """
        self.check()
        parts = {"step": torch.tensor(self.step), "rng": self.rng.get_state()}
        parts |= parts_of(self.model, self.ema, self.optimizers)
        return {name: x.detach().cpu().clone().contiguous() for name, x in parts.items()}


def train(
    model: nn.Module,
    schedule: Schedule,
    images: Tensor,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    ema_decay: float = 0.999,
    flip: bool = False,
    start: dict[str, Tensor] | None = None,
    speed: Speed = FLOAT32,
    loss: Loss = diffusion_loss,
    optimizer: str = "adamw",
) -> Iterator[TrainStep]:
    r"""Trains the network on clean pictures, as the M-step does (EMDiffusion, section 4.3).

    The learning rate rises over the first twentieth of the steps and then falls to a tenth
    along a cosine. The average starts at the first step and forgets its start faster than its decay says.
    With several processes each takes its rows of every batch, and all hold the same weights.

    Args:
        model: the network; changed in place.
        schedule: the noise levels.
        images: [N, C, H, W], on [-1, 1] for the diffusion loss; another loss may want noisy pictures, or masks as
            further channels. They may lie anywhere, in a mapped file too (:mod:`emlib.runtime.device`).
        steps: number of updates, at least 1.
        batch: pictures in an update; drawn anew from all N each time.
        lr: highest learning rate of AdamW; Muon's is :data:`emlib.muon.MATRIX_RATE` times that.
        seed: seed of everything random in here.
        ema_decay: decay of the average, in [0, 1).
        flip: whether to mirror half of the pictures.
        start: a :meth:`TrainStep.snapshot` of the same call, to go on after it.
        speed: how the network computes.
        loss: what to make small; the random numbers that it draws itself are fixed by the seed, too.
        optimizer: a key of :data:`emlib.muon.OPTIMIZERS`.

    Raises:
        ValueError: if pictures are missing, not on [-1, 1] or not finite, a number is out of range, or ``start`` is no
            snapshot of this training; and once the weights are no numbers, on a CPU after the update that made them
            so, on a GPU at a snapshot or the end.
    """
    if loss is diffusion_loss:
        check_images(images)
    here = ranks()
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}; 0.999 is usual")
    if steps < 1 or batch < 1 or not lr > 0:
        raise ValueError(f"training needs steps, batch and lr above 0, got {steps}, {batch} and {lr}")
    if speed.precision == "float16":
        raise ValueError("training in float16 loses small gradients; take bfloat16 or float32")
    if batch % here.world:
        raise ValueError(f"a batch of {batch} pictures does not divide among {here.world} processes; change either")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}")
    weights = next(model.parameters())
    if images.dtype.itemsize > weights.dtype.itemsize > 2:
        raise ValueError(f"pictures are {images.dtype} and the network {weights.dtype}; take images.float()")
    if not -(2**63) <= seed * steps * here.world <= (seed + 1) * steps * here.world < 2**64:
        raise ValueError(f"seed={seed} is too large for {steps} updates' random numbers; take one of nine digits")
    if start is not None:
        check_snapshot(start, model, steps, optimizer)
    device = weights.device
    images, schedule = placed(images, device), schedule.to(device)
    rng = Generator().manual_seed(seed)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizers = OPTIMIZERS[optimizer](model, lr)
    groups = [(group, float(group["lr"])) for each in optimizers for group in each.param_groups]
    first = 0 if start is None else go_on(start, model, ema, optimizers, rng)
    model.train()
    update = updating(model, ema, optimizers, loss, schedule, speed)
    warm = max(1, steps // 20)
    for step in range(first, steps):
        x0 = images[sent(torch.randint(len(images), (batch,), generator=rng), images.device)]
        if flip:
            mirrored = torch.rand(batch, generator=rng) < 0.5
            x0 = torch.where(sent(mirrored, x0.device).view(-1, 1, 1, 1), x0.flip(-1), x0)
        t = torch.randint(schedule.T, (batch,), generator=rng)
        eps = torch.randn(x0.shape, generator=rng)
        # All processes have drawn the same batch; each goes on with its rows.
        x0, t, eps = (sent(x[here.rank :: here.world], device) for x in (x0, t, eps))
        for group, highest in groups:
            _set_rate(group, highest * _warm_cosine(step, steps, warm))
        # theta_ema <- d theta_ema + (1 - d) theta,   d = min(decay, (1 + n) / (10 + n))
        decay = min(ema_decay, (1 + step) / (10 + step))
        with torch.random.fork_rng(devices=[]):
            # dropout and the loss's own numbers, apart from whatever the caller draws
            torch.manual_seed((seed * steps + step) * here.world + here.rank)
            value = update(x0, t, eps, decay)
        now = TrainStep(step, value, ema, model, optimizers, rng)
        # One bad gradient spoils all weights at once, in every process; of a GPU that is asked only at the end.
        if not (now.finite if step + 1 == steps else device.type != "cpu" or bool(weights.isfinite().all())):
            raise ValueError(_diverged(step, value.item()))
        yield now


def _diverged(step: int, loss: float) -> str:
    return (
        f"training has diverged: update {step + 1} has the loss {loss:g} and leaves weights that are no numbers; "
        "take a lower learning rate, or look at the pictures and the loss"
    )


def _set_rate(group: dict[str, Any], rate: float) -> None:
    """Sets a learning rate, in its place in memory where a recording reads it there."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _warm_cosine(step: int, steps: int, warm: int) -> float:
    if step < warm:
        return (step + 1) / warm
    done = torch.tensor((step - warm) / max(1, steps - warm))
    return float(0.1 + 0.9 * 0.5 * (1 + torch.cos(torch.pi * done)))

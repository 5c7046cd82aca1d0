"""The room that a run takes: on disk, in main memory and on the GPU; and the batch that fits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from emlib.em.settings import rows_of
from emlib.planning.cost import Stage, sustained
from emlib.planning.counting import FLOAT, live_bytes, network_cost
from emlib.posterior import BLOCK
from emlib.runs.job import Job
from emlib.runtime.device import RESERVE, free_memory, median_seconds
from emlib.runtime.distributed import ranks
from emlib.runtime.precision import Speed, quick
from emlib.unet import UNetConfig, build_unet

HALF = 0.5
"""Share of float32's activations that half precision holds at the least: what is more than free with it cannot fit."""


@dataclass(frozen=True)
class Need:
    """Memory that a part of the run takes, and what there is.

    Attributes:
        name: where, and for what.
        bytes: what all processes on this machine need of it.
        free: what there is.
        option: the command line's option for the batch that takes it; none for the pictures alone.
        batch: where it does not fit, the largest batch that would, for all processes; 0 if none does.
    """

    name: str
    bytes: float
    free: float
    option: str = ""
    batch: int = 0

    def remedy(self) -> str:
        """What to do where it does not fit."""
        if not self.batch:
            return "take a smaller preset or a larger machine"
        change = "another run" if self.option == "--train-batch" else "the same pictures"
        return f"{self.option} {self.batch} fits and gives {change}"


def disk_need(job: Job, stages: list[Stage]) -> int:
    """Bytes in the run folder at its fullest: what every E-step drew, every prior, a training halfway."""
    p, phases = job.preset, job.settings.phases
    weights, picture = stages[0].weights, FLOAT * p.unet.in_channels * p.size**2
    drawn = [len(rows_of(p.observations, job.settings, phase)) for phase in (1, 2)]
    times = [job.settings.iterations, phases.reset_iterations]
    shards = max(n for n, k in zip(drawn, times) if k)  # still there while they are joined
    pictures = shards + sum(n * k for n, k in zip(drawn, times))
    # a training halfway: network, average and two moments
    return picture * pictures + weights * (1 + sum(times)) + 4 * weights


def memory_needs(job: Job, stages: list[Stage], device: str) -> Iterator[Need]:
    """What the largest E-step and the largest training need, the pictures beside them, against what is free.

    Args:
        job: the run.
        stages: of :func:`emlib.planning.cost.plan`.
        device: "cpu" or "cuda".
    """
    p, world = job.preset, ranks().world
    sharers = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world > 1 else 1
    one = FLOAT * p.unet.in_channels * p.size**2 * (p.observations + p.held_out)
    # y lies on the device; originals and what is drawn in main memory
    beside, held = (one, 1) if device == "cuda" else (3 * one, sharers)
    where, free = ("GPU" if device == "cuda" else "memory"), free_memory(device)

    def need(what: str, option: str, stage: Stage, precision: str, backward: int, split: int) -> Need:
        live = stage.activations / split * (1.0 if precision == "float32" else HALF)
        whole = held * (stage.bytes - stage.activations + live + beside)
        fits = 0
        if whole > free:
            fits = split * fitting_batch(p.unet, p.size, free / held - beside, backward, option == "--train-batch")
        return Need(f"{where}, {what}", whole, free, option, fits)

    sampled = max((s for s in stages if s.name.startswith("E-step")), key=lambda s: s.bytes)
    passes = round(sampled.gradients / sampled.forwards)
    yield need("E-step", "--e-batch", sampled, job.settings.sampling.precision, passes, 1)
    trained = max((s for s in stages if s.optimizer), key=lambda s: s.bytes)
    yield need("training", "--train-batch", trained, job.settings.speed.precision, 1, world)
    if device == "cuda":
        yield Need("memory, pictures", sharers * 2 * one, free_memory("cpu"))


def gigabytes(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:.3g} GB"


def fitting_batch(cfg: UNetConfig, side: int, free: float, backward: int, train: bool = False) -> int:
    """The largest batch that fits into memory, in multiples of :data:`emlib.posterior.BLOCK`; 0 if none does.

    It counts float32 and leaves :data:`emlib.runtime.device.RESERVE`, so half precision has room to spare.

    Args:
        cfg: sizes of the network.
        side: height and width of a picture in pixels.
        free: bytes that are free.
        backward: backward passes through one forward pass, as :func:`emlib.planning.counting.live_bytes` takes it.
        train: whether for training, with AdamW's moments and two averages, or for sampling.
    """
    one, two = (live_bytes(cfg, side, n * BLOCK, backward, train) for n in (1, 2))
    fixed = FLOAT * network_cost(cfg, side).parameters * (5 if train else 2)
    # bytes of n blocks = one + (n - 1) (two - one): each picture holds as much as the next
    blocks = 1 + (RESERVE * free - fixed - one) / (two - one)
    return BLOCK * max(0, int(blocks))


def rate_here(cfg: UNetConfig, side: int, speed: Speed, device: str, batch: int = 64) -> tuple[float, str]:
    """FLOP/s of this machine on a network, and how that is known.

    A GPU is timed on the network itself, forward and gradient, in the preset's precision but not compiled; a CPU on a
    small network, since a large one would take a minute.
    """
    if device == "cpu":
        return sustained("cpu"), f"timed just now on a small network with {torch.get_num_threads()} thread(s)"
    cost, plain = network_cost(cfg, side), Speed(speed.precision)
    model = quick(build_unet(cfg, 0).to(device).eval().requires_grad_(False), plain)
    x = torch.zeros(batch, cfg.in_channels, side, side, device=device, requires_grad=True)
    t = torch.zeros(batch, dtype=torch.long, device=device)
    seconds = median_seconds(lambda: torch.autograd.grad(model(x, t).sum(), x), device, repeats=5)
    return batch * (cost.forward + cost.gradient) / seconds, f"timed just now on this network in {speed.precision}"

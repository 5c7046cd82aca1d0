r"""Networks and what they cost in seconds: here, timed, and on a card that is not here, by a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from emlib.metrics import alexnet
from emlib.operators import measure, random_mask
from emlib.planning.cost import DEVICES, sustained
from emlib.planning.counting import live_bytes, network_cost
from emlib.posterior import GPU_BATCH, mmps, reconstruct
from emlib.runs.presets import PRESETS, Preset
from emlib.runtime.device import median_seconds
from emlib.runtime.graphs import WARM
from emlib.runtime.precision import FLOAT32, Speed, quick
from emlib.schedule import linear_schedule
from emlib.training import train
from emlib.unet import UNetConfig, build_unet


@dataclass(frozen=True)
class Budget:
    """A network, and how much computing it needs to be better than the one below it.

    Attributes:
        name: what it is called.
        unet: its sizes; colours are those of the pictures.
        batch: pictures in an update.
        lr: highest learning rate, of AdamW's part (:data:`emlib.muon.MATRIX_RATE`).
        least: fewest updates of all of EM for which it is taken.
        iterations: of EM.
        e_steps: network calls of a posterior sample, each with one solver step (:func:`calls_and_steps`).
    """

    name: str
    unet: UNetConfig
    batch: int
    lr: float
    least: int
    iterations: int
    e_steps: int


BUDGETS = (
    Budget("large", PRESETS["paper"].unet, batch=256, lr=5e-4, least=20_000, iterations=5, e_steps=20),
    Budget(
        "medium",
        replace(PRESETS["colab"].unet, dropout=0.0),
        batch=256,  # on an H200 an update takes 22 ms, one of 128 takes 20
        lr=1e-3,
        least=4_000,
        iterations=4,
        e_steps=16,
    ),
    Budget("small", PRESETS["pocket"].unet, batch=32, lr=2e-3, least=0, iterations=3, e_steps=12),
)
"""From large to small; the first one that the time suffices for is taken."""


def calls_and_steps(calls: int, noise_std: float) -> tuple[int, int]:
    """Network calls and solver steps of MMPS where pixels are hidden, at the cost of so many calls with a step each.

    Without noise two steps in two thirds of the calls are better: photographs of which 60 % is hidden came to 26.4 dB
    and an LPIPS of 0.054 by eight calls and two steps, to 26.0 and 0.062 by twelve and one; the mean of four draws to
    27.5 dB by 16 and two, to 27.3 by 24 and one; clothes gain 0.1 dB. With noise a second step does harm (noise 0.2,
    photographs: 25.7 dB against 27.4).
    """
    return (calls, 1) if noise_std else (max(1, round(calls * 2 / 3)), 2)


@dataclass(frozen=True)
class Speeds:
    """Seconds of a budget's work on one device.

    Attributes:
        update: of one update.
        picture: of one picture in an E-step.
        call: of one picture through the network, as samples are drawn.
        feature: of one picture through AlexNet, which scores samples and real pictures.
    """

    update: float
    picture: float
    call: float
    feature: float = 0.0


def speeds() -> tuple[Speed, Speed]:
    """How networks train and sample here: a GPU with bfloat16 in hardware takes it, one without float16 in E-steps."""
    if not torch.cuda.is_available():
        return FLOAT32, FLOAT32
    if torch.cuda.get_device_capability() >= (8, 0):
        return Speed("bfloat16"), Speed("bfloat16")
    return FLOAT32, Speed("float16")


ROUNDS = 5
"""Rounds that a median is taken of."""
LONG = 0.5
"""Seconds of an update on a CPU from which on it is reckoned and not timed, since timing would take a minute."""


def timed_here(p: Preset, device: str) -> Callable[[Budget], Speeds]:
    """Times a budget's work on this machine's device, in seconds."""
    schedule = linear_schedule().to(device)

    slow = reckoned(p, sustained("cpu")) if device == "cpu" else None

    def timed(budget: Budget) -> Speeds:
        if slow and (guess := slow(budget)).update > LONG:
            return guess
        cfg = replace(budget.unet, in_channels=p.unet.in_channels)
        speed, e_speed = speeds()
        g = torch.Generator().manual_seed(0)
        x = torch.rand(budget.batch, cfg.in_channels, p.size, p.size, generator=g) * 2 - 1
        model = build_unet(cfg, 0).to(device)
        loop = train(model, schedule, x, 10**6, budget.batch, budget.lr, 0, speed=speed, optimizer="muon")
        for _ in range(WARM + 1 if device == "cuda" else 0):  # until its kernels are recorded
            next(loop)
        update = median_seconds(lambda: next(loop), device, ROUNDS)
        fixed, steps = quick(model.eval().requires_grad_(False), e_speed), 2
        count = GPU_BATCH if device == "cuda" else 32
        many = x.repeat(-(-count // len(x)), 1, 1, 1)[:count]
        m = measure(many, random_mask(count, p.size, 0.5, 0), 0.0, 0).on(device)
        sampler = partial(mmps, steps=steps)
        batch = median_seconds(
            lambda: list(reconstruct(sampler, fixed, schedule, m, 0, "timing", count)), device, ROUNDS
        )
        t = torch.zeros(count, dtype=torch.long, device=device)
        with torch.no_grad():
            call = median_seconds(lambda: fixed(many.to(device), t), device, ROUNDS)
        feature = 0.0
        if not alexnet.alexnet_missing():
            feature = median_seconds(lambda: alexnet.alexnet_features(many[:32]), "cpu", ROUNDS) / 32
        return Speeds(update, batch * budget.e_steps / steps / count, call / count, feature)

    return timed


def reckoned(p: Preset, rate: float) -> Callable[[Budget], Speeds]:
    """What a budget's work takes at so many FLOP/s."""

    def timed(budget: Budget) -> Speeds:
        cost = network_cost(replace(budget.unet, in_channels=p.unet.in_channels), p.size)
        picture = budget.e_steps * (cost.forward + cost.gradient) / rate
        return Speeds(budget.batch * (cost.forward + cost.update) / rate, picture, cost.forward / rate)

    return timed


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet: FLOP/s in training and in E-steps, and bytes a second; and whether it has bfloat16."""

    training: float
    sampling: float
    memory: float
    bf16: bool


CARDS = {
    "T4": Card(DEVICES["T4"], DEVICES["T4-fp16"], 0.32e12, bf16=False),
    "A100": Card(DEVICES["A100-bf16"], DEVICES["A100-bf16"], 1.555e12, bf16=True),
    "H100": Card(DEVICES["H100-bf16"], DEVICES["H100-bf16"], 3.35e12, bf16=True),
}
"""GPUs that a plan can be made for without having one."""
PEAK, TRAFFIC, ASKING = 0.6, 50, 3e-3
"""A model of a GPU's seconds, fitted to one card, an H200, on three networks: FLOPs at this share of the peak, and so
many times the bytes that a pass holds go through memory, and the time to ask for the kernels of an update. Networks of
this size are held up by memory and not by arithmetic."""


def counted(p: Preset, name: str) -> Callable[[Budget], Speeds]:
    """What a budget's work takes on a card that is not here (:data:`CARDS`), to a factor of two or so."""
    card = CARDS[name]

    def seconds(flops: float, live: float, peak: float, half: bool) -> float:
        return flops / (PEAK * peak) + TRAFFIC * live * (0.5 if half else 1.0) / card.memory

    def timed(budget: Budget) -> Speeds:
        cfg = replace(budget.unet, in_channels=p.unet.in_channels)
        cost, n = network_cost(cfg, p.size), budget.batch
        trained, drawn = live_bytes(cfg, p.size, n, 1, train=True), live_bytes(cfg, p.size, GPU_BATCH, 1)
        update = ASKING + seconds(n * (cost.forward + cost.update), trained, card.training, card.bf16)
        step = ASKING + seconds(GPU_BATCH * (cost.forward + cost.gradient), drawn, card.sampling, True)
        return Speeds(update, budget.e_steps * step / GPU_BATCH, step / 3 / GPU_BATCH)

    return timed

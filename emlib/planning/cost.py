r"""What a run will cost, before it starts: evaluations, FLOPs, memory and hours of every stage.

Evaluations follow from the preset, since each sampler takes a known number of forward and backward passes a step.
The FLOPs of one evaluation and the memory it holds are counted on the network itself, run on PyTorch's "meta" device,
where tensors have shapes and no numbers. Only the seconds rest on an assumption, :data:`EFFICIENCY`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from emlib.em.settings import rows_of
from emlib.guidance.search import CALLS, PROBE
from emlib.planning.counting import FLOAT, live_bytes, network_cost
from emlib.posterior import BLOCK, find_sampler
from emlib.runs.presets import Preset
from emlib.runtime.durations import short_duration
from emlib.unet import UNetConfig, build_unet

DEVICES = {
    "T4": 8.1e12,
    "T4-fp16": 65e12,
    "A100": 19.5e12,
    "A100-bf16": 312e12,
    "H100": 67e12,
    "H100-bf16": 989e12,
}
"""Peak FLOP/s by the makers' data sheets (H100: SXM, without sparsity); float32 unless the name says otherwise.
The library computes in float32; the other rows say what half precision would give at most."""


EFFICIENCY = 0.3
"""Share of the peak that a U-Net reaches. An assumption, not a measurement: small networks reach less."""


DRAW_BATCH = 250
"""Pictures that :func:`emlib.diffusion.draw` samples at a time by default."""


CLEAN_PRIOR = "clean prior"
"""The stage that ``emlib train`` goes through, and ``emlib em`` does not."""


@dataclass(frozen=True)
class Stage:
    """One stage of a run; all numbers are for one of its ``times``.

    Attributes:
        name: what it is; "E-step on all" and "M-step afresh" are those of phase 2.
        times: how often the run goes through it.
        calls: network calls, each for a whole batch.
        forwards: pictures that went forward through the network.
        gradients: pictures that went backward, by the picture when sampling and by the weights when training.
        flops: floating-point operations of the network; those of operators, scores and AdamW are left out.
        weights: bytes of the network in training.
        optimizer: bytes of AdamW's two moments.
        ema: bytes of averaged weights.
        activations: most bytes that the passes hold at once, gradients included; an estimate, since an
            allocator rounds up and convolutions take working space.
        seconds: time, from ``flops`` and the device's rate.
    """

    name: str
    times: int
    calls: int
    forwards: int
    gradients: int
    flops: float
    weights: int
    optimizer: int
    ema: int
    activations: int
    seconds: float

    @property
    def bytes(self) -> int:
        """Memory of the stage."""
        return self.weights + self.optimizer + self.ema + self.activations


def sustained(device: str) -> float:
    """FLOP/s that a network is expected to reach on a device: peak times :data:`EFFICIENCY`.

    "cpu" is this machine, and the only one that is measured: a small network is timed on the spot.

    Raises:
        ValueError: if there is no such device.
    """
    if device == "cpu":
        return _measured()
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; there are {', '.join(DEVICES)}, and cpu for this machine")
    return EFFICIENCY * DEVICES[device]


def _measured(batch: int = 16, side: int = 28, repeats: int = 5) -> float:
    """Times the step of a sampler, forward and gradient, on the pocket preset's network."""
    cfg = UNetConfig()
    cost, model = network_cost(cfg, side), build_unet(cfg, 0).eval().requires_grad_(False)
    x, t = torch.zeros(batch, cfg.in_channels, side, side, requires_grad=True), torch.zeros(batch, dtype=torch.long)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.autograd.grad(model(x, t).sum(), x)
        seconds.append(time.perf_counter() - start)
    return batch * (cost.forward + cost.gradient) / statistics.median(seconds[1:])  # the first one warms up


def plan(
    p: Preset, rate: float, sampler: str = "mmps", searched: bool = True, sampling_rate: float | None = None
) -> list[Stage]:
    """The stages of ``emlib em`` at this preset, and last the clean prior of ``emlib train``.

    One process does all the work, and phase 1 takes as many iterations as it may.

    Args:
        p: the sizes.
        rate: FLOP/s that the device keeps up, as :func:`sustained` gives.
        sampler: E-step, one of :data:`emlib.posterior.SAMPLERS`.
        searched: whether DPS's scale is looked for in each E-step (:func:`emlib.searched_dps`); counted at the
            most that a search may take, since it may stop early.
        sampling_rate: FLOP/s in E-steps and samples, where other than in training, such as in half precision.

    Raises:
        ValueError: if there is no such sampler, or a rate is not above 0.
    """
    record = find_sampler(sampler)
    sampling_rate = rate if sampling_rate is None else sampling_rate
    if not (rate > 0 and sampling_rate > 0):
        raise ValueError(f"a device does more than 0 FLOP/s, got rate={rate} and sampling_rate={sampling_rate}")
    side = p.size
    cost, (steps, passes) = network_cost(p.unet, side), record.cost(p)
    size = FLOAT * cost.parameters

    def training(name: str, times: int, updates: int, priors: int) -> Stage:
        pictures = updates * p.em.train_batch
        flops = pictures * (cost.forward + cost.update)
        live = live_bytes(p.unet, side, p.em.train_batch, 1, train=True)
        return Stage(name, times, updates, pictures, pictures, flops, size, 2 * size, priors * size, live, flops / rate)

    def sampling(name: str, times: int, batches: list[int], steps: int, passes: int, probe: int = 0) -> Stage:
        # A search runs the sampler on the same few pictures with each scale.
        runs = batches + [probe] * CALLS if probe else batches
        pictures = steps * sum(runs)
        flops = pictures * (cost.forward + passes * cost.gradient)
        live = live_bytes(p.unet, side, max(runs), passes)
        calls, gradients = steps * len(runs), passes * pictures
        seconds = flops / sampling_rate
        return Stage(name, times, calls, pictures, gradients, flops, size, 0, size, live, seconds)

    first, again = p.em.iterations, p.em.phases.reset_iterations
    last = 1 if p.em.last_updates else 0  # of the first phase's M-steps, longer than the others

    def e_step(name: str, times: int, phase: int) -> Stage:
        pictures, shard = len(rows_of(p.observations, p.em, phase)), p.em.shard
        batches = [size for part in _batches(pictures, shard) for size in _batches(part, p.em.e_batch, BLOCK)]
        return sampling(name, times, batches, steps, passes, probe)

    (probe,) = _batches(min(PROBE, p.observations), PROBE, BLOCK) if record.guided and searched else (0,)
    stages = [
        training("first prior", 1, p.em.init_updates, 1),
        e_step("E-step", first, 1),
        training("M-step", first - last, p.em.m_updates, 2),  # the average of before is kept beside the new one
        training("last M-step", last, p.em.last_updates, 2),
        e_step("E-step on all", again, 2),
        training("M-step afresh", again, p.em.phases.reset_updates, 2),
        sampling("samples to score", first + again + 1, _batches(p.samples, DRAW_BATCH), p.sample_steps, 0),
        sampling("held-out check", 1, _batches(p.held_out, p.em.e_batch, BLOCK), steps, passes, probe),
        training(CLEAN_PRIOR, 1, p.prior_updates, 1),
    ]
    return [stage for stage in stages if stage.times]


def _batches(count: int, batch: int, block: int = 1) -> list[int]:
    """Sizes of the batches that ``count`` pictures come in, each filled up to a multiple of ``block``."""
    sizes = [min(batch, count - start) for start in range(0, count, batch)]
    return [-(-size // block) * block for size in sizes]


def total(stages: list[Stage]) -> Stage:
    """All stages as one: work and time added up, memory of the stage that needs most."""
    most = max(stages, key=lambda s: s.bytes)
    work = {
        name: sum(s.times * getattr(s, name) for s in stages)
        for name in ("calls", "forwards", "gradients", "flops", "seconds")
    }
    memory = {name: getattr(most, name) for name in ("weights", "optimizer", "ema", "activations")}
    return Stage(name="total", times=1, **work, **memory)


def as_text(stages: list[Stage]) -> str:
    """The stages as text, one per line, and their total; work and time are those of all ``times``."""
    titles = (
        "stage",
        "times",
        "calls",
        "forward",
        "gradient",
        "FLOP",
        "weights",
        "AdamW",
        "EMA",
        "activations",
        "time",
    )
    rows: list[tuple[str, ...]] = [titles]
    for s in [*stages, total(stages)]:
        work = [_short(s.times * n) for n in (s.calls, s.forwards, s.gradients, s.flops)]
        memory = [_short(n) + "B" for n in (s.weights, s.optimizer, s.ema, s.activations)]
        times = str(s.times) if s.name != "total" else ""
        rows.append((s.name, times, *work, *memory, short_duration(s.times * s.seconds)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:])) for row in rows
    )


def _short(n: float) -> str:
    """A number with three digits and a prefix: 1.23 M for a million and a quarter."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if n < 999.5:
            return f"{n:.3g} {prefix}"
        n /= 1000
    return f"{n:.4g} E"

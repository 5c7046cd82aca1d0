"""What fits on this machine, and how fast it is on a preset's network: for the plan of a run."""

from __future__ import annotations

import torch

from emlib.cost import FLOAT, live_bytes, network_cost, sustained
from emlib.machine import RESERVE, median_seconds
from emlib.posterior import BLOCK
from emlib.speed import Speed, quick
from emlib.unet import UNetConfig, build_unet


def fitting_batch(cfg: UNetConfig, side: int, free: float, backward: int, train: bool = False) -> int:
    """The largest batch that fits into memory, in multiples of :data:`emlib.posterior.BLOCK`; 0 if none does.

    It counts float32 and leaves :data:`emlib.machine.RESERVE`, so half precision has room to spare.

    Args:
        cfg: sizes of the network.
        side: height and width of a picture in pixels.
        free: bytes that are free.
        backward: backward passes through one forward pass, as :func:`emlib.cost.live_bytes` takes it.
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

"""Speed on a GPU: training against diffusers, the E-step against deepinv, both against the card's own matmul peak.

Compiling takes minutes: ``--compiled`` measures that alone, and with ``--gate`` not before a file is there, so that
another process may have the card meanwhile.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import deepinv
import diffusers
import torch
from e_step import Denoiser, alternated, options, parse, ratio, record, show
from torch import Tensor
from training import twin, updater

import emlib
from emlib.planning.counting import NetworkCost, network_cost
from emlib.runtime.device import matmul_rate, pick_device, synchronize
from emlib.runtime.precision import Speed

OUT = Path(__file__).resolve().parent.parent / "data" / "results" / "gpu.json"


def ours(cfg: emlib.UNetConfig, x0: Tensor, seed: int, speed: Speed) -> Callable[[], Any]:
    """An update as EM makes them: fresh noise, averaged weights and all."""
    model, schedule = emlib.build_unet(cfg, seed).to(x0.device), emlib.linear_schedule()
    loop = emlib.train(model, schedule, x0, 10**6, len(x0), 1e-4, seed, speed=speed)
    return lambda: next(loop)


def trainings(p: emlib.Preset, x0: Tensor, seed: int, speed: Speed) -> dict[str, Callable[[], Any]]:
    """An update of either network, of the same sizes, which must not fold pixels."""
    cfg, plain = unfolded(p), Speed(speed.precision)
    theirs = twin(emlib.build_unet(cfg, seed)).to(x0.device, memory_format=torch.channels_last)
    work = {
        # as diffusers' training script has it: autocast, not compiled
        "training, diffusers": updater(theirs, x0, seed, plain),
        "training, ours": ours(cfg, x0, seed, plain),
    }
    if speed.precision != "float32":
        work["training, ours in float32"] = ours(cfg, x0, seed, Speed())
    return work


def compiled(p: emlib.Preset, x0: Tensor, seed: int, speed: Speed) -> dict[str, Callable[[], Any]]:
    """An update of our network, compiled where there is a GPU."""
    return {"training, ours compiled": ours(unfolded(p), x0, seed, replace(speed, compile=x0.is_cuda))}


def unfolded(p: emlib.Preset) -> emlib.UNetConfig:
    """The preset's network as diffusers has it."""
    return replace(p.unet, patch=1, refine=0, dropout=0.0)


def samplings(p: emlib.Preset, x0: Tensor, args: Any, speed: Speed) -> dict[str, Callable[[], Any]]:
    """An E-step of deepinv's DPS and of ours, on one network, and of our MMPS."""
    model = emlib.build_unet(unfolded(p), args.seed).to(x0.device).eval().requires_grad_(False)
    net = emlib.quick(model, Speed(speed.precision))
    schedule = emlib.linear_schedule().to(x0.device)
    m = emlib.measure(x0.cpu(), emlib.random_mask(len(x0), x0.shape[-1], 0.6, args.seed), 0.0, args.seed)
    m = m.on(x0.device)
    physics = deepinv.physics.Inpainting(tuple(x0.shape[1:]), mask=m.operator.mask, device=x0.device)
    theirs = deepinv.sampling.DPS(
        Denoiser(net, schedule),
        num_steps=args.steps + 1,
        minus_one_one=False,
        rng=torch.Generator(x0.device),
        device=x0.device,
    )

    def run(sampler: Callable[..., Any]) -> Tensor:
        return torch.cat(list(emlib.reconstruct(sampler, net, schedule, m, args.seed, "benchmark", len(m))))

    return {
        "E-step, deepinv DPS": lambda: theirs(m.y, physics, seed=args.seed),
        "E-step, our DPS": lambda: run(partial(emlib.dps, steps=args.steps, scale=1.0)),
        "E-step, our MMPS": lambda: run(partial(emlib.mmps, steps=args.steps, cg_steps=p.cg_steps)),
    }


def flops(name: str, cost: NetworkCost, pictures: int, steps: int, cg_steps: int) -> float:
    """Of one round: the network's alone."""
    if name.startswith("training"):
        return pictures * (cost.forward + cost.update)
    return pictures * steps * (cost.forward + (cg_steps if "MMPS" in name else 1) * cost.gradient)


def warm(work: dict[str, Callable[[], Any]], device: str) -> dict[str, Callable[[], Any]]:
    """Each piece of work as one that waits for the device, warmed up, which compiles and records."""

    def whole(run: Callable[[], Any]) -> Callable[[], None]:
        def waited() -> None:
            run()
            synchronize(device)

        return waited

    work = {name: whole(run) for name, run in work.items()}
    for run in [*work.values()] * (5 if device == "cuda" else 2):  # a recording is made at the fourth call
        run()
    return work


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=256, repeats=7)
    parser.set_defaults(out=OUT)
    parser.add_argument("--preset", default="paper", help="whose network, with patch 1 (default: paper)")
    parser.add_argument("--steps", type=int, default=10, help="network calls of a sample (default: %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="only training compiled, which takes minutes")
    parser.add_argument("--gate", type=Path, help="a file that is waited for before anything is timed")
    args = parse(parser, words, pictures=16, repeats=1, steps=2, preset="smoke")
    if args.compiled and args.out == OUT:
        args.out = OUT.with_stem("gpu-compiled")
    start, device, p = time.perf_counter(), pick_device(), emlib.preset(args.preset)
    speed = Speed(p.em.speed.precision) if device == "cuda" else Speed()  # half precision gains nothing on CPUs
    shape = (args.pictures, p.unet.in_channels, p.size, p.size)
    x0 = (torch.rand(shape, generator=torch.Generator().manual_seed(args.seed)) * 2 - 1).to(device)
    cost, rows, peak = network_cost(unfolded(p), p.size), [], 0.0
    groups = [compiled(p, x0, args.seed, speed)] if args.compiled else []
    if not args.compiled:
        groups += [trainings(p, x0, args.seed, speed), samplings(p, x0, args, speed)]
    for group in groups:
        warmed = warm(group, device)
        while args.gate and not args.gate.exists():
            time.sleep(0.2)
        if not peak:
            side = 8192 if device == "cuda" else 512 if args.quick else 2048
            peak = matmul_rate(device, getattr(torch, speed.precision), side)
        seconds = alternated(warmed, args.repeats)
        base = next(iter(group))
        for name in group:
            once = statistics.median(seconds[name])
            rate = flops(name, cost, args.pictures, args.steps, p.cg_steps) / once
            numbers = {"images_per_s": args.pictures / once, "model_flops_per_s": rate, "share_of_peak": rate / peak}
            rows.append({"work": name, **numbers, **ratio(seconds, name, base)})
        settings = {
            "preset": p.name,
            "card": torch.cuda.get_device_name() if device == "cuda" else "none, on the CPU",
            "precision": speed.precision,
            "pictures": args.pictures,
            "side": p.size,
            "steps": args.steps,
            "matmul_flops_per_s": peak,
            "diffusers": diffusers.__version__,
            "deepinv": deepinv.__version__,
        }
        show(rows[-len(group) :])
        record(args, "gpu", settings, rows, time.perf_counter() - start)  # a lease may end while the next one warms up


if __name__ == "__main__":
    main()

"""Speed on a GPU: training against diffusers, the E-step against deepinv, both against the card's own matmul peak."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import deepinv
import diffusers
import torch
from e_step import Denoiser, alternated, options, parse, ratio, report
from torch import Tensor
from training import twin, updater

import emlib
from emlib.planning.counting import NetworkCost, network_cost
from emlib.runtime.device import matmul_rate, pick_device, synchronize
from emlib.runtime.precision import Speed

OUT = Path(__file__).resolve().parent.parent / "data" / "results" / "gpu.json"


def trainings(p: emlib.Preset, x0: Tensor, seed: int, speed: Speed) -> dict[str, Callable[[], Any]]:
    """An update of either network, the same weights in both, which must not fold pixels."""
    ours = emlib.build_unet(replace(p.unet, patch=1, refine=0, dropout=0.0), seed)
    theirs = twin(ours).to(x0.device, memory_format=torch.channels_last)
    plain = Speed(speed.precision)  # as diffusers' training script has it: autocast, not compiled
    return {
        "training, diffusers": updater(theirs, x0, seed, plain),
        "training, ours": updater(ours.to(x0.device), x0, seed, plain),
        "training, ours as the preset computes": updater(
            emlib.build_unet(ours.cfg, seed).to(x0.device), x0, seed, speed
        ),
    }


def samplings(p: emlib.Preset, x0: Tensor, args: Any, speed: Speed) -> dict[str, Callable[[], Any]]:
    """An E-step of deepinv's DPS and of ours, on one network, and of our MMPS."""
    model = (
        emlib.build_unet(replace(p.unet, patch=1, refine=0, dropout=0.0), args.seed)
        .to(x0.device)
        .eval()
        .requires_grad_(False)
    )
    plain, ours = emlib.quick(model, Speed(speed.precision)), emlib.quick(model, speed)
    schedule = emlib.linear_schedule().to(x0.device)
    m = emlib.measure(x0.cpu(), emlib.random_mask(len(x0), x0.shape[-1], 0.6, args.seed), 0.0, args.seed)
    m = replace(m, y=m.y.to(x0.device))
    physics = deepinv.physics.Inpainting(tuple(x0.shape[1:]), mask=m.operator.mask.to(x0.device), device=x0.device)
    theirs = deepinv.sampling.DPS(
        Denoiser(plain, schedule),
        num_steps=args.steps + 1,
        minus_one_one=False,
        rng=torch.Generator(x0.device),
        device=x0.device,
    )

    def run(net: emlib.diffusion.Eps, sampler: Callable[..., Any]) -> Tensor:
        return torch.cat(list(emlib.reconstruct(sampler, net, schedule, m, args.seed, "benchmark", len(m))))

    dps = partial(emlib.dps, steps=args.steps, scale=1.0)
    mmps = partial(emlib.mmps, steps=args.steps, cg_steps=p.cg_steps)
    return {
        "E-step, deepinv DPS": lambda: theirs(m.y, physics, seed=args.seed),
        "E-step, our DPS": lambda: run(plain, dps),
        "E-step, our DPS as the preset computes": lambda: run(ours, dps),
        "E-step, our MMPS as the preset computes": lambda: run(ours, mmps),
    }


def flops(name: str, cost: NetworkCost, pictures: int, steps: int, cg_steps: int) -> float:
    """Of one round: the network's alone."""
    if name.startswith("training"):
        return pictures * (cost.forward + cost.update)
    return pictures * steps * (cost.forward + (cg_steps if "MMPS" in name else 1) * cost.gradient)


def timed(work: dict[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each, in turns; warmed up before, which compiles."""

    def whole(run: Callable[[], Any]) -> Callable[[], None]:
        def waited() -> None:
            run()
            synchronize(device)

        return waited

    work = {name: whole(run) for name, run in work.items()}
    for run in [*work.values()] * 2:
        run()
    return alternated(work, repeats)


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=256, repeats=7)
    parser.set_defaults(out=OUT)
    parser.add_argument("--preset", default="paper", help="whose network, with patch 1 (default: paper)")
    parser.add_argument("--steps", type=int, default=10, help="network calls of a sample (default: %(default)s)")
    args = parse(parser, words, pictures=16, repeats=1, steps=2, preset="smoke")
    start, device, p = time.perf_counter(), pick_device(), emlib.preset(args.preset)
    speed = p.em.speed if device == "cuda" else Speed()  # half precision and compiling gain nothing on CPUs
    cfg, size = replace(p.unet, patch=1, refine=0, dropout=0.0), p.size
    shape = (args.pictures, cfg.in_channels, size, size)
    x0 = (torch.rand(shape, generator=torch.Generator().manual_seed(args.seed)) * 2 - 1).to(device)
    precision = getattr(torch, speed.precision)
    peak = matmul_rate(device, precision, 8192 if device == "cuda" else 512 if args.quick else 2048)
    cost, rows = network_cost(cfg, size), []
    for group in (trainings(p, x0, args.seed, speed), samplings(p, x0, args, speed)):
        seconds = timed(group, args.repeats, device)
        base = next(iter(group))
        for name in group:
            once = statistics.median(seconds[name])
            rate = flops(name, cost, args.pictures, args.steps, p.cg_steps) / once
            numbers = {"images_per_s": args.pictures / once, "model_flops_per_s": rate, "share_of_peak": rate / peak}
            rows.append({"work": name, **numbers, **ratio(seconds, name, base)})
            # at once: a lease may end while the next group compiles
            said = f"{name}: {numbers['images_per_s']:.4g} images/s, {rate / peak:.1%} of the peak"
            print(said, file=sys.stderr, flush=True)
    settings = {
        "preset": p.name,
        "card": torch.cuda.get_device_name() if device == "cuda" else "none, on the CPU",
        "precision": speed.precision,
        "compiled": speed.compile,
        "pictures": args.pictures,
        "side": size,
        "steps": args.steps,
        "matmul_flops_per_s": peak,
        "diffusers": diffusers.__version__,
        "deepinv": deepinv.__version__,
    }
    report(args, "gpu", settings, rows, time.perf_counter() - start)


if __name__ == "__main__":
    main()

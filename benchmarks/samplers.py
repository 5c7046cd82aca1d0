"""Quality against time: PSNR and spread of every posterior sampler on masked pictures, beside its seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from e_step import alternated, broken, checkpoint, options, parse, ratio, report

import emlib
from emlib.posterior import Sampler
from emlib.posterior.diffpir import diffpir
from emlib.posterior.pigdm import pigdm


def contestants(
    dps_steps: list[int], scales: list[float], steps: list[int], cg_steps: list[int]
) -> Iterator[tuple[str, int, Sampler]]:
    """Name, gradients a step and sampler of all that take part; the first is what the others are held against."""
    for n in dps_steps:
        for scale in scales:
            yield f"DPS-{n} scale {scale:g}", 1, partial(emlib.dps, steps=n, scale=scale)
    for n in steps:
        for cg in cg_steps:
            yield f"MMPS-{n} CG {cg}", cg, partial(emlib.mmps, steps=n, cg_steps=cg)
    for n in steps:
        yield f"PiGDM-{n}", 1, partial(pigdm, steps=n)
        yield f"DiffPIR-{n}", 0, partial(diffpir, steps=n)


def spread(
    sampler: Sampler,
    model: emlib.UNet,
    schedule: emlib.Schedule,
    m: emlib.Measurements,
    draws: int,
    seed: int,
) -> float:
    """Standard deviation over several draws from one posterior, on the [-1, 1] scale, mean over hidden pixels."""
    rows = [i for i in range(len(m)) for _ in range(draws)]
    # a number of its own for each draw, and with it a random stream
    many = replace(m.select(rows), index=tuple(range(len(rows))))
    x = torch.cat(list(emlib.reconstruct(sampler, model, schedule, many, seed, "spread", len(many))))
    std = x.view(len(m), draws, *x.shape[1:]).std(dim=1)
    return std[m.operator.mask.expand_as(std) == 0].mean().item()


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=64, repeats=3)
    parser.add_argument(
        "--dps-steps", type=int, nargs="+", default=[1000, 100, 50], help="the first is the base (default: 1000 100 50)"
    )
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0], help="DPS's lambda, one or more (default: 1)")
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 12, 16, 30], help="of the rest (default: 8 ... 30)")
    parser.add_argument("--cg-steps", type=int, nargs="+", default=[1, 2], help="of MMPS (default: 1 2)")
    parser.add_argument("--measurements", type=int, default=4, help="whose spread is looked at (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=8, help="from each of their posteriors (default: %(default)s)")
    small = {"pictures": 16, "repeats": 1, "dps_steps": [3, 2], "steps": [2], "measurements": 2, "draws": 4}
    args = parse(parser, words, **small)
    if args.draws < 2:
        raise ValueError(f"a spread needs at least two draws, got {args.draws}")
    start = time.perf_counter()
    truth, m = broken(args.pictures, args.seed)
    schedule, model = emlib.linear_schedule(), checkpoint()
    few = m.select(range(min(args.measurements, len(m))))
    drawn: dict[str, torch.Tensor] = {}

    def run(name: str, sampler: Sampler) -> None:
        parts = emlib.reconstruct(sampler, model, schedule, m, args.seed, "benchmark", len(m))
        drawn[name] = torch.cat(list(parts))

    parts = list(contestants(args.dps_steps, args.scale, args.steps, args.cg_steps))
    run("warm-up", partial(emlib.mmps, steps=1))
    seconds = alternated({name: partial(run, name, sampler) for name, _, sampler in parts}, args.repeats)
    base = parts[0][0]
    rows, wide = [], {name: spread(sampler, model, schedule, few, args.draws, args.seed) for name, _, sampler in parts}
    for name, gradients, sampler in parts:
        steps = sampler.keywords["steps"]
        rows.append(
            {
                "sampler": name,
                "forwards": steps,
                "gradients": gradients * steps,
                "seconds": statistics.median(seconds[name]),
                **ratio(seconds, name, base),
                "PSNR": emlib.psnr(drawn[name], truth).mean().item(),
                "PSNR_std": emlib.psnr(drawn[name], truth).std().item(),
                "spread": wide[name],
                "spread_ratio": wide[name] / wide[base],
            }
        )
    settings = {name: getattr(args, name) for name in ("pictures", "scale", "measurements", "draws")}
    report(
        args,
        "samplers",
        {**settings, "base": base, "operator": "mask", "fraction": 0.6},
        rows,
        time.perf_counter() - start,
    )


if __name__ == "__main__":
    main()

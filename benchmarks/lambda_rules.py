"""How far from the best scale does each rule for DPS's lambda land? Measured against the truth, prior by prior.

    python benchmarks/lambda_rules.py --operator mask --prior runs/em/prior_00.safetensors --out FILE.json

Each rule takes its scale on the probe; PSNRs are means over the probe and over other pictures, gaps are to
the best scale of the same grid on the same pictures. "search" is what searched_dps("auto", ...) takes.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import emlib
from emlib import guidance
from emlib.experiments.config import here
from emlib.guidance import rules
from emlib.operators import Measurements
from emlib.runs.record import write_result

GRID = [2 ** (i / 2) for i in range(-4, 7)]
"""0.25 to 8 in half octaves: where a search on the default grid can end."""


def main(words: list[str] | None = None) -> int:
    args = options().parse_args(words)
    try:
        measure_rules(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"lambda_rules: {error}", file=sys.stderr)
        return 2
    return 0


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operator", choices=["mask", "noise", "blur"], required=True)
    parser.add_argument("--noise-std", type=float, help="noise on the [-1, 1] scale (default: 0.2 for noise, else 0)")
    parser.add_argument("--fraction", type=float, default=0.6, help="share of hidden pixels of a mask (default: 0.6)")
    parser.add_argument("--prior", type=Path, action="append", required=True, help="safetensors file; may be repeated")
    parser.add_argument("--preset", help="sizes (default: EMLIB_PRESET, then pocket)")
    parser.add_argument("--probe", type=int, default=guidance.PROBE, help="pictures to choose on (default: 32)")
    parser.add_argument("--evaluation", type=int, default=64, help="other pictures to score on (default: 64)")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=GRID, help="the grid (default: 0.25 to 8, half octaves)"
    )
    parser.add_argument("--rules", nargs="+", choices=list(rules.RULES), help="default: all that the task can feed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def measure_rules(args: argparse.Namespace) -> None:
    p, start = emlib.preset(args.preset), time.perf_counter()
    noise_std = (0.2 if args.operator == "noise" else 0.0) if args.noise_std is None else args.noise_std
    scales = sorted(guidance.check_scales(args.scales))
    task = emlib.make_task(p, args.operator, args.fraction, noise_std, args.seed, here(p.data))
    n, m = args.probe, args.evaluation
    if min(n, m) < 1 or n + m > len(task.measurements):
        raise ValueError(f"probe {n} and evaluation {m} must be 1 or more and share {len(task.measurements)} pictures")
    priors = {path: emlib.load_unet(path).to(memory_format=torch.channels_last) for path in args.prior}
    probe, truth = task.measurements.select(range(n)), task.truth[:n]
    other, other_truth = task.measurements.select(range(n, n + m)), task.truth[n : n + m]
    names = args.rules or [name for name in rules.RULES if usable(name, probe)]
    for name in names:
        rules.check(name, probe)
    rows: list[dict[str, Any]] = []
    print(f"{'prior':>24} {'rule':>12} {'lambda':>7} {'probe dB':>9} {'gap':>6} {'other dB':>9} {'gap':>6}")
    for path, prior in priors.items():
        run = remembered(prior, p.dps_steps, args.seed)
        found, inside, outside = {name: [] for name in names}, {}, {}
        for scale in tqdm(scales, desc=path.stem, unit="scale", leave=False):
            inside[scale] = psnr_of(run(scale, probe, 0), truth)
            outside[scale] = psnr_of(run(scale, other, 0), other_truth)
            for name in names:
                found[name].append((rules.RULES[name](run, probe, args.seed, scale), scale))
        taken = {"oracle": max(inside, key=inside.__getitem__)} | {name: min(found[name])[1] for name in names}
        if "auto" in names:
            score = functools.partial(look_up, {scale: value for value, scale in found["auto"]})
            tried = guidance.search(score, scales[::2])
            taken["search"] = nearest(scales, min(tried, key=lambda tried: tried.score).scale)
        for rule, scale in taken.items():
            row = {
                "prior": path.stem,
                "rule": rule,
                "scale": round(scale, 4),
                "probe_psnr": round(inside[scale], 3),
                "probe_gap": round(max(inside.values()) - inside[scale], 3),
                "psnr": round(outside[scale], 3),
                "gap": round(max(outside.values()) - outside[scale], 3),
            }
            rows.append(row)
            print(
                "{prior:>24} {rule:>12} {scale:7.3g} {probe_psnr:9.2f} {probe_gap:6.2f} {psnr:9.2f} {gap:6.2f}".format(
                    **row
                )
            )
        for scale in scales:
            scores = {f"score_{name}": round(v, 6) for name in names for v, at in found[name] if at == scale}
            curve = {"probe_psnr": round(inside[scale], 3), "psnr": round(outside[scale], 3)}
            rows.append({"prior": path.stem, "scale": round(scale, 4), **curve, **scores})
    settings = {"preset": p.name, **task.about, "dps_steps": p.dps_steps, "probe": n, "evaluation": m}
    settings |= {"priors": [str(path) for path in args.prior], "auto": rules.pick(probe)}
    write_result(args.out, "lambda-rules", settings, rows, time.perf_counter() - start)
    print(f"numbers: {args.out}")


def usable(name: str, probe: Measurements) -> bool:
    try:
        rules.check(name, probe)
    except ValueError:
        return False
    return True


def remembered(prior: nn.Module, steps: int, seed: int) -> rules.Run:
    """DPS that never makes the same pictures twice, since several rules look at the same ones."""
    schedule, made = emlib.linear_schedule(), {}

    def run(scale: float, measurements: Measurements, sample: int) -> Tensor:
        key = (scale, sample, measurements.operator.name, measurements.y.numpy().tobytes())
        if key not in made:
            sampler = functools.partial(emlib.dps, steps=steps, scale=scale)
            parts = emlib.reconstruct(sampler, prior, schedule, measurements, seed, f"probe {sample}", 64)
            made[key] = torch.cat(list(parts))
        return made[key]

    return run


def look_up(scores: dict[float, float], scale: float) -> float:
    """The score of the nearest scale: halfway between octaves lies the half octave, up to rounding."""
    return scores[nearest(list(scores), scale)]


def nearest(scales: list[float], scale: float) -> float:
    return min(scales, key=lambda other: abs(other - scale))


def psnr_of(x: Tensor, truth: Tensor) -> float:
    return emlib.psnr(x, truth).mean().item()


if __name__ == "__main__":
    sys.exit(main())

"""Speed of the E-step: our DPS and MMPS against deepinv's DPS, on the same network with the same number of steps.

The other benchmarks take from here what they share: options, alternating rounds and the report.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import deepinv
import torch
from torch import Tensor, nn

import emlib
from emlib.data.datasets import data_dir
from emlib.hub import denoised
from emlib.runs.record import write_result

Rows = list[dict[str, Any]]


def options(doc: str, pictures: int, repeats: int) -> argparse.ArgumentParser:
    """The options of every benchmark; ``doc`` is the script's docstring, the numbers are its defaults."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=pictures, help="pictures at a time (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds to take medians of (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of masks and samples (default: 0)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that it runs; times mean nothing")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    return parser


def broken(pictures: int, seed: int, fraction: float = 0.6) -> tuple[Tensor, emlib.Measurements]:
    """Held-out embedded pictures [N, 1, 28, 28] on [-1, 1] and what is measured of them through masks."""
    truth = emlib.load("embedded").held_out[:pictures]
    return truth, emlib.measure(truth, emlib.random_mask(len(truth), 28, fraction, seed), 0.0, seed)


def checkpoint() -> emlib.UNet:
    """The clean prior that comes with the project."""
    return emlib.load_unet(data_dir() / "checkpoints" / "fashion-mnist-clean.safetensors").requires_grad_(False)


def alternated(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each piece of work, round by round.

    All pieces take their turn in every round, and every second round goes backwards, so that a machine that
    slows down or speeds up does so for all. Warming up is the caller's.

    Raises:
        ValueError: if ``repeats`` is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"at least one round is needed, got repeats={repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats):
        for name in list(work)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            work[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> dict[str, float]:
    """How many times as fast as ``base``: the median of the rounds' ratios, and the least and the greatest."""
    ratios = [b / a for a, b in zip(seconds[name], seconds[base])]
    return {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


def report(args: argparse.Namespace, experiment: str, settings: dict[str, Any], rows: Rows, seconds: float) -> None:
    """Prints the rows and, with ``--out``, records them."""
    show(rows)
    record(args, experiment, settings, rows, seconds)


def show(rows: Rows) -> None:
    """Prints rows, each number with four digits."""
    for row in rows:
        print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def record(args: argparse.Namespace, experiment: str, settings: dict[str, Any], rows: Rows, seconds: float) -> None:
    """Records the rows, where ``--out`` says so."""
    if args.out:
        about = {"seed": args.seed, "threads": torch.get_num_threads(), "repeats": args.repeats}
        write_result(args.out, f"benchmark {experiment}", {**about, **settings}, rows, seconds)


def parse(parser: argparse.ArgumentParser, words: Iterable[str] | None, **quick: Any) -> argparse.Namespace:
    """The options that were given; ``quick`` are those that ``--quick`` sets."""
    words = list(sys.argv[1:] if words is None else words)
    args = parser.parse_args(words)
    return argparse.Namespace(**{**vars(args), **(quick if args.quick else {}), "words": words})


class Denoiser(nn.Module):
    """Our network as deepinv asks for it, but on our scale: x_0 + sigma z and sigma -> E[x_0 | ...], all on [-1, 1]."""

    def __init__(self, model: nn.Module, schedule: emlib.Schedule) -> None:
        super().__init__()
        self.model, self.schedule = model, schedule

    def forward(self, x: Tensor, sigma: Tensor | float, **_: Any) -> Tensor:
        return denoised(self.model, self.schedule, x, torch.as_tensor(sigma).reshape(-1)[:1])


class Calls(nn.Module):
    """The network, with a count of its calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.count = model, 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.count += 1
        return self.model(x, t)


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=64, repeats=7)
    parser.add_argument("--steps", type=int, default=50, help="network calls of a sample (default: %(default)s)")
    parser.add_argument("--cg-steps", type=int, default=1, help="of MMPS (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="our DPS's lambda (default: %(default)s)")
    parser.add_argument("--weight", type=float, default=1.0, help="deepinv's (default: %(default)s)")
    args = parse(parser, words, pictures=16, repeats=1, steps=2)
    start = time.perf_counter()
    truth, m = broken(args.pictures, args.seed)
    schedule, model = emlib.linear_schedule(), Calls(checkpoint())
    physics = deepinv.physics.Inpainting(tuple(truth.shape[1:]), mask=m.operator.mask)
    # deepinv visits num_steps times and calls the network between them. Without "minus_one_one" it leaves
    # pictures on our scale; everything else is its default, states in float64 included.
    theirs = deepinv.sampling.DPS(
        Denoiser(model, schedule),
        num_steps=args.steps + 1,
        weight=args.weight,
        minus_one_one=False,
        rng=torch.Generator(),
    )

    def ours(sampler: Callable[..., Any]) -> Tensor:
        return torch.cat(list(emlib.reconstruct(sampler, model, schedule, m, args.seed, "benchmark", len(m))))

    work = {
        "deepinv DPS": lambda: theirs(m.y, physics, seed=args.seed),
        "our DPS": lambda: ours(partial(emlib.dps, steps=args.steps, scale=args.scale)),
        "our MMPS": lambda: ours(partial(emlib.mmps, steps=args.steps, cg_steps=args.cg_steps)),
    }
    found: dict[str, dict[str, float]] = {}
    for name, run in work.items():  # warms up, and shows that all do their work with as many calls
        model.count = 0
        x = run().float().clamp(-1, 1)
        found[name] = {"calls": model.count, "PSNR": emlib.psnr(x, truth).mean().item()}
        if model.count != args.steps:
            raise ValueError(f"{name} called the network {model.count} times for {args.steps} steps")
    seconds = alternated(work, args.repeats)
    rows = [
        {
            "sampler": name,
            "images_per_s": len(m) / statistics.median(seconds[name]),
            **ratio(seconds, name, "deepinv DPS"),
            **found[name],
        }
        for name in work
    ]
    settings = {name: getattr(args, name) for name in ("pictures", "steps", "cg_steps", "scale", "weight")}
    settings["deepinv"] = deepinv.__version__
    report(args, "e_step", settings, rows, time.perf_counter() - start)


if __name__ == "__main__":
    main()

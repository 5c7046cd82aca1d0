"""How far from real pictures are a prior's, drawn by DDIM and by ancestral sampling?

    python benchmarks/drawing.py --prior runs/NAME/seed-0/em-mmps/prior_03.safetensors --out FILE.json

Draws the preset's number of pictures from each prior in each way, and holds them against the real ones as the tables
do. The tables draw with fresh noise; with their seed and their number of steps the distance is the table's own.
``brightness`` is the mean pixel of the crowd, which tells what part of a distance is nothing but too bright or too
dark. ``--copies`` adds what a prior would get that knew so many real pictures by heart, and drew nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import emlib
from emlib.experiments.config import here
from emlib.experiments.run import CROWD
from emlib.metrics import alexnet, summary
from emlib.runs.build import draw_samples
from emlib.runs.record import write_result
from emlib.unet import load_unet

WAYS = {"DDIM": 0.0, "ancestral": 1.0}
"""The share of fresh noise, ``eta``, of each way to draw."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", type=Path, nargs="+", required=True, help="safetensors files")
    parser.add_argument("--preset", default="pocket", help="sizes (default: pocket)")
    parser.add_argument("--ddim", type=int, nargs="*", default=[25], help="numbers of steps (default: 25)")
    parser.add_argument("--ancestral", type=int, nargs="*", default=[25, 50], help="numbers of steps (default: 25 50)")
    parser.add_argument("--copies", type=int, nargs="*", default=[], help="also so many real pictures, again and again")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(words)
    ways = [(name, steps) for name, counts in (("DDIM", args.ddim), ("ancestral", args.ancestral)) for steps in counts]
    if reason := alexnet.alexnet_missing():
        print(f"drawing: {reason}", file=sys.stderr)
        return 2
    try:
        p, schedule = emlib.preset(args.preset), emlib.linear_schedule()
        task = emlib.make_task(p, data=here(p.data))  # for the real pictures; what breaks them does not matter
        priors = {file: load_unet(file).eval().to(memory_format=torch.channels_last) for file in args.prior}
        for _, steps in ways:
            emlib.time_grid(schedule, steps)  # refuses a number of steps that the schedule lacks
        if bad := [count for count in args.copies if not 1 <= count <= len(task.real)]:
            raise ValueError(f"--copies takes 1 to {len(task.real)} of the real pictures, got {bad[0]}")
    except (ValueError, FileNotFoundError) as error:
        print(f"drawing: {error}", file=sys.stderr)
        return 2
    start, rows = time.perf_counter(), []
    crowd = summary.features_or_none(task.real[:CROWD])

    def drawn() -> Iterator[tuple[dict[str, Any], Tensor]]:
        for count in args.copies:
            yield {"prior": f"{count} real pictures, again and again"}, task.real[torch.arange(p.samples) % count]
        for file, prior in priors.items():
            for way, steps in ways:
                x = draw_samples(prior, schedule, task, replace(p, sample_steps=steps), args.seed, "cpu", WAYS[way])
                yield {"prior": str(file), "way": way, "steps": steps}, x

    for about, x in drawn():
        rows.append({**about, "brightness": x.mean().item(), **summary.with_floor(x, crowd)})
        tqdm.write("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    settings = {"preset": p.name, "data": task.about["data"], "seed": args.seed, "brightness": task.real.mean().item()}
    if args.out:
        write_result(args.out, "drawing", settings, rows, time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())

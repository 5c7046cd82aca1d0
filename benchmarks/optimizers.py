"""What does an update teach? AdamW and Muon on the same pictures, by what the prior is worth afterwards.

    python benchmarks/optimizers.py --out FILE.json

Trains the preset's network on broken pictures' originals, for each optimizer and number of updates, and takes of each
prior: PSNR of held-out pictures restored by MMPS from masks and from noise, FD-AlexNet of what it draws, and the error
of its noise estimate at three times. ``updates`` of AdamW and half as many of Muon are what the presets rest on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import emlib
from emlib.experiments.run import CROWD
from emlib.metrics import summary
from emlib.muon import OPTIMIZERS
from emlib.runs.build import draw_samples
from emlib.runs.record import write_result
from emlib.training import train

RATES = {"adamw": 1e-3, "muon": 2e-3}
"""The best learning rate of each by trial, for the weights that AdamW has in either."""

TIMES = (5, 60, 350)
"""Where the error of the noise estimate is taken."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="pocket", help="sizes (default: pocket)")
    parser.add_argument("--data", help="as for python -m emlib em (default: the preset's)")
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS), help="which")
    parser.add_argument("--updates", type=int, nargs="+", default=[300, 600], help="of each (default: 300 600)")
    parser.add_argument("--pictures", type=int, default=128, help="held-out ones to restore (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(words)
    start, p = time.perf_counter(), emlib.preset(args.preset)
    tasks = {
        name: emlib.make_task(p, name, noise_std=noise_std, seed=args.seed, data=args.data)
        for name, noise_std in (("mask", 0.0), ("noise", 0.2))
    }
    real = summary.features_or_none(tasks["mask"].real[:CROWD])
    rows = []
    for optimizer in args.optimizers:
        for updates in args.updates:
            row = {"optimizer": optimizer, "updates": updates, "lr": RATES[optimizer]}
            row |= _trained(p, tasks, real, args, optimizer, updates)
            tqdm.write("  ".join(f"{key} {value:.4g}" if key != "optimizer" else value for key, value in row.items()))
            rows.append(row)
    settings = {"preset": p.name, "data": tasks["mask"].about["data"], "seed": args.seed, "pictures": args.pictures}
    settings |= {"threads": torch.get_num_threads(), "batch": p.em.train_batch}
    if args.out:
        write_result(args.out, "optimizers", settings, rows, time.perf_counter() - start)
    return 0


def _trained(
    p: emlib.Preset,
    tasks: dict[str, emlib.Task],
    real: Tensor | None,
    args: argparse.Namespace,
    optimizer: str,
    updates: int,
) -> dict[str, Any]:
    """One training, and all that is taken of its prior."""
    schedule, images = emlib.linear_schedule(), tasks["mask"].truth
    model, begin = emlib.build_unet(p.unet, args.seed), time.process_time()
    how = (p.em.train_batch, RATES[optimizer], args.seed, p.em.ema_decay, p.em.flip)
    loop = train(model, schedule, images, updates, *how, optimizer=optimizer)
    for now in tqdm(loop, total=updates, desc=f"{optimizer}, {updates}", leave=False):
        pass
    prior, row = now.ema, {"seconds": time.process_time() - begin}
    sampler = partial(emlib.mmps, steps=p.e_steps, cg_steps=p.cg_steps)
    for name, task in tasks.items():
        few, truth = task.held_out.select(range(args.pictures)), task.held_out_truth[: args.pictures]
        x = torch.cat(list(emlib.reconstruct(sampler, prior, schedule, few, args.seed, "held-out", p.em.e_batch)))
        row[f"PSNR, {name}"] = emlib.psnr(x, truth).mean().item()
    samples = draw_samples(prior, schedule, tasks["mask"], p, args.seed, "cpu")
    row |= summary.against_real(samples, real)
    return row | dict(_errors(prior, schedule, tasks["mask"].held_out_truth, args.seed))


@torch.no_grad()
def _errors(prior: emlib.UNet, schedule: emlib.Schedule, truth: Tensor, seed: int) -> Iterator[tuple[str, float]]:
    """Mean square of eps - eps_theta on held-out pictures at a few times."""
    eps = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
    for t in TIMES:
        found = prior(emlib.add_noise(schedule, truth, t, eps), torch.full((len(truth),), t))
        yield f"eps error, t = {t}", (eps - found).square().mean().item()


if __name__ == "__main__":
    sys.exit(main())

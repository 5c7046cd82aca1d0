"""Does a folded network leave a pattern where a blur hardly shows it? And one that isn't folded?

    python benchmarks/folding.py --experiment table-cifar10-blur --out FILE.json

Trains a first prior on an experiment's clean pictures for each way to fold, all else the same, and restores held-out
pictures with it by MMPS. ``alternation`` says how much more power the patterns have that repeat every two pixels than
those beside them; in the first row stands what it is for the truth.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

import emlib
from emlib.experiments.base import Setting, trained_on
from emlib.experiments.config import here, read_experiment
from emlib.metrics.image import alternation
from emlib.runs.record import write_result


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--experiment", default="table-cifar10-blur", help="gives task and sizes (default: CIFAR-10, blur)"
    )
    parser.add_argument("--patches", type=int, nargs="+", default=[2, 1], help="pixels that are folded (default: 2 1)")
    parser.add_argument("--pictures", type=int, default=96, help="to restore (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(words)
    try:
        experiment = read_experiment(args.experiment)
        p, schedule = experiment.sizes(), emlib.linear_schedule()
        task = emlib.make_task(
            p, experiment.operator, experiment.fraction, experiment.noise_std, args.seed, here(p.data)
        )
        presets = [replace(p, unet=replace(p.unet, patch=patch)) for patch in args.patches]
        if not 1 <= args.pictures <= len(task.held_out):
            raise ValueError(f"--pictures is {args.pictures}, but 1 to {len(task.held_out)} are held out")
    except (ValueError, FileNotFoundError) as error:
        print(f"folding: {error}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    few, truth = task.held_out.select(range(args.pictures)), task.held_out_truth[: args.pictures]
    sampler = functools.partial(emlib.mmps, steps=p.e_steps, cg_steps=p.cg_steps)
    rows = [{"network": "none, the truth", "alternation": alternation(truth)}]
    for sizes in presets:
        prior = trained_on(Setting(sizes, task, schedule, args.seed, Path()), task.clean, p.em.init_updates)
        batches = emlib.reconstruct(sampler, prior.eval(), schedule, few, args.seed, "held-out", p.em.e_batch)
        x = torch.cat(list(tqdm(batches, desc="restoring", leave=False)))
        row = {"network": f"folded by {sizes.unet.patch}", "PSNR": emlib.psnr(x, truth).mean().item()}
        rows.append({**row, "alternation": alternation(x)})
        tqdm.write("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    settings = {"experiment": args.experiment, "data": task.about["data"], "pictures": args.pictures, "seed": args.seed}
    if args.out:
        write_result(args.out, "folding", settings, rows, time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What leaves a pattern of two pixels where a blur hardly shows it: the folded network, or the solver?

    python benchmarks/folding.py --experiment table-cifar10-blur --out FILE.json

Trains a first prior on an experiment's clean pictures for each network, all else the same: as the experiment has it,
without the convolutions on the unfolded picture, and not folded at all. Each restores held-out pictures by MMPS, with
plain steps and with preconditioned ones. ``alternation`` says how much more power the patterns have that repeat every
two pixels than those beside them; in the settings stands what it is for the truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from solvers import first_prior, tasks_of
from tqdm import tqdm

import emlib
from emlib.experiments.config import read_experiment
from emlib.metrics.image import alternation
from emlib.posterior import find_sampler
from emlib.runs.record import write_result
from emlib.unet import UNetConfig

SOLVED = ("mmps-plain", "mmps")
"""MMPS with either solver."""


def networks(unet: UNetConfig) -> dict[str, UNetConfig]:
    """A network, the same without its convolutions on the unfolded picture, and one that folds nothing, by a label."""
    found = (unet, replace(unet, refine=0), replace(unet, patch=1, refine=0))
    return {label(each): each for each in found}


def label(unet: UNetConfig) -> str:
    """What a reader sees of a network."""
    return ("not folded" if unet.patch == 1 else "folded") + (", two convolutions after" if unet.refine else "")


def main(words: list[str] | None = None) -> int:
    """Trains, restores, records; 2 if the experiment or the number of pictures makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--experiment", default="table-cifar10-blur", help="gives task and sizes (default: CIFAR-10, blur)"
    )
    parser.add_argument("--pictures", type=int, default=96, help="to restore (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(words)
    try:
        experiment = read_experiment(args.experiment)
        p, (task,) = tasks_of(experiment, [experiment.noise_std], args)
    except (ValueError, FileNotFoundError) as error:
        print(f"folding: {error}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    few, truth = task.held_out.select(range(args.pictures)), task.held_out_truth[: args.pictures]
    rows = []
    for network, unet in networks(p.unet).items():
        prior = first_prior(replace(p, unet=unet), task, args.seed)
        for name in SOLVED:
            sampler = find_sampler(name)
            solve = sampler.filled_in(p)
            batches = emlib.reconstruct(solve, prior, emlib.linear_schedule(), few, args.seed, "held-out", p.em.e_batch)
            x = torch.cat(list(tqdm(batches, desc="restoring", leave=False)))
            row = {"network": network, "solver": sampler.solver, "PSNR": emlib.psnr(x, truth).mean().item()}
            rows.append({**row, "alternation": alternation(x)})
            tqdm.write("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    settings = {"experiment": args.experiment, "data": task.about["data"], "pictures": args.pictures, "seed": args.seed}
    settings |= {"truth": alternation(truth)}
    if args.out:
        write_result(args.out, "folding", settings, rows, time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())

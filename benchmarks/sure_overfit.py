"""Does SURE still tell the error of a denoiser that was trained by it? On pictures it has seen, and on others.

    python benchmarks/sure_overfit.py --out FILE.json

Trains with the budget of SURE-Score's row in a noise table, but on all noisy pictures and to the end, with and without
the prior's part of the loss, and holds the estimate against the truth every so many updates.
Errors are means over numbers, on the [-1, 1] scale.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import emlib
from emlib.baselines import sure_score
from emlib.experiments.config import read_experiment
from emlib.operators import Measurements
from emlib.runs.record import write_result


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", help="sizes (default: those of table-embedded-noise)")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.0], help="of the prior's part, at the end")
    parser.add_argument("--every", type=int, default=100, help="updates between two looks (default: 100)")
    parser.add_argument("--pictures", type=int, default=100, help="of each kind that are looked at (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of noise, network and batches (default: 0)")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(words)
    if min(args.every, args.pictures) < 1:
        print(f"sure_overfit: --every {args.every}, --pictures {args.pictures}: both at least 1", file=sys.stderr)
        return 2
    experiment = read_experiment("table-embedded-noise")
    p = emlib.preset(args.preset) if args.preset else experiment.sizes()
    task = emlib.make_task(p, "noise", noise_std=experiment.noise_std, seed=args.seed)
    start, rows = time.perf_counter(), []
    for weight in args.weights:
        for row in tqdm(curve(p, task, weight, args.every, args.pictures, args.seed), desc=f"weight {weight}"):
            tqdm.write("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
            rows.append(row)
    settings = {
        "preset": p.name,
        **task.about,
        "pictures": args.pictures,
        "batch": p.em.train_batch,
        "lr": p.em.init_lr,
        "optimizer": p.em.optimizer,
    }
    if args.out:
        write_result(args.out, "sure-overfit", settings, rows, time.perf_counter() - start)
    return 0


def curve(
    p: emlib.Preset, task: emlib.Task, weight: float, every: int, pictures: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Trains as :func:`emlib.experiments.methods.by_sure_score` does, without its stop, and looks every so often."""
    em, schedule, std = p.em, emlib.linear_schedule(), task.measurements.noise_std
    steps = (p.prior_updates - em.init_updates) // 3
    loop = sure_score.train_sure_score(
        emlib.build_unet(p.unet, seed),
        schedule,
        task.measurements,
        task.clean,
        em.init_updates,
        steps,
        em.train_batch,
        em.init_lr,
        1000 * seed + 900,
        em.ema_decay,
        weight,
        em.optimizer,
    )
    for i, now in enumerate(loop, start=1 - em.init_updates):
        if i >= 0 and (i % every == 0 or i == steps):
            row = {"weight": weight, "updates": i, "passes": i * em.train_batch / len(task.measurements)}
            D = sure_score.denoiser(now.ema, schedule, std)
            row |= look(D, "seen", task.measurements, task.truth, pictures)
            yield row | look(D, "held out", task.held_out, task.held_out_truth, pictures)


@torch.no_grad()
def look(D: Callable[[Tensor], Tensor], name: str, m: Measurements, truth: Tensor, pictures: int) -> dict[str, float]:
    """SURE of the first pictures, and the error that it estimates."""
    y, x = m.y[:pictures], truth[:pictures]
    Dy = D(y)
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return {
        f"SURE, {name}": sure_score.sure_loss(D, Dy, y, m.noise_std, probe).item(),
        f"error, {name}": (Dy - x).square().mean().item(),
        f"PSNR, {name}": emlib.psnr(Dy.clamp(-1, 1), x).mean().item(),
    }


if __name__ == "__main__":
    sys.exit(main())

"""What does a network draw that has never seen anything but the last E-step's pictures? And the prior of the EM run?

    python benchmarks/relearn.py --run runs/NAME/seed-0/em-mmps --out FILE.json

Takes folders of finished EM runs, as ``python -m emlib experiment`` and ``python -m emlib em`` leave them. From each it
trains a fresh network on the pictures of the last E-step, by default for as long as a clean prior, and holds three
crowds against the real pictures: what the E-step drew, what EM's prior draws, and what the fresh network draws. If the
last two agree, a bad distance is the pictures' doing, not that of what the prior remembers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import emlib
from emlib.experiments.base import Setting, trained_on
from emlib.experiments.run import CROWD
from emlib.metrics import alexnet, summary
from emlib.runs.build import draw_samples
from emlib.runs.record import write_result
from emlib.unet import load_unet


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of finished EM runs on one task")
    parser.add_argument("--preset", default="pocket", help="sizes of these runs (default: pocket)")
    parser.add_argument("--updates", type=int, help="of the fresh network (default: as many as the preset's ceiling)")
    parser.add_argument("--seed", type=int, default=0, help="seed of network, batches and draws (default: 0)")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(words)
    p = emlib.preset(args.preset)
    updates = p.prior_updates if args.updates is None else args.updates
    if reason := alexnet.alexnet_missing():
        print(f"relearn: {reason}", file=sys.stderr)
        return 2
    if lacking := [str(run) for run in args.run if not (run / "settings.json").is_file()]:
        print(f"relearn: no run of EM in {', '.join(lacking)}; make one with python -m emlib em", file=sys.stderr)
        return 2
    start, rows = time.perf_counter(), []
    task = emlib.make_task(p)  # for the real pictures; what breaks them does not matter
    crowd = summary.features_or_none(task.real[:CROWD])
    for run in args.run:
        for row in crowds(run, p, task, crowd, updates, args.seed):
            tqdm.write("  ".join(f"{key} {value}" for key, value in row.items()))
            rows.append(row)
    settings = {"preset": p.name, "data": task.about["data"], "updates": updates, "seed": args.seed}
    if args.out:
        write_result(args.out, "relearn", settings, rows, time.perf_counter() - start)
    return 0


def crowds(
    run: Path, p: emlib.Preset, task: emlib.Task, crowd: torch.Tensor, updates: int, seed: int
) -> Iterator[dict[str, Any]]:
    """The distance of each crowd of one run to the real pictures."""
    schedule = emlib.linear_schedule()
    last = max(run.glob("reconstructions_*.npy"), key=lambda file: file.stem)
    pictures = torch.from_numpy(np.load(last))
    fresh = trained_on(Setting(p, task, schedule, seed, run), pictures, updates)
    own = load_unet(run / f"prior_{last.stem.rpartition('_')[2]}.safetensors").eval()
    drawn = {"drawn by the last E-step": pictures}
    drawn |= {
        name: draw_samples(prior, schedule, task, p, seed, "cpu")
        for name, prior in {"drawn by EM's prior": own, "drawn by a fresh network": fresh}.items()
    }
    for name, x in drawn.items():
        yield {"run": run.name, "pictures": name, **summary.with_floor(x, crowd)}


if __name__ == "__main__":
    sys.exit(main())

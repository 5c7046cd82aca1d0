"""``emlib evaluate``: samples from a prior, and their Fréchet distance to real pictures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from emlib.cli.words import PRIOR, Strangers, check_words, path_of
from emlib.data.datasets import load
from emlib.diffusion import check_eta
from emlib.em.checkpoint import RunFolder
from emlib.hub.pretrained import load_pretrained
from emlib.metrics.reference import FEATURES, Feature, choose_features, len_of, score
from emlib.runs.job import MOST
from emlib.runs.outputs import try_result
from emlib.runs.presets import preset
from emlib.runs.record import write_result
from emlib.runs.samples import SHARD, SHOWN, draw_shards, picture_shape, read_shards, save_tile, weights_fingerprint
from emlib.runtime.device import pick_device
from emlib.runtime.distributed import ranks, wait_for_all
from emlib.runtime.places import check_room, try_folder
from emlib.runtime.precision import quick
from emlib.schedule import linear_schedule, time_grid


def run(args: argparse.Namespace) -> None:
    """Draws samples from a prior and takes their Fréchet distance to the real pictures."""
    check_words(args)
    p, schedule, here, device = preset(args.preset), linear_schedule(), ranks(), pick_device()
    count = p.samples if args.samples is None else args.samples
    steps = p.sample_steps if args.steps is None else args.steps
    batch = p.em.e_batch if args.batch is None else args.batch
    if min(count, batch) < 1:
        raise ValueError(f"--samples and --batch must be at least 1, got {count} and {batch}")
    if batch > MOST:
        raise ValueError(f"--batch takes up to {MOST}, got {batch}")
    if args.out is not None and here.first:
        try_result(args.out, "evaluate", ".png")
    time_grid(schedule, steps)  # refuses a number of steps that the schedule lacks
    check_eta(args.eta)
    prior = load_pretrained(args.prior)
    data = load(args.data or p.data, p.size, prior.cfg.in_channels)
    shape = picture_shape(prior, data)
    features, left_out = choose_features(args.feature, count, len_of(data))
    drawn = {"prior": weights_fingerprint(prior), "shape": shape, "steps": steps, "eta": args.eta, "seed": args.seed}
    drawn |= asdict(p.em.speed)
    folder = args.folder or Path("runs") / f"samples-{Path(args.prior).stem}-{drawn['prior'][:8]}"
    out = args.out or folder / "result.json"
    if here.first:
        try_folder(folder)
        try_result(out, "evaluate", ".png")
        check_room(folder, count * prod(shape) - sum(file.stat().st_size for file in folder.glob("samples/*")))
    keep = RunFolder(folder)
    keep.hold()  # until the end
    keep.claim({**drawn, "shard": SHARD})
    if here.first:
        print(
            "\n".join([f"{count:,} samples in {steps} steps, kept in {folder}", *map("left out: {}".format, left_out)])
        )
    start, resumed = time.perf_counter(), any(folder.glob("samples/*"))
    wait_for_all()  # else another process' first shard would look like one from before
    eps = quick(prior.to(device).to(memory_format=torch.channels_last), p.em.speed)
    schedule = schedule.to(device)
    _watch(draw_shards(eps, schedule, shape, count, steps, folder, args.seed, batch, args.eta, device), here.first)
    wait_for_all()
    if not here.first:  # the others have drawn along; the first one scores
        return
    rows = [score(feature, read_shards(folder, count), count, data, device) for feature in features]
    settings = {"preset": p.name, "data": data.name, "fingerprint": data.fingerprint, "samples": count, **drawn}
    settings |= {"resumed": True} if resumed else {}  # its seconds are those since then
    save_tile(read_shards(folder, min(SHOWN, count)), out.with_suffix(".png"))
    write_result(out, "evaluate", settings, rows, time.perf_counter() - start)
    _print_rows(features, rows)
    print(f"numbers: {out}   first samples: {out.with_suffix('.png')}")


def _watch(loop: Iterator[tuple[int, int]], show: bool) -> None:
    with tqdm(desc="samples", unit="picture", disable=not show) as bar:
        for done, bar.total in loop:
            bar.update(done - bar.n)


def _print_rows(features: list[Feature], rows: list[dict[str, Any]]) -> None:
    for name, row in zip((feature.distance for feature in features), rows, strict=True):
        print(
            f"{name} {row[name]:.3f}: {row['n']:,} samples to {row['n_real']:,} real pictures; "
            f"floor {row['floor']:.3f}, {row['n_floor']:,} of these to the others"
        )


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib evaluate``."""
    sub.add_argument("--prior", required=True, help=PRIOR)
    sub.add_argument("--preset", help="sizes (default: EMLIB_PRESET, then pocket)")
    sub.add_argument("--data", help="real pictures, a name or a folder as for em (default: the preset's)")
    sub.add_argument("--samples", type=int, help="how many to draw (default: the preset's; 50000 in the literature)")
    sub.add_argument("--steps", type=int, help="network calls of each (default: the preset's)")
    sub.add_argument("--eta", type=float, default=1.0, help="0 for DDIM, 1 for ancestral sampling (default: 1)")
    sub.add_argument("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    sub.add_argument("--batch", type=int, help="pictures at a time; changes memory and speed (default: the preset's)")
    sub.add_argument(
        "--feature", choices=FEATURES, help="this distance or an error (default: all that can be had, FID first)"
    )
    sub.add_argument("--folder", type=path_of, help="where samples are kept (default: runs/samples-PRIOR-FINGERPRINT)")
    sub.add_argument(
        "--out", type=path_of, help="record in this JSON file, with a grid beside it (default: in the folder)"
    )

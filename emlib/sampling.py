r"""Many pictures from a prior, in shards on disk, and how far they are from real ones: ``python -m emlib evaluate``.

A picture's noise belongs to its number, so it is the same whatever the batch, the number of processes and the
interruptions; shards are kept as bytes, 150 MB for 50,000 pictures of CIFAR-10's size.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from emlib.commands import pick_device
from emlib.data import Split, from_pixels, load, to_pixels
from emlib.diffusion import Eps, check_eta
from emlib.evaluate import draw
from emlib.files import whole
from emlib.folder import RunFolder
from emlib.posterior import BLOCK
from emlib.presets import preset
from emlib.pretrained import load_pretrained
from emlib.ranks import ranks, wait_for_all
from emlib.reference import FEATURES, Feature, choose_features, len_of, score
from emlib.results import write_result
from emlib.schedule import Schedule, linear_schedule, time_grid
from emlib.speed import quick
from emlib.unet import UNet

PRIOR = "a safetensors file of emlib's, a folder in diffusers' layout, or its name at the Hugging Face hub"
SHARD = 256
"""Pictures in a file, drawn by one process; a multiple of BLOCK, so that batches of a shard are too."""
SHOWN = 100
"""Pictures of the grid: the first ones, so that nobody chose them."""


def evaluate_command(args: argparse.Namespace) -> None:
    """``emlib evaluate``: draws samples from a prior and takes their Fréchet distance to the real pictures."""
    p, schedule, here, device = preset(args.preset), linear_schedule(), ranks(), pick_device()
    count = p.samples if args.samples is None else args.samples
    steps = p.sample_steps if args.steps is None else args.steps
    batch = p.em.e_batch if args.batch is None else args.batch
    if min(count, batch) < 1:
        raise ValueError(f"--samples and --batch must be at least 1, got {count} and {batch}")
    time_grid(schedule, steps)  # refuses a number of steps that the schedule lacks
    check_eta(args.eta)
    prior = load_pretrained(args.prior)
    data = load(args.data or p.data, p.size, prior.cfg.in_channels)
    shape = picture_shape(prior, data)
    features, left_out = choose_features(args.feature, count, len_of(data))
    drawn = {"prior": fingerprint(prior), "shape": shape, "steps": steps, "eta": args.eta, "seed": args.seed}
    drawn |= asdict(p.em.speed)
    folder = args.folder or Path("runs") / f"samples-{Path(args.prior).stem}-{drawn['prior'][:8]}"
    RunFolder(folder).claim({**drawn, "shard": SHARD})
    if here.first:
        print(
            "\n".join([f"{count:,} samples in {steps} steps, kept in {folder}", *map("left out: {}".format, left_out)])
        )
    start, resumed = time.perf_counter(), any(folder.glob("samples/*"))
    wait_for_all()  # else another process' first shard would look like one from before
    prior = quick(prior.to(device, memory_format=torch.channels_last), p.em.speed)
    schedule = schedule.to(device)
    _watch(draw_shards(prior, schedule, shape, count, steps, folder, args.seed, batch, args.eta, device), here.first)
    wait_for_all()
    if not here.first:  # the others have drawn along; the first one scores
        return
    rows = [score(feature, read_shards(folder, count), count, data, device) for feature in features]
    settings = {"preset": p.name, "data": data.name, "fingerprint": data.fingerprint, "samples": count, **drawn}
    settings |= {"resumed": True} if resumed else {}  # its seconds are those since then
    out = args.out or folder / "result.json"
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


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The words that ``emlib evaluate`` understands."""
    sub.add_argument("--prior", required=True, help=PRIOR)
    sub.add_argument("--preset", help="sizes (default: EMLIB_PRESET, then pocket)")
    sub.add_argument("--data", help="real pictures: embedded, cifar10, celeba or a folder (default: the preset's)")
    sub.add_argument("--samples", type=int, help="how many to draw (default: the preset's; 50000 in the literature)")
    sub.add_argument("--steps", type=int, help="network calls of each (default: the preset's)")
    sub.add_argument("--eta", type=float, default=0.0, help="0 for DDIM, 1 for ancestral sampling (default: 0)")
    sub.add_argument("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    sub.add_argument("--batch", type=int, help="pictures at a time; changes memory and speed (default: the preset's)")
    sub.add_argument(
        "--feature", choices=FEATURES, help="this distance or an error (default: all that can be had, FID first)"
    )
    sub.add_argument("--folder", type=Path, help="where samples are kept (default: runs/samples-PRIOR-FINGERPRINT)")
    sub.add_argument(
        "--out", type=Path, help="record in this JSON file, with a grid beside it (default: in the folder)"
    )


def picture_shape(prior: UNet, data: Split) -> tuple[int, int, int]:
    """(C, H, W) of the real pictures.

    Raises:
        ValueError: if the network does not take such pictures.
    """
    _, c, h, w = data.corrupted.shape
    cfg = prior.cfg
    if c != cfg.in_channels or h % cfg.stride or w % cfg.stride:
        raise ValueError(
            f"{data.name} has {c} channel(s) of {h} x {w} pixels, but the prior takes {cfg.in_channels} channel(s) "
            f"and sides in multiples of {cfg.stride}; name the data that it was trained on"
        )
    return c, h, w


def fingerprint(model: nn.Module) -> str:
    """Sixteen letters that differ for other weights."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def draw_shards(
    prior: Eps,
    schedule: Schedule,
    shape: tuple[int, int, int],
    count: int,
    steps: int,
    folder: Path,
    seed: int = 0,
    batch: int = 256,
    eta: float = 0.0,
    device: str = "cpu",
) -> Iterator[tuple[int, int]]:
    """Draws what is missing of ``count`` pictures, this process its share of the shards; see :func:`emlib.draw`.

    Batches are filled up to a multiple of :data:`emlib.posterior.BLOCK`, since other sizes round otherwise.

    Yields:
        (pictures done, pictures to do) of this process, once they are on disk where a shard is full.

    Raises:
        ValueError: if the prior's pictures are no numbers.
    """
    batch = -(-batch // BLOCK) * BLOCK
    missing = [first for first in range(0, count, SHARD) if _held(folder, first) < min(SHARD, count - first)]
    wait_for_all()  # all have looked before any draws, so that their lists agree
    # the last shard ends with a whole block too
    mine = {missing[i]: min(SHARD, -(-(count - missing[i]) // BLOCK) * BLOCK) for i in ranks().share(len(missing))}
    done, total = 0, sum(mine.values())
    yield done, total
    for first, size in mine.items():
        drawn: list[Tensor] = []
        for x in draw(prior, schedule, shape, size, steps, seed, batch, eta, device, first):
            if not x.isfinite().all():
                raise ValueError(
                    f"samples from {first + sum(map(len, drawn))} on are NaN; the prior or its precision is bad"
                )
            drawn.append(to_pixels(x).cpu())
            done += len(x)
            if sum(map(len, drawn)) == size:  # kept before anyone hears of it
                with whole(_shard(folder, first)) as part:
                    save_file({"x": torch.cat(drawn)}, part)
            yield done, total


def read_shards(folder: Path, count: int) -> Iterator[Tensor]:
    """The first ``count`` pictures that :func:`draw_shards` has drawn, as bytes [b, C, H, W], a shard at a time."""
    for first in range(0, count, SHARD):
        yield load_file(_shard(folder, first))["x"][: count - first]


def _shard(folder: Path, first: int) -> Path:
    return folder / "samples" / f"{first:06d}.safetensors"


def _held(folder: Path, first: int) -> int:
    """How many pictures the shard that begins with ``first`` has, 0 if it is not there."""
    path = _shard(folder, first)
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        return file.get_slice("x").get_shape()[0]


def save_tile(batches: Iterator[Tensor], path: Path) -> None:
    """Writes pictures, bytes [b, C, H, W], as one PNG with ten in a row."""
    from emlib.viz import tile

    sheet = tile(from_pixels(torch.cat(list(batches))), 10)
    with whole(path) as part:
        Image.fromarray(sheet).save(part, format="PNG")

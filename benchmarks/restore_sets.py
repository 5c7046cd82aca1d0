"""Whether ``restore`` knows, without the truth, who mends better: sets of other kind, size and damage, each repaired.

The pictures are those that come with scikit-image, the embedded clothes and, where they are at hand, the ORL faces.
Good pictures and broken ones are cut from different parts of a photograph, and no face belongs to two of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from skimage import data, draw, filters, transform

import emlib
from emlib.data.datasets import datasets_dir
from emlib.data.faces import face_files
from emlib.data.pixels import to_pixels
from emlib.metrics import psnr
from emlib.own.blur import kernel_of
from emlib.own.order import Order
from emlib.own.outputs import originals
from emlib.own.restore import Done, restore
from emlib.own.verdict import recommendation
from emlib.runs.progress import bars, lines, shows_bars
from emlib.runs.record import command_line, write_result
from emlib.runtime.files import write_json
from emlib.viz.figures import save_grid

GOOD = 0.3
"""Share of a photograph, from its left, that good pictures are cut from."""
SHOWN = 6
"""Pictures of a set that are kept for a figure."""


@dataclass(frozen=True)
class Damage:
    """What becomes of a picture: a share of its pixels missing, noise and blur; in the units of its file."""

    missing: float = 0.0
    noise: float = 0.0
    blur: str = ""
    told: bool = True
    """Whether the noise is told or has to be estimated."""

    def __str__(self) -> str:
        parts = [f"{100 * self.missing:.0f} % missing"] if self.missing else []
        parts += [f"blur {self.blur}"] if self.blur else []
        parts += [f"noise {self.noise:g}, {'known' if self.told else 'estimated'}"] if self.noise else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Kind:
    """Whole pictures, and which of them are good ones.

    Attributes:
        names: of pictures in scikit-image, or a word of :func:`whole`.
        size: height and width of what is cut.
        depth: 8 or 16 bits.
    """

    names: tuple[str, ...]
    size: tuple[int, int]
    depth: int = 8


PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle")

SETS: dict[str, tuple[Kind, Damage]] = {
    "photographs, masks": (Kind(PHOTOGRAPHS, (48, 64)), Damage(missing=0.6)),
    "drawings, masks": (Kind(("drawings",), (48, 64)), Damage(missing=0.3)),
    "gravel, masks": (Kind(("gravel",), (64, 64)), Damage(missing=0.8)),
    "bricks, masks": (Kind(("brick",), (40, 56)), Damage(missing=0.3)),
    "clothes, masks": (Kind(("clothes",), (28, 28)), Damage(missing=0.6)),
    "micrographs, noise": (Kind(("ihc",), (48, 48)), Damage(noise=30)),
    "camera, 16 bits, noise": (Kind(("camera", "moon", "coins"), (64, 48), 16), Damage(noise=6000)),
    "faces, noise": (Kind(("faces",), (64, 64)), Damage(noise=25, told=False)),
    "faces, blur and noise": (Kind(("faces",), (64, 64)), Damage(blur="gaussian:1.5", noise=6)),
    "photographs, blur": (Kind(PHOTOGRAPHS, (48, 64)), Damage(blur="box:5", noise=0.5)),
    "grass, motion": (Kind(("grass",), (48, 48)), Damage(blur="motion:7,30", noise=4)),
}


@cache
def whole(name: str) -> list[np.ndarray]:
    """Whole pictures of a name, [H, W] or [H, W, 3] each, 0 to 255 in floats; halved where they are photographs."""
    if name == "clothes":
        return [x[0].numpy().astype(float) for x in to_pixels(emlib.load("embedded").held_out[:400])]
    if name == "faces":
        root, names = face_files(datasets_dir())
        return [transform.resize(np.asarray(Image.open(root / n), float), (64, 53))[:, :52] for n in names]
    if name == "drawings":
        return [drawing(np.random.default_rng(i)) for i in range(160)]
    if name == "motorcycle":
        return [halved(data.stereo_motorcycle()[0])]
    x = getattr(data, {"ihc": "immunohistochemistry"}.get(name, name))()
    return [halved(x[..., :3] if x.ndim == 3 else x)]


def halved(x: np.ndarray) -> np.ndarray:
    """Half the size, without the traces of a JPEG."""
    return np.asarray(Image.fromarray(x).resize((x.shape[1] // 2, x.shape[0] // 2), Image.Resampling.LANCZOS), float)


def drawing(rng: np.random.Generator) -> np.ndarray:
    """Soft discs on a soft ground, [96, 128, 3]: smooth pictures, which a filter fills in well."""
    x = np.full((96, 128, 3), rng.uniform(0, 255, 3))
    for _ in range(rng.integers(2, 6)):
        middle, radius = rng.uniform((0, 0), (96, 128)), rng.uniform(10, 40)
        rows, columns = draw.disk(tuple(middle), radius, shape=x.shape[:2])
        x[rows, columns] = rng.uniform(0, 255, 3)
    return filters.gaussian(x, 5, channel_axis=-1, preserve_range=True)


def crops(kind: Kind, count: int, good: bool, rng: np.random.Generator, margin: int) -> Iterator[np.ndarray]:
    """Pictures of a kind with a margin around them; good ones and others never share a pixel."""
    h, w = (n + 2 * margin for n in kind.size)
    pictures = [x for name in kind.names for x in whole(name)]
    if len(pictures) > 2 * len(PHOTOGRAPHS):  # many small ones: some are good, others are not
        part = round(GOOD * len(pictures))
        pictures = pictures[:part] if good else pictures[part:]
        for i in rng.permutation(len(pictures))[:count]:
            x = np.pad(pictures[i], [(margin, margin)] * 2 + [(0, 0)] * (pictures[i].ndim - 2), mode="reflect")
            yield x[: min(h, len(x)), : min(w, x.shape[1])]
        return
    for _ in range(count):
        x = pictures[rng.integers(len(pictures))]
        border = round(GOOD * x.shape[1])
        x = x[:, :border] if good else x[:, border:]
        if min(x.shape[0] - h, x.shape[1] - w) < 0:
            raise ValueError(f"a picture of {x.shape[:2]} is too small to cut {h} x {w} from")
        i, j = rng.integers(x.shape[0] - h + 1), rng.integers(x.shape[1] - w + 1)
        yield x[i : i + h, j : j + w]


def build(name: str, folder: Path, minutes: float, broken: int, good: int, seed: int) -> Order:
    """Writes the pictures of a set, and the order to repair them, without the truth."""
    (kind, damage), rng = SETS[name], np.random.default_rng(seed)
    kernel = kernel_of(damage.blur).numpy() if damage.blur else np.ones((1, 1))
    margin, factor = max(kernel.shape) // 2, 257 if kind.depth == 16 else 1
    for k, x in enumerate(crops(kind, good, True, rng, 0)):
        save(folder / "clean" / f"{k:03d}", factor * x, kind.depth)
    for k, x in enumerate(crops(kind, broken, False, rng, margin)):
        inner = (slice(margin, x.shape[0] - margin), slice(margin, x.shape[1] - margin))
        save(folder / "truth" / f"{k:03d}", factor * x[inner], kind.depth)
        y = np.stack([ndimage.convolve(c, kernel) for c in np.atleast_3d(x).transpose(2, 0, 1)], -1)[inner]
        y = factor * (y if x.ndim == 3 else y[..., 0])
        y = y + damage.noise * rng.standard_normal(y.shape)
        save(folder / "broken" / f"{k:03d}", y, kind.depth, rng.random(y.shape[:2]) < damage.missing)
    noise = (damage.noise if damage.told else None) if damage.noise else 0.0
    places = folder / "broken", folder / "repaired", folder / "clean"
    return Order(*places, blur=damage.blur, noise=noise, minutes=minutes, seed=seed)


def save(path: Path, x: np.ndarray, depth: int, missing: np.ndarray | None = None) -> None:
    """A picture as a file: PNG, or TIFF where it has 16 bits; what is missing is transparent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if depth == 16:
        tifffile.imwrite(path.with_suffix(".tif"), x.round().clip(0, 2**16 - 1).astype(np.uint16))
        return
    pixels = x.round().clip(0, 255).astype(np.uint8)
    if missing is not None and missing.any():
        alpha = np.where(missing, 0, 255).astype(np.uint8)
        pixels = np.dstack([np.where(np.atleast_3d(missing), 0, np.atleast_3d(pixels)), alpha])
    Image.fromarray(pixels).save(path.with_suffix(".png"))


def against(done: Done, truth: dict[int, torch.Tensor]) -> dict[str, float]:
    """Mean squared error by the truth, on [-1, 1], and PSNR, of the draws' mean, a draw and the best filter."""
    found: dict[str, list[tuple[float, float]]] = {}
    for i, x0 in truth.items():
        mean, _, one = done.repaired(i)
        for way, x in (("mean", mean), ("draw", one), ("filter", done.filtered(i))):
            row = (float((x - x0).square().mean()), float(psnr(x[None].clamp(-1, 1), x0[None].clamp(-1, 1))))
            found.setdefault(way, []).append(row)
    means = {way: np.mean(rows, 0) for way, rows in found.items()}
    return {f"{what}, {way}": float(x[k]) for way, x in means.items() for k, what in enumerate(("MSE", "PSNR"))}


def shown(done: Done, truth: dict[int, torch.Tensor], path: Path) -> None:
    """The first pictures as they were broken, by the best filter, as a single draw, as the draws' mean, and whole."""
    rows = list(truth)[:SHOWN]
    means, _, draws = zip(*(done.repaired(i) for i in rows), strict=True)
    parts = {
        "broken": [done.found.y[i] for i in rows],
        done.judgement.filter: [done.filtered(i) for i in rows],
        "a draw": draws,
        "mean of draws": means,
        "truth": [truth[i] for i in rows],
    }
    save_grid({name: torch.stack(list(part)).clamp(-1, 1) for name, part in parts.items()}, path)


def judged(name: str, folder: Path, minutes: float, broken: int, good: int, seed: int) -> dict[str, Any]:
    """Builds a set, repairs it, and asks the truth who was right."""
    order, begin, done = build(name, folder, minutes, broken, good, seed), time.perf_counter(), None
    for event in (bars if shows_bars() else lines)(restore(order)):
        done = event if isinstance(event, Done) else done
    assert done is not None, "a run that ends has repaired something"
    truth = originals(done, folder / "truth")
    shown(done, truth, folder / "grid.png")
    row, j = against(done, truth), done.judgement
    better = "mean" if row["MSE, mean"] < row["MSE, filter"] else j.filter
    lead, low, high = j.lead("mean", j.filter)
    return {
        "set": name,
        "damage": str(SETS[name][1]),
        "size": list(SETS[name][0].size),
        "pictures": len(done.found.y),
        "filter": j.filter,
        "recommended": j.recommended,
        "better": better,
        "right": j.recommended == better,
        "lead by withheld": lead,
        "low": low,
        "high": high,
        "lead by truth": float(10 * np.log10(row["MSE, filter"] / row["MSE, mean"])),
        **row,
        "noise found": done.found.scale.spread(done.found.noise_std),
        "said": recommendation(j),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0, help="for each set (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=150, help="broken ones of a set (default: %(default)s)")
    parser.add_argument("--good", type=int, default=30, help="good ones (default: %(default)s)")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS), metavar="SET", help="which")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--folder", type=Path, help="keep pictures and runs here, to go on (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="record the result in this JSON file (default: only print)")
    args = parser.parse_args(argv)
    if args.quick:
        args.minutes, args.pictures, args.good, args.sets = 0.3, 4, 2, list(SETS)[1:2]
    with tempfile.TemporaryDirectory() as spare:
        rows = []
        for name in args.sets:
            folder = (args.folder or Path(spare)) / name.replace(", ", "-").replace(" ", "-")
            kept = folder / "row.json"
            if not kept.is_file():
                write_json(kept, judged(name, folder, args.minutes, args.pictures, args.good, args.seed))
            rows.append(json.loads(kept.read_text()))
            if args.out:
                place = args.out.with_suffix("")
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / "grid.png", place / f"{folder.name}.png")
            r = rows[-1]
            print(
                f"{name:>24}: {r['damage']}: takes {r['recommended']}, better is {r['better']}; mean ahead by "
                f"{r['lead by withheld']:+.2f} dB ({r['low']:+.2f} to {r['high']:+.2f}), by the truth "
                f"{r['lead by truth']:+.2f}",
                flush=True,
            )
    print(f"right in {sum(r['right'] for r in rows)} of {len(rows)}")
    if args.out:
        settings = {key: getattr(args, key) for key in ("minutes", "pictures", "good", "seed")}
        settings["threads"] = torch.get_num_threads()
        write_result(args.out, "restore-sets", settings, rows, sum(r["seconds"] for r in rows), command_line())
    return 0


if __name__ == "__main__":
    sys.exit(main())

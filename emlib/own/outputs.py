r"""What an order leaves in its folder: pictures under their own names, the prior, the numbers and the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import Tensor

from emlib.metrics import alexnet_missing, lpips_distance, psnr
from emlib.own.pictures import Picture
from emlib.own.reading import read_folder
from emlib.own.report import sentences, write_report
from emlib.own.restore import Done
from emlib.own.writing import write_picture
from emlib.runs.record import write_result
from emlib.runtime.places import try_folder
from emlib.unet import save_unet


def write_all(done: Done, command: str = "emlib.own.restore", seconds: float = 0.0) -> Iterator[Path]:
    """Writes all that was made; yields each file.

    ``repaired`` holds what is recommended, ``draw`` a single draw of each picture, both under the pictures' own names.
    """
    out = done.order.out
    take: Callable[[int], Tensor] = lambda i: done.repaired(i)[0]  # noqa: E731
    if done.judgement.recommended != "mean":
        take = done.filtered
    for i, picture in enumerate(done.found.pictures):
        yield _written(out / "repaired", picture, take(i), done, i)
        yield _written(out / "draw", picture, done.repaired(i)[2], done, i)
    save_unet(done.prior, out / "prior.safetensors", command=command)
    yield out / "prior.safetensors"
    truth = against_truth(done) if done.order.truth else None
    write_result(out / "result.json", "restore", _settings(done), _rows(done, truth), seconds)
    yield out / "result.json"
    write_report(out / "report.html", done, command, truth)
    yield out / "report.html"


NAMES = ("repaired", "draw", "prior.safetensors", "result.json", "report.html")
"""What an order leaves, beside its run."""


def try_order(out: Path) -> None:
    """Refuses a folder that cannot be written to, or that holds something else under the names of :data:`NAMES`.

    Raises:
        ValueError: with the remedy.
    """
    try_folder(out)
    if (out / "run").is_dir():
        return
    if strange := [name for name in NAMES if os.path.lexists(out / name)]:
        raise ValueError(f"{out / strange[0]} is there already and no run of restore's made it; name another --out")


def _written(folder: Path, picture: Picture, x: Tensor, done: Done, i: int) -> Path:
    """One picture in its own size, depth and colour; a grey one among colour ones is their mean."""
    channels = picture.pixels.shape[0]
    x = x if x.shape[0] == channels else x.mean(0, keepdim=True)
    stays = done.stays(i)[:channels].numpy()  # to the last digit
    return write_picture(folder, picture, np.where(stays, picture.pixels, done.found.scale.from_unit(x)))


def against_truth(done: Done) -> dict[str, dict[str, float]]:
    """Scores of each way against the originals, means over the pictures that have one of their name."""
    found: dict[str, list[dict[str, float]]] = {}
    for i, truth in originals(done, done.order.truth).items() if done.order.truth else ():
        mean, _, draw = done.repaired(i)
        ways = {"mean": mean, "draw": draw, done.judgement.filter: done.filtered(i), "broken": done.found.y[i]}
        for way, x in ways.items():
            found.setdefault(way, []).append(scores(x[None], truth[None]))
    return {way: {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} for way, rows in found.items()}


def originals(done: Done, folder: Path) -> dict[int, Tensor]:
    """Number of a picture -> its original of the same name, size and type in a folder, [C, H, W] on [-1, 1].

    Without those that have gaps; of a colour original of a grey picture the mean of its colours counts.
    """
    known, truth = {Path(p.name).with_suffix("").as_posix(): p for p in read_folder(folder)[0]}, {}
    for i, picture in enumerate(done.found.pictures):
        original, y = known.get(Path(picture.name).with_suffix("").as_posix()), done.found.y[i]
        if original is None or original.pixels.shape[-2:] != y.shape[-2:]:
            continue
        if original.form.dtype == picture.form.dtype and original.seen.all():
            x = done.found.scale.to_unit(original.pixels)
            truth[i] = (x if len(x) <= len(picture.pixels) else x.mean(0, keepdim=True)).expand_as(y)
    return truth


def scores(x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR and, where AlexNet is at hand, LPIPS at the pictures' own size; smaller ones are enlarged to 64 pixels."""
    row = {"PSNR": float(psnr(x, truth).mean())}
    if not alexnet_missing():
        size = None if min(x.shape[-2:]) >= 64 else 64
        row["LPIPS"] = float(lpips_distance(x, truth, size).mean())
    return row


def _settings(done: Done) -> dict[str, object]:
    found, order = done.found, {k: str(v) if isinstance(v, Path) else v for k, v in asdict(done.order).items()}
    return {
        **order,
        "pictures": len(found.y),
        "plan": asdict(done.plan),
        "noise_std": found.noise_std,
        "scale": [found.scale.low, found.scale.high],
        "stopped": done.stopped,
        "ended": done.ended,
        "said": sentences(done),
        "left out": {t.name: t.why for t in found.troubles},
    }


def _rows(done: Done, truth: dict[str, dict[str, float]] | None) -> list[dict[str, object]]:
    """One row a way: its error at withheld pixels, and scores where the truth was given."""
    j, rows = done.judgement, []
    for way in j.errors:
        lead, low, high = j.lead(way, j.filter)
        row: dict[str, object] = {"way": way, "withheld_mse": j.mean(way), "pictures": len(j.errors[way])}
        row |= {"lead_over_filter": lead, "lead_low": low, "lead_high": high}
        rows.append(row | dict((truth or {}).get(way, {})) | {"recommended": way == j.recommended})
    rows += [{"way": f"E-step {k}", "withheld_mse": e} for k, e in done.progress]
    return rows

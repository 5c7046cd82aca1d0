"""``emlib restore``: people's own broken pictures, repaired."""

from __future__ import annotations

import argparse
import os
import time
from math import isfinite, isnan
from pathlib import Path

from emlib.cli.words import Strangers, check_words, path_of
from emlib.own.blur import NAMED
from emlib.own.order import Order
from emlib.own.outputs import try_order, write_all
from emlib.own.report import sentences
from emlib.own.restore import Done, restore
from emlib.runs.job import STARTS
from emlib.runs.progress import bars, lines, shows_bars
from emlib.runs.record import command_line
from emlib.runtime.distributed import ranks


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib restore``."""
    sub.add_argument("broken", type=path_of, help="folder of broken pictures, or one picture")
    out = "folder for repaired pictures, prior, numbers and report (default: BROKEN-repaired, beside it)"
    sub.add_argument("--out", type=path_of, help=out)
    sub.add_argument("--clean", type=path_of, help="folder of a few good pictures of the same kind")
    said = "what EM begins with (default: clean where --clean is given, else preprocessed)"
    sub.add_argument("--start", choices=STARTS, help=said)
    sub.add_argument("--minutes", type=float, default=20.0, help="how long it may take (default: 20)")
    ways = ", ".join(how for _, how in NAMED.values())
    sub.add_argument("--blur", default="", help=f"{ways}, or a file with a kernel (default: none)")
    sub.add_argument(
        "--noise", default="0", help="standard deviation of the noise in the files' own units, or auto (default: 0)"
    )
    sub.add_argument("--missing", type=float, help="value that stands for a missing pixel, beside transparent ones")
    sub.add_argument("--masks", type=path_of, help="folder of masks of the same names, white where a pixel was seen")
    sub.add_argument("--truth", type=path_of, help="folder of the originals, read for scores alone")
    sub.add_argument("--draws", type=int, help="draws of each picture (default: as the time allows)")
    sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")


def order_of(args: argparse.Namespace) -> Order:
    """The order that the command line gives.

    Raises:
        ValueError: if the noise is no number, or the words do not go together.
    """
    noise: float | None = None
    if args.noise != "auto":
        try:
            noise = float(args.noise)
        except ValueError:
            raise ValueError(f"--noise takes a number or auto, got {args.noise!r}") from None
        if not isfinite(noise):
            raise ValueError(f"--noise takes a finite number or auto, got {args.noise!r}")
    start = args.start or ("clean" if args.clean else "preprocessed")
    whole = Path(os.path.realpath(args.broken))  # where `resolve` would not take a loop of links
    args.out = args.out or whole.with_name(f"{whole.name}-repaired")
    for place in filter(None, (args.clean, args.masks, args.truth)):
        if not place.exists():
            raise FileNotFoundError(f"no folder at {place}; check the path")
    if args.missing is not None and isnan(args.missing):
        args.missing = None  # what is not a number is missing anyway
    names = ("broken", "out", "clean", "minutes", "blur", "missing", "masks", "truth", "draws", "seed")
    return Order(**{name: getattr(args, name) for name in names}, noise=noise, start=start)


def run(args: argparse.Namespace) -> int:
    """Repairs, writes, and says what to take."""
    if ranks().world > 1:
        raise ValueError("restore works in one process; start it without torchrun")
    begin, done = time.perf_counter(), None
    check_words(args)
    order = order_of(args)
    try_order(order.out)
    loop = restore(order)
    for event in (bars if shows_bars() else lines)(loop):
        if isinstance(event, Done):
            done = event
    assert done is not None, "a run that ends has repaired something"
    *_, report = write_all(done, command_line(), time.perf_counter() - begin)
    for trouble in done.found.troubles:
        print(f"left out: {trouble.name}: {trouble.why}")
    print("\n".join(sentences(done)))
    print(f"repaired pictures: {order.out / 'repaired'}   report: {report}")
    return 0

"""``emlib experiment``: runs what has no file yet, then gathers all that have one."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from emlib.cli.words import Strangers, check_words, path_of
from emlib.experiments.config import asked, check_experiment, check_methods, here, read_experiment
from emlib.experiments.methods import METHODS
from emlib.experiments.run import run_missing
from emlib.experiments.table import check_kept, gather
from emlib.runs.outputs import try_result
from emlib.runtime.places import try_folder


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib experiment``."""
    sub.add_argument("name", help="an experiment in experiments/, or the path of a JSON file like them")
    sub.add_argument(
        "--data",
        help="a name or a folder of pictures, as for em (default: the preset's, or EMLIB_PICTURES instead)",
    )
    sub.add_argument("--preset", help="other sizes than the experiment's")
    sub.add_argument("--methods", nargs="+", help=f"only these of {', '.join(METHODS)} (default: all it lists)")
    sub.add_argument("--seeds", nargs="+", type=int, help="only these (default: all it lists)")
    sub.add_argument("--folder", type=path_of, help="where methods keep what they resume from (default: runs/NAME)")
    sub.add_argument(
        "--out",
        type=path_of,
        help="the gathered table; a file a finished method lies in the folder of the same name "
        "(default: data/results/NAME.json, with --preset runs/NAME-PRESET.json)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs what has no file yet, then gathers all that have one."""
    check_words(args)
    name, own = Path(args.name).stem, read_experiment(args.name)
    methods, seeds = args.methods or own.methods, args.seeds or own.seeds
    experiment = asked(own, args.preset, seeds)
    command = whole_command(args, experiment.seeds if experiment.seeds != own.seeds else ())
    check_methods(methods)
    check_experiment(experiment)
    data = args.data or here(experiment.sizes().data)
    # other sizes are another table, which must not mix with the recorded one
    place = Path("data") / "results" / name if args.preset is None else Path("runs") / f"{name}-{args.preset}"
    out = args.out or place.with_name(f"{place.name}.json")
    folder, kept = args.folder or Path("runs") / place.name, out.with_suffix("")
    try_result(out, name, ".png", "-samples.png")
    for each in (kept, folder):
        try_folder(each)
    check_kept(experiment, kept)
    for seed in seeds:
        part = f"seed-{seed}"
        for rows in run_missing(experiment, methods, seed, folder / part, kept / part, data):
            for row in rows:
                found = [f"{key} {row[key]:.3f}" for key in ("PSNR", "SSIM", "LPIPS", "FD-AlexNet") if key in row]
                tqdm.write(f"seed {seed}  {row['method']:13} {row['by']:9} {'  '.join(found)}  {row['seconds']:.0f} s")
    missing = gather(experiment, name, kept, out, command)
    print(f"numbers: {out}" + (f"   still missing: {', '.join(missing)}" if missing else ""))


def whole_command(args: argparse.Namespace, seeds: Iterable[int] = ()) -> str:
    """The command given, without what takes a part of the table; with these seeds where they aren't its own."""
    options = {name: getattr(args, name) for name in ("data", "preset", "folder", "out")}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    words += ["--seeds", *map(str, seeds)] if seeds else []
    return shlex.join(["python", "-m", "emlib", "experiment", args.name, *words])

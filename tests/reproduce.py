"""Runs a recorded table anew, at its own settings and in another place, and holds each number against the record.

``make reproduce NAME=table-embedded-mask``, or ``python tests/reproduce.py NAME [--out FOLDER] [--methods M ...]
[--seeds S ...]``; what has run is kept, so the same command goes on. Sizes, solver and methods are the record's, not
those that presets and experiments have today. Status 1 if a number lies outside its tolerance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emlib.data.datasets import load
from emlib.experiments.config import here
from emlib.experiments.recorded import Recorded, as_recorded
from emlib.experiments.run import run_missing
from emlib.experiments.table import gather
from emlib.runs.outputs import try_result
from emlib.runs.record import read_result
from emlib.runtime.files import read_json
from emlib.runtime.places import try_folder

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"

TOLERANCE = {
    "PSNR": (0.1, 0.0),
    "SSIM": (0.005, 0.0),
    "LPIPS": (0.005, 0.0),
    "FD-AlexNet": (0.5, 0.05),
    "FID": (1, 0.05),
}
"""(absolute, share of the number) that another processor or version of torch may differ by: rounding goes through
thousands of updates, so a run is the same as ours on the same machine alone. Measured once, on the first prior and
E-step of ``starts-embedded-mask --methods start-50 --seeds 0``: AVX2 and AVX-512 differ by 0.001 dB of PSNR and 0.0001
of SSIM and LPIPS, and either from the record by less than 0.002 dB."""

NAMED_BY = ("method", "by", "seed")
"""What tells a row."""


def compared(recorded: dict[str, Any], made: dict[str, Any]) -> Iterator[tuple[str, str, float, float, float, bool]]:
    """(row, column, recorded, made, tolerance, whether it lies within) of each number that both have."""
    rows = {tuple(row.get(key) for key in NAMED_BY): row for row in recorded["rows"]}
    for row in made["rows"]:
        name = tuple(row.get(key) for key in NAMED_BY)
        for column, (absolute, share) in TOLERANCE.items():
            if name in rows and column in row and column in rows[name]:
                was, now = rows[name][column], row[column]
                allowed = absolute + share * abs(was)
                yield ", ".join(map(str, name)), column, was, now, allowed, abs(now - was) <= allowed


def unmade(recorded: dict[str, Any], made: dict[str, Any], was: Recorded) -> list[str]:
    """Rows of the record that should have been made, and were not."""
    rows = {tuple(row.get(key) for key in NAMED_BY) for row in made["rows"]}
    asked = [row for row in recorded["rows"] if _has(was, row["method"], row["seed"])]
    return [", ".join(map(str, name)) for row in asked if (name := tuple(row.get(key) for key in NAMED_BY)) not in rows]


def _has(was: Recorded, method: str, seed: int) -> bool:
    return method in was.experiment.methods and seed in was.experiment.seeds


def commits(recorded: dict[str, Any], kept: Path, was: Recorded) -> dict[tuple[str, int], str]:
    """The commit whose code made each row, by method and seed: a table's rows are made over months."""
    asked = dict.fromkeys((row["method"], row["seed"]) for row in recorded["rows"])
    files = {name: kept / f"seed-{name[1]}" / f"{name[0]}.json" for name in asked if _has(was, *name)}
    whole = recorded.get("commit", "unknown")
    return {name: read_json(file)["commit"] if file.is_file() else whole for name, file in files.items()}


def check_data(recorded: dict[str, Any], was: Recorded, data: str) -> None:
    """Refuses other pictures than the record's.

    Raises:
        ValueError: naming both.
    """
    said = recorded["settings"]
    theirs = f"the record's pictures are {said['data']!r}, fingerprint {said['fingerprint']}"
    remedy = f"{theirs}; name their place by --data or EMLIB_PICTURES"
    try:
        found = load(data, size=was.sizes.size, channels=was.sizes.unet.in_channels)
    except (ValueError, OSError) as error:
        raise ValueError(f"{error}; {remedy}") from None
    if found.fingerprint != said["fingerprint"]:
        raise ValueError(f"{data} holds {found.name!r}, fingerprint {found.fingerprint}; {remedy}")


def rerun(recorded: dict[str, Any], was: Recorded, made_at: dict, name: str, place: Path, data: str) -> dict[str, Any]:
    """Runs what has no file in ``place`` yet; the gathered table."""
    out, kept = place / f"{name}.json", place / name
    try_result(out, name, ".png", "-samples.png")
    for folder in (kept, place / "work" / name):
        try_folder(folder)
    for seed in was.experiment.seeds:
        part = f"seed-{seed}"
        methods = [method for method in was.experiment.methods if (method, seed) in made_at]
        where = (place / "work" / name / part, kept / part)
        for rows in run_missing(was.experiment, methods, seed, *where, data, was.sizes, was.solver):
            tqdm.write(f"seed {seed}  {rows[0]['method']:13} {rows[0]['seconds']:.0f} s")
    gather(was.experiment, name, kept, out, f"make reproduce NAME={name}", was.sizes, was.solver)
    return read_result(out)


def told(recorded: dict[str, Any], made: dict[str, Any], was: Recorded, made_at: dict[tuple[str, int], str]) -> int:
    """Prints each number beside the record's; status 1 if one lies outside its tolerance, or a row is missing."""
    found, lacking = list(compared(recorded, made)), unmade(recorded, made, was)
    for row, column, before, now, allowed, well in found:
        mark = "same" if well else "OTHER"
        print(f"{mark:6} {row:40} {column:11} {before:9.4f} recorded, {now:9.4f} now, +-{allowed:.3g}")
    for row in lacking:
        print(f"OTHER  {row:40} is in the record, and was not made")
    other = {row for row, *_, well in found if not well} | set(lacking)
    print(f"{len(found)} numbers compared; {len(other)} rows have one outside of its tolerance, or were not made")
    for (method, seed), commit in made_at.items():
        if any(row.startswith(f"{method}, ") and row.endswith(f", {seed}") for row in other):
            print(f"{method} (seed {seed}) was recorded by the code of {commit}: git checkout {commit.split('+')[0]}")
    return 1 if other or not found else 0


def main(words: list[str] | None = None) -> int:
    """Runs, compares, prints."""
    line = argparse.ArgumentParser(description=__doc__)
    line.add_argument("name", help="a recorded table: data/results/NAME.json")
    line.add_argument("--out", type=Path, default=Path("runs") / "reproduced", help="default: runs/reproduced")
    line.add_argument("--methods", nargs="+", default=[], help="only these")
    line.add_argument("--seeds", nargs="+", type=int, default=[], help="only these")
    line.add_argument("--data", help="the data set, where it lies elsewhere (start-other's: EMLIB_PICTURES)")
    args = line.parse_args(words)
    commit, command = "unknown", ""
    try:
        recorded = read_result(RESULTS / f"{args.name}.json")
        commit, command = recorded.get("commit", commit), recorded.get("command", command)
        was = as_recorded(recorded, RESULTS / args.name, args.methods, args.seeds)
        made_at = commits(recorded, RESULTS / args.name, was)
        print(f"{args.name} at the sizes of its record ({was.sizes.name}, {was.sizes.em.optimizer}, {was.solver} MMPS)")
        data = args.data or here(was.sizes.data)
        check_data(recorded, was, data)
        made = rerun(recorded, was, made_at, args.name, args.out, data)
    except (ValueError, OSError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        if command:
            print(f"reproduce: the record was made by `{command}` at commit {commit}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nreproduce: stopped; what is done is kept, and the same command goes on there", file=sys.stderr)
        return 130
    return told(recorded, made, was, made_at)


if __name__ == "__main__":
    sys.exit(main())

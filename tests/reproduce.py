"""Runs a recorded experiment anew, at its own settings and in another place, and holds each number against the record.

``make reproduce NAME=table-embedded-mask``, or ``python tests/reproduce.py NAME [--out FOLDER] [--methods M ...]
[--seeds S ...]``; what has run is kept, so the same command goes on. Status 1 if a number lies outside its tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emlib.cli.main import main as emlib
from emlib.em.checkpoint import completed
from emlib.experiments.config import read_experiment
from emlib.runs.record import read_result

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
thousands of updates, so a run is the same as ours on the same machine alone."""

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


def changed(was: dict[str, Any], now: dict[str, Any], inside: str = "") -> Iterator[str]:
    """Settings that differ, each with what it was and is."""
    for key in sorted({*was, *now}):
        before, after = (side.get(key, "absent") for side in (was, now))
        if isinstance(before, dict) and isinstance(after, dict):
            yield from changed(before, after, f"{inside}{key}.")
        elif before != after:
            yield f"{inside}{key} was {before!r}, is {after!r}"


def main(words: list[str] | None = None) -> int:
    """Runs, compares, prints."""
    line = argparse.ArgumentParser(description=__doc__)
    line.add_argument("name", help="a recorded experiment: data/results/NAME.json beside experiments/NAME.json")
    line.add_argument("--out", type=Path, default=Path("runs") / "reproduced", help="default: runs/reproduced")
    line.add_argument("--methods", nargs="+", help="only these")
    line.add_argument("--seeds", nargs="+", help="only these")
    line.add_argument("--data", help="the data set, where it lies elsewhere")
    args = line.parse_args(words)
    try:
        recorded, experiment = read_result(RESULTS / f"{args.name}.json"), read_experiment(args.name)
    except (ValueError, FileNotFoundError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    commit = recorded.get("commit", "unknown")
    print(f"{args.name} at preset {experiment.preset}, as recorded at commit {commit}")
    now = json.loads(json.dumps(asdict(experiment.sizes())))
    sizes = recorded["settings"].get("sizes", now)
    if changes := list(changed(completed(sizes, now), now)):
        print(f"reproduce: the sizes have changed since: {'; '.join(changes)}", file=sys.stderr)
        print(f"reproduce: `git checkout {commit}` has those of the record", file=sys.stderr)
        return 2
    command = [
        "experiment",
        args.name,
        "--out",
        str(args.out / f"{args.name}.json"),
        "--folder",
        str(args.out / "work"),
    ]
    for option in ("methods", "seeds"):
        command += [f"--{option}", *getattr(args, option)] if getattr(args, option) else []
    command += ["--data", args.data] if args.data else []
    if status := emlib(command):
        return status
    found = list(compared(recorded, read_result(args.out / f"{args.name}.json")))
    for row, column, was, now, allowed, well in found:
        print(
            f"{'same' if well else 'OTHER':6} {row:40} {column:11} {was:9.4f} recorded, {now:9.4f} now, +-{allowed:.3g}"
        )
    other = sum(not well for *_, well in found)
    print(f"{len(found)} numbers compared, {other} outside of their tolerance")
    return 1 if other or not found else 0


if __name__ == "__main__":
    sys.exit(main())

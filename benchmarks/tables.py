"""Rows of tables, several at a time: for a GPU, which one small network does not fill, and for a given time.

    python benchmarks/tables.py recipe-cifar10-mask table-cifar10-noise:diem,ambient --minutes 9 --processes 8

Names experiments, and methods of them; those that have no row yet are run, in this order, each a process of its own by
``python -m emlib experiment``. What the clock stops goes on with the same command, so keep ``--folder``. Each row is
where that command puts it: in ``--out`` lies NAME.json, and a file for each method in NAME/.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a lent machine has the folder, and nothing installed

from emlib.experiments.config import check_methods, read_experiment  # noqa: E402


class Row(NamedTuple):
    """A method of an experiment, with a seed."""

    experiment: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment}, {self.method}, seed {self.seed}"


def options() -> argparse.ArgumentParser:
    """What the script understands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", metavar="NAME[:METHOD,...]", help="experiments, and which methods of them")
    parser.add_argument("--seeds", type=int, nargs="+", help="(default: each experiment's)")
    parser.add_argument("--processes", type=int, default=4, help="at a time (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which all are stopped (default: 60)")
    parser.add_argument("--preset", help="other sizes than the experiments'; then name another --out, too")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results", help="(default: data/results)")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs", help="for what is gone on with (default: runs)")
    return parser


def main(words: list[str] | None = None) -> int:
    """Runs what is missing; 1 if a row failed or time was too short for it, 2 if there is no such row."""
    ends, args = time.monotonic(), options().parse_args(words)
    ends += 60 * args.minutes
    args.out, args.folder = args.out.resolve(), args.folder.resolve()
    try:
        missing = [row for row in wanted(args) if not file(args, row).is_file()]
        if args.processes < 1 or args.minutes <= 0:
            raise ValueError(f"--processes {args.processes} and --minutes {args.minutes:g} must be above 0")
    except (ValueError, FileNotFoundError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    logs = args.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running = list(missing), dict[Row, subprocess.Popen[bytes]]()
    while (waiting or running) and time.monotonic() < ends:
        while waiting and len(running) < args.processes:
            row = waiting.pop(0)
            running[row] = start(args, row, logs)
        time.sleep(0.1)
        for row, process in list(running.items()):
            if process.poll() is not None:
                del running[row]
                left = f"{(ends - time.monotonic()) / 60:.1f} minutes left"
                print(f"{row}: {'done' if process.returncode == 0 else 'failed'}, {left}", flush=True)
    for process in running.values():
        process.kill()  # as at any time: what a run has finished is on disk, whole
        process.wait()
    lacking = [row for row in missing if not file(args, row).is_file()]
    for row in lacking:
        print(f"{row}: not finished; {log(logs, row)} says how far it came")
    return 1 if lacking else 0


def wanted(args: argparse.Namespace) -> Iterator[Row]:
    """The rows that the command line names, in its order."""
    for word in args.rows:
        name, _, methods = word.partition(":")
        experiment = read_experiment(name)
        chosen = tuple(methods.split(",")) if methods else experiment.methods
        check_methods(chosen)
        for method in chosen:
            for seed in args.seeds or experiment.seeds:
                yield Row(name, method, seed)


def file(args: argparse.Namespace, row: Row) -> Path:
    """Where a row is kept once it is finished."""
    return Path(args.out / row.experiment / f"seed-{row.seed}" / f"{row.method}.json")


def log(logs: Path, row: Row) -> Path:
    """Where a row's process writes what it says."""
    return logs / f"{row.experiment}-{row.method}-{row.seed}.txt"


def start(args: argparse.Namespace, row: Row, logs: Path) -> subprocess.Popen[bytes]:
    """A process that makes a row, on one thread, so that several are not in each other's way."""
    words = ["-m", "emlib", "experiment", row.experiment, "--methods", row.method, "--seeds", str(row.seed)]
    words += ["--out", str(args.out / f"{row.experiment}.json"), "--folder", str(args.folder / row.experiment)]
    words += ["--preset", args.preset] if args.preset else []
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with log(logs, row).open("ab") as said:
        return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=env, stdout=said, stderr=said)


if __name__ == "__main__":
    sys.exit(main())

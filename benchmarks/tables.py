"""Rows of tables, several at a time: for a GPU, which one small network does not fill, and for a given time.

    python benchmarks/tables.py recipe-cifar10-mask table-cifar10-noise:diem,ambient --minutes 9 --processes 8

Names experiments, and methods of them; those that have no row yet are run, in this order, each a process of its own by
``python -m emlib experiment``, and gathered when all have ended. What the clock stops begins anew with the same
command, but for EM, which goes on; so keep ``--folder``. Each row is where that command puts it: in ``--out`` lies
NAME.json, and a file for each method in NAME/. One run a folder at a time.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from gpu_minutes import environment  # first, for it finds the library where that is not installed

from emlib.cli.experiment import whole_command
from emlib.experiments.config import Experiment, asked, check_methods, read_experiment
from emlib.experiments.table import check_kept, gather

RESULTS, RUNS = Path("data/results"), Path("runs")


class Row(NamedTuple):
    """A method of an experiment, with a seed; the experiment by its name or its file's path."""

    experiment: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.name}, {self.method}, seed {self.seed}"

    @property
    def name(self) -> str:
        """Of the experiment."""
        return Path(self.experiment).stem


def options() -> argparse.ArgumentParser:
    """What the script understands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", metavar="NAME[:METHOD,...]", help="experiments, and which methods of them")
    parser.add_argument("--seeds", type=int, nargs="+", help="(default: each experiment's)")
    parser.add_argument("--processes", type=int, default=4, help="at a time (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which all are stopped (default: 60)")
    parser.add_argument("--preset", help="other sizes than the experiments'; with --out, since theirs are recorded")
    parser.add_argument("--out", type=Path, help=f"folder of the tables (default: {RESULTS})")
    parser.add_argument("--folder", type=Path, default=RUNS, help="for what EM goes on from (default: runs)")
    return parser


def main(words: list[str] | None = None) -> int:
    """Runs what is missing; 1 if a row failed or time was too short for it, 2 if there is no such row."""
    begin, args = time.monotonic(), options().parse_args(words)
    try:
        if args.processes < 1 or not args.minutes > 0:
            raise ValueError(f"--processes {args.processes} and --minutes {args.minutes:g} must be above 0")
        if args.preset and not args.out:
            raise ValueError("--preset makes another table than the recorded one; name a folder for it with --out")
        rows = wanted(args)
        for name, seeds in tables(rows).items():
            check_kept(*where(args, name, seeds))
    except (ValueError, FileNotFoundError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    failed = run([row for row in rows if not file(args, row).is_file()], begin + 60 * args.minutes, args)
    apart = False
    for name, seeds in tables(rows).items():
        try:
            gathered(args, name, seeds)
        except ValueError as error:
            print(f"tables: {name} is not gathered: {error}", file=sys.stderr)
            apart = True
    lacking = [row for row in rows if not file(args, row).is_file()]
    for row in lacking:
        begun = log(args, row).is_file()
        print(f"{row}: " + (f"not finished; {log(args, row)} says how far it came" if begun else "not begun"))
    return 1 if lacking or failed or apart else 0


def wanted(args: argparse.Namespace) -> list[Row]:
    """The rows that the command line names, in its order, each once."""
    rows = []
    for word in args.rows:
        name, _, methods = word.partition(":")
        experiment = read_experiment(name)
        chosen = tuple(methods.split(",")) if methods else experiment.methods
        check_methods(chosen)
        rows += [Row(name, method, seed) for method in chosen for seed in args.seeds or experiment.seeds]
    return list(dict.fromkeys(rows))


def run(waiting: list[Row], ends: float, args: argparse.Namespace) -> list[Row]:
    """Makes these rows, some at a time, until the clock stops them; those whose process failed."""
    running, failed = dict[Row, subprocess.Popen[bytes]](), []
    try:
        while (waiting or running) and time.monotonic() < ends:
            while waiting and len(running) < args.processes:
                row = waiting.pop(0)
                running[row] = start(args, row)
            time.sleep(0.1)
            for row in [row for row, process in running.items() if process.poll() is not None]:
                well = running.pop(row).returncode == 0
                failed += [] if well else [row]
                left = f"{(ends - time.monotonic()) / 60:.1f} minutes left"
                print(f"{row}: {'done' if well else 'failed'}, {left}", flush=True)
    finally:
        for process in running.values():
            process.kill()  # as at any time: what a run has finished is on disk, whole
            process.wait()
    return failed


def tables(rows: list[Row]) -> dict[str, list[int]]:
    """The experiments that rows are of, and the seeds of each."""
    return {name: [row.seed for row in rows if row.experiment == name] for name in dict.fromkeys(r[0] for r in rows)}


def where(args: argparse.Namespace, name: str, seeds: list[int]) -> tuple[Experiment, Path]:
    """An experiment with these seeds beside its own, and the folder of its rows."""
    return asked(read_experiment(name), args.preset, seeds), (args.out or RESULTS) / Path(name).stem


def gathered(args: argparse.Namespace, name: str, seeds: list[int]) -> None:
    """The table of all rows that there are: processes that end together each know only of those before."""
    own, (experiment, kept) = read_experiment(name), where(args, name, seeds)
    out = kept.with_name(f"{kept.name}.json")
    given = argparse.Namespace(name=name, data=None, preset=args.preset, folder=None, out=args.out and out)
    command = whole_command(given, experiment.seeds if experiment.seeds != own.seeds else ())
    gather(experiment, kept.name, kept, out, command)


def file(args: argparse.Namespace, row: Row) -> Path:
    """Where a row is kept once it is finished."""
    return Path((args.out or RESULTS) / row.name / f"seed-{row.seed}" / f"{row.method}.json")


def log(args: argparse.Namespace, row: Row) -> Path:
    """Where a row's process writes what it says."""
    return Path(args.folder / "logs" / f"{row.name}-{row.method}-{row.seed}.txt")


def start(args: argparse.Namespace, row: Row) -> subprocess.Popen[bytes]:
    """A process that makes a row, on one thread, so that several are not in each other's way."""
    words = ["-m", "emlib", "experiment", row.experiment, "--methods", row.method, "--seeds", str(row.seed)]
    words += ["--out", str((args.out or RESULTS) / f"{row.name}.json"), "--folder", str(args.folder / row.name)]
    words += ["--preset", args.preset] if args.preset else []
    env = {**environment(), "OMP_NUM_THREADS": "1"}
    log(args, row).parent.mkdir(parents=True, exist_ok=True)
    with log(args, row).open("ab") as said:
        return subprocess.Popen([sys.executable, *words], env=env, stdout=said, stderr=said)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and its processes with it
    sys.exit(main())

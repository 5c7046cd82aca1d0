r"""How long the command line takes to answer: help, a refusal of a word, and what a bare ``import`` of torch takes.

``python benchmarks/startup.py [--out FILE.json] [--quick]``; each in a new process, processor and wall-clock seconds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from emlib.runs.record import write_result

WAYS = {
    "import torch": ["-c", "import torch"],
    "--help": ["-m", "emlib", "--help"],
    "em --help": ["-m", "emlib", "em", "--help"],
    "a refused word": ["-m", "emlib", "em", "--operator", "nonsense"],
    "a refused place": ["-m", "emlib", "train", "--out", "holiday.png"],
}
"""What is timed, and the words after ``python``."""


def timed(words: list[str]) -> tuple[float, float]:
    """Processor and wall-clock seconds of a new Python."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main(words: list[str] | None = None) -> None:
    """Times each way in turns and prints the medians."""
    line = argparse.ArgumentParser(description=__doc__)
    line.add_argument("--rounds", type=int, default=5)
    line.add_argument("--out", type=Path, help="record in this JSON file")
    line.add_argument("--quick", action="store_true", help="one round, to see that it runs")
    args = line.parse_args(words)
    begin, rounds = time.perf_counter(), 1 if args.quick else args.rounds
    found = [{name: timed(way) for name, way in WAYS.items()} for _ in range(rounds)]
    rows = []
    for name in WAYS:
        cpu, wall = (statistics.median(one[name][i] for one in found) for i in (0, 1))
        rows.append({"way": name, "processor seconds": round(cpu, 3), "seconds": round(wall, 3)})
        print(f"{name:16} {cpu:6.2f} s of processor, {wall:6.2f} s")
    if args.out:
        write_result(args.out, "startup", {"rounds": rounds}, rows, time.perf_counter() - begin)


if __name__ == "__main__":
    main()

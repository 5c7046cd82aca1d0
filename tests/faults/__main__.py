"""``make faults``: what goes wrong with runs, in thousands; a table at the end, status 1 if any ended badly.

``--count N`` kills and other faults a kind, ``--fuzz N`` command lines; ``--seed S`` for other ones.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes are forked, and threads do not survive that

sys.path.append(str(Path(__file__).parents[1]))  # what these tests share with the others

import torch
import torch._dynamo  # an optimizer loads it, two seconds of it: once here, and not in each process that is forked
from kinds import KINDS
from words import fuzz

FEW = {"read_only": 3, "no_number": 10, "clock": 10}
"""Most of these kinds, which have nothing random to speak of."""


def main() -> int:
    """Runs all kinds and prints the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--count", type=int, default=50, help="faults a kind (default: 50)")
    words.add_argument("--fuzz", type=int, default=1000, help="command lines (default: 1000)")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--kinds", nargs="+", choices=[kind.__name__ for kind in KINDS], help="only these")
    args = words.parse_args()
    torch.set_num_threads(1)
    bad, table = [], {}
    for kind in KINDS:
        if args.kinds and kind.__name__ not in args.kinds:
            continue
        ends, count = Counter(), min(args.count, FEW.get(kind.__name__, args.count))
        with tempfile.TemporaryDirectory() as room:
            for about, end in kind(Path(room), count, random.Random(args.seed)):
                ends[end.split(":")[0]] += 1
                if end not in ("same", "refused", "not tested"):
                    bad.append(f"{kind.__name__}, {about}: {end}")
        table[kind.__name__] = ends
        print(_row(kind.__name__, ends), flush=True)
    if args.fuzz:
        ends = Counter()
        for line, end in fuzz(args.fuzz, args.seed):
            ends[end.split(":")[0]] += 1
            if end not in ("ok", "refused"):
                bad.append(f"emlib {' '.join(line)!a}: {end}")
        print(_row("command lines", ends), flush=True)
    untested = [name for name, ends in table.items() if ends["not tested"] or not ends]
    said = f"{len(bad)} ended badly" + (f"; not tested here: {', '.join(untested)}" if untested else "")
    print("\n".join(["", *bad, said]))
    return 1 if bad else 0


def _row(name: str, ends: Counter) -> str:
    return f"{name:19} {sum(ends.values()):6} tried: " + ", ".join(f"{n} {end}" for end, n in sorted(ends.items()))


if __name__ == "__main__":
    sys.exit(main())

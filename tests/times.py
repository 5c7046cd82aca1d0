"""How long the chapters take to run: ``python tests/times.py CACHE``; ``make times`` builds the book first.

Writes ``data/results/book-times.json``, from which the heads of the chapters take their times.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import heads
from jupyter_cache import get_cache

from emlib.runs.record import write_result

COMMAND = "make EMLIB_PRESET={preset} times"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder of the cache of a built book")
    parser.add_argument("--out", type=Path, default=heads.TIMES, help="the file to write (default: %(default)s)")
    args = parser.parse_args(words)
    kept = sorted(get_cache(str(args.cache)).list_cache_records(), key=lambda record: record.created)
    seconds = {Path(record.uri).stem: record.data["execution_seconds"] for record in kept}
    missing = [chapter for chapter in heads.course()["chapters"] if chapter not in seconds]
    if missing:
        print(f"{args.cache} has no executed {', '.join(missing)}; build the book first: make site", file=sys.stderr)
        return 1
    preset = os.environ.get("EMLIB_PRESET", "pocket")
    rows = [{"chapter": chapter, "seconds": round(seconds[chapter], 1)} for chapter in heads.course()["chapters"]]
    total = sum(row["seconds"] for row in rows)
    write_result(args.out, "book-times", {"preset": preset}, rows, total, COMMAND.format(preset=preset))
    print(f"{len(rows)} chapters, {total / 60:.0f} minutes: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

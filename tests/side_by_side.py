"""Executes chapters side by side into the cache that jupyter-book reads: ``python tests/side_by_side.py CACHE FILES``.

A chapter that is in the cache already is left alone, as jupyter-book leaves it. Each runs in a process of its own, the
longest first, with as many threads as there are cores for it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

TIMES = Path(__file__).resolve().parent.parent / "data" / "results" / "book-times.json"
"""What each chapter took when ``make times`` was last run."""

READER = {"type": "plugin", "name": "myst_nb_md"}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder of the cache")
    parser.add_argument("chapters", type=Path, nargs="+", help="their .md files")
    parser.add_argument("--at-once", type=int, default=usual(), help="how many run at once (default: %(default)s here)")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for a cell (default: 1800)")
    args = parser.parse_args(words)
    if args.at_once < 1:
        parser.error(f"at least one chapter runs at once, got {args.at_once}")
    cache = get_cache(str(args.cache))
    uris = [str(path.resolve()) for path in longest_first(args.chapters, recorded())]
    for uri in uris:
        cache.add_nb_to_project(uri, read_data=READER)
    threads = max(1, cores() // min(args.at_once, len(uris)))
    failed = 0
    with ProcessPoolExecutor(args.at_once, get_context("spawn"), _few_threads, (threads,)) as pool:
        running = {pool.submit(executed, str(args.cache), uri, args.timeout): uri for uri in uris}
        for done in as_completed(running):
            seconds, trouble = done.result()
            print(f"  {Path(running[done]).name}: {trouble or f'{seconds:.0f} s'}", flush=True)
            failed += bool(trouble)
    return 1 if failed else 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual() -> int:
    """One a core: a second thread makes training a fifth faster, a second chapter gets all of another core.

    Where there are many cores, one for two: then the longest chapter decides how long all takes.
    """
    return cores() if cores() <= 4 else cores() // 2


def recorded() -> dict[str, float]:
    """Chapter -> seconds."""
    return {row["chapter"]: row["seconds"] for row in json.loads(TIMES.read_text())["rows"]}


def longest_first(chapters: list[Path], seconds: dict[str, float]) -> list[Path]:
    """The longest chapters first, so that none of them is left running alone at the end; the unknown ones last."""
    return sorted(chapters, key=lambda path: (-seconds.get(path.stem, 0.0), path.name))


def _few_threads(threads: int) -> None:
    """What the kernels of this process inherit."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def executed(cache: str, uri: str, timeout: int) -> tuple[float, str]:
    """Runs one chapter into the cache; seconds, and what went wrong in it."""
    start, opened = time.perf_counter(), get_cache(cache)
    result = load_executor("local-serial", cache=opened).run_and_cache(filter_uris=[uri], timeout=timeout)
    trouble = ""
    if result.excepted or result.errored:
        trouble = opened.get_project_record(uri).traceback or "failed"
    return time.perf_counter() - start, trouble


if __name__ == "__main__":
    sys.exit(main())

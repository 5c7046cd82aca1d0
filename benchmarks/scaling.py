"""Strong scaling of the E-step: the same measurements on one thread, on two threads, and on two processes."""

from __future__ import annotations

import statistics
import time
from functools import partial
from multiprocessing.synchronize import Barrier

import torch
from e_step import broken, checkpoint, options, parse, ratio, report
from torch import Tensor, multiprocessing

import emlib

WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
"""Processes and threads of each."""


def worker(
    rank: int,
    trials: list[str],
    pictures: int,
    batch: int,
    steps: int,
    seed: int,
    gate: Barrier,
    out: Tensor,
    seconds: Tensor,
) -> None:
    """Does its share of every trial, from one gate to the next: pictures into ``out``, time into ``seconds``."""
    _, m = broken(pictures, seed)
    schedule, model = emlib.linear_schedule(), checkpoint()

    def draw(m: emlib.Measurements) -> Tensor:
        sampler = partial(emlib.mmps, steps=steps)
        return torch.cat(list(emlib.reconstruct(sampler, model, schedule, m, seed, "benchmark", batch)))

    for i, name in enumerate(trials):
        processes, threads = WAYS[name]
        rows = torch.arange(len(m)).tensor_split(processes)[rank].tolist() if rank < processes else []
        torch.set_num_threads(threads)
        if rows:
            draw(m.select(rows[:batch]))  # warms up
        gate.wait()
        start = time.perf_counter()
        if rows:
            out[list(WAYS).index(name), rows] = draw(m.select(rows))
        gate.wait()
        seconds[i, rank] = time.perf_counter() - start


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=256, repeats=5)
    parser.add_argument("--batch", type=int, default=32, help="pictures that a process draws at once (default: 32)")
    parser.add_argument("--steps", type=int, default=12, help="of MMPS (default: %(default)s)")
    args = parse(parser, words, pictures=32, batch=16, repeats=1, steps=1)
    start = time.perf_counter()
    # Every second round goes backwards (see e_step.alternated).
    trials = [name for turn in range(args.repeats) for name in list(WAYS)[:: -1 if turn % 2 else 1]]
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    out = torch.zeros(len(WAYS), args.pictures, 1, 28, 28).share_memory_()
    took = torch.zeros(len(trials), 2).share_memory_()
    given = (trials, args.pictures, args.batch, args.steps, args.seed, gate, out, took)
    multiprocessing.spawn(worker, given, nprocs=2)
    # the work is done when the slower process is
    seconds = {name: [took[i].max().item() for i, trial in enumerate(trials) if trial == name] for name in WAYS}
    base = next(iter(WAYS))
    rows = [
        {
            "way": name,
            "images_per_s": args.pictures / statistics.median(seconds[name]),
            **ratio(seconds, name, base),
            "ratio_to_2_threads": ratio(seconds, name, "1 process, 2 threads")["ratio"],
            "largest_difference": (out[i] - out[0]).abs().max().item(),
        }
        for i, name in enumerate(WAYS)
    ]
    settings = {name: getattr(args, name) for name in ("pictures", "batch", "steps")}
    report(args, "scaling", settings, rows, time.perf_counter() - start)


if __name__ == "__main__":
    main()

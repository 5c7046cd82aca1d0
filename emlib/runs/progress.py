"""How a person is shown what EM tells: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Generator, Iterator
from typing import TypeVar

from tqdm import tqdm

from emlib.em.events import ENOUGH, Iteration, Progress
from emlib.runtime.durations import short_duration

T = TypeVar("T")
"""What a loop yields: Progress, and whatever else is passed on."""

EVERY = 60.0
"""Seconds between two lines on one stage."""


clock = time.perf_counter
"""What tells :func:`until` the time."""


def watch(loop: Iterator[Progress | Iteration]) -> Iterator[Iteration]:
    """Shows how each stage of EM gets on and passes on what is finished.

    On a terminal and in a notebook a bar, elsewhere a line now and then, since a bar makes a mess of a log file.
    """
    for event in (bars if shows_bars() else lines)(loop):
        if isinstance(event, Iteration):
            yield event


def shows_bars() -> bool:
    """Whether somebody looks on who can see a bar move: a terminal, or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def until(
    loop: Generator[Progress | Iteration, str | None, None], ends: float, last: int, least: int
) -> Iterator[Progress | Iteration]:
    """Passes on everything until a moment of :data:`clock`.

    The M-step of iteration ``last``, EM's last, ends there once it has made ``least`` updates; in all else the loop
    stops, which keeps where it is.
    """
    event = next(loop, None)
    while event is not None:
        yield event
        said = None
        if isinstance(event, Progress) and clock() >= ends:
            where = in_words(event, event, 0.0)
            if event.stage != "M-step" or event.iteration != last or event.done < least:
                loop.close()
                print(f"the time is over in {where}; the same command goes on there", flush=True)
                return
            print(f"the time is over in {where}; that is the last prior", flush=True)
            said = ENOUGH
        try:
            event = loop.send(said)
        except StopIteration:
            return


def bars(loop: Iterator[T]) -> Iterator[T]:
    """Draws a progress bar for each stage on standard error; passes on everything."""
    bar = None
    for event in loop:
        if isinstance(event, Progress):
            name = f"EM {event.iteration} {event.stage}"
            if bar is None or bar.desc != name:
                bar = tqdm(total=event.total, desc=name, leave=False)
            bar.update(event.done - bar.n)
            if event.done == event.total:
                bar.close()
        yield event


def lines(loop: Iterator[T], every: float = EVERY) -> Iterator[T]:
    """Writes a line to standard error every so many seconds and at each stage's end; passes on everything."""
    first, begin, said = None, 0.0, 0.0
    for event in loop:
        if isinstance(event, Progress):
            now = time.perf_counter()
            if first is None or not same_stage(first, event):
                first, begin, said = event, now, now
            if event.done == event.total or now - said >= every:
                print(in_words(first, event, now - begin), file=sys.stderr, flush=True)
                said = now
        yield event


def same_stage(a: Progress, b: Progress) -> bool:
    """Whether two belong to one stage of one EM iteration."""
    return (a.iteration, a.stage) == (b.iteration, b.stage)


def images_per_second(first: Progress, now: Progress, seconds: float) -> float:
    """Pictures a second, of all processes, between two moments of a stage; nan where none were done."""
    done = (now.done - first.done) * now.images
    return done / seconds if done and seconds > 0 else math.nan


def in_words(first: Progress, now: Progress, seconds: float) -> str:
    """How far a stage is, such as "EM 3 M-step 1200/10000, loss 0.0312, 512 images/s, 8 min left"."""
    rate = images_per_second(first, now, seconds)
    words = [f"EM {now.iteration} {now.stage} {now.done}/{now.total}"]
    words += [] if math.isnan(now.loss) else [f"loss {now.loss:.4f}"]
    words += [] if math.isnan(rate) else [f"{rate:.3g} images/s"]
    if now.done == now.total:
        words += [f"took {short_duration(seconds)}"]
    elif not math.isnan(rate):
        words += [f"{short_duration((now.total - now.done) * now.images / rate)} left"]
    return ", ".join(words)

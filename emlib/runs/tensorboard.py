"""A log that TensorBoard shows: losses, scores and speed of an EM run; a resumed run goes on in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emlib.em.events import Iteration, Progress
from emlib.runs.progress import images_per_second, same_stage

Tell = Callable[[str, float, int], None]
"""(name of the curve, value, step)"""


SPAN = 50
"""Updates whose mean loss is one point."""


SCORES = ("PSNR", "LPIPS", "SSIM", "FD-AlexNet", "FID", "scale", "seconds")
"""Columns of an EM iteration's row that become curves; "scale" is lambda."""


@contextmanager
def board(folder: Path | None) -> Iterator[Tell]:
    """Opens the log; without a folder what is told is not kept.

    A run that was stopped tells some points again, to the same values; those that the log has are left out.

    Raises:
        ModuleNotFoundError: if the package tensorboard is missing.
    """
    if folder is None:
        yield lambda name, value, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    last = _last_steps(folder)
    with SummaryWriter(str(folder), flush_secs=10) as writer:

        def tell(name: str, value: float, step: int) -> None:
            if step > last.get(name, -1):
                writer.add_scalar(name, value, step)

        yield tell


def _last_steps(folder: Path) -> dict[str, int]:
    """The last step of each curve that the log has."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return {}
    log = EventAccumulator(str(folder)).Reload()
    return {name: log.Scalars(name)[-1].step for name in log.Tags()["scalars"]}


def told(loop: Iterator[Progress | Iteration], tell: Tell) -> Iterator[Progress | Iteration]:
    """Tells the loss of each training and the images/s of each stage; passes on everything.

    A training's curve is "loss/EM 03" over its updates, 00 being the first prior; a speed is "images per second/E-step"
    over EM iterations.
    """
    first: Progress | None = None
    begin, losses = 0.0, list[float]()
    for event in loop:
        if isinstance(event, Progress):
            now = time.perf_counter()
            if first is None or not same_stage(first, event):
                first, begin, losses = event, now, []
            losses.append(event.loss)
            if event.stage != "E-step" and (event.done % SPAN == 0 or event.done == event.total):
                tell(f"loss/EM {event.iteration:02}", sum(losses) / len(losses), event.done)
                losses = []
            rate = images_per_second(first, event, now - begin)
            if event.done == event.total and not math.isnan(rate):
                tell(f"images per second/{event.stage}", rate, event.iteration)
        yield event


def tell_row(row: dict[str, Any], tell: Tell) -> None:
    """Tells the scores of one EM iteration, lambda and seconds with them."""
    for name in SCORES:
        if name in row:
            tell(f"EM/{'lambda' if name == 'scale' else name}", row[name], row["iteration"])

"""A run of EM that takes a second, what it ends with, and processes that may be killed while they run it."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import emlib
from emlib.em.checkpoint import RunFolder
from emlib.runs.samples import draw_shards, read_shards

UNET = emlib.UNetConfig(channels=(8, 16), groups=4)
SETTINGS = emlib.EMSettings(
    iterations=2, init_updates=10, m_updates=8, train_batch=8, init_lr=1e-3, m_lr=1e-3, ema_decay=0.9, e_batch=4,
    shard=4, snapshot=3,
)  # fmt: skip


LIMIT = 600.0
"""Seconds after which a run that takes one or two has hung."""


def pictures() -> torch.Tensor:
    """Thirty of them, [30, 1, 8, 8]."""
    return torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def run(folder: Path, clean: torch.Tensor | None = None) -> None:
    """Runs EM, begun or not, to its end, and writes what it came to beside the folder."""
    x, schedule = pictures(), emlib.linear_schedule()
    m = emlib.measure(x[:14], emlib.random_mask(14, 8, 0.6, 0), 0.1, seed=0)
    start, sampler = x[18:] if clean is None else clean, partial(emlib.mmps, steps=2)
    for step in emlib.run_em(m, start, UNET, schedule, lambda prior, k: sampler, SETTINGS, folder):
        last = step
    digest = hashlib.sha256(last.reconstructions.numpy().tobytes())
    for weight in last.prior.state_dict().values():
        digest.update(weight.contiguous().numpy().tobytes())
    folder.with_suffix(".end").write_text(digest.hexdigest())


def draw(folder: Path) -> None:
    """Draws pictures in shards, begun or not, and writes what they are beside the folder."""
    prior = emlib.build_unet(UNET, 0).eval().requires_grad_(False)
    keep = RunFolder(folder)
    keep.hold()
    keep.claim({"seed": 0})
    for _ in draw_shards(prior, emlib.linear_schedule(), (1, 8, 8), 600, 2, folder, batch=64):
        pass
    digest = hashlib.sha256()
    for part in read_shards(folder, 600):
        digest.update(part.numpy().tobytes())
    folder.with_suffix(".end").write_text(digest.hexdigest())


def ended(folder: Path) -> str:
    """What a run came to, empty if it has not ended."""
    end = folder.with_suffix(".end")
    return end.read_text() if end.exists() else ""


def apart(work: Callable[[], object], seconds: float | None = None, limit: float = LIMIT) -> str:
    """Does some work in a process of its own, killed by SIGKILL after some seconds.

    Returns:
        "done", "killed", "refused: SENTENCE" where a sentence ends it, or "broke: ERROR" for any other error and for a
        process that says nothing within the limit.
    """
    hears, tells = os.pipe()
    if (child := os.fork()) == 0:
        os.close(hears)
        warnings.simplefilter("ignore")
        try:
            work()
            said = "done"
        except (ValueError, OSError) as error:
            said = f"refused: {error}"
        except BaseException as error:  # told, and counted as a failure by the caller
            said = f"broke: {type(error).__name__}: {error}"
        os.write(tells, said.encode(errors="backslashreplace")[:4000])
        os._exit(0)
    os.close(tells)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    answered, _, _ = select.select([hears], [], [], limit)
    said = os.read(hears, 4000).decode(errors="replace") if answered else f"broke: no answer after {limit:g} s"
    os.close(hears)
    if not answered:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return said or "killed"


def seconds_of(work: Callable[[], object]) -> float:
    """How long some work takes in a process of its own."""
    begin = time.perf_counter()
    if (said := apart(work)) != "done":
        raise RuntimeError(f"the run that all others are held against ended with {said!r}")
    return time.perf_counter() - begin

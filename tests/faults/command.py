"""The command ``emlib em`` in a second, with its scores, and what may go wrong in the middle of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from toy import UNET

import emlib
import emlib.cli.em
from emlib.cli.main import main
from emlib.runs import presets

EM = replace(
    presets.SMOKE.em, iterations=1, init_updates=6, m_updates=6, last_updates=0, train_batch=4, snapshot=2, e_batch=4,
    shard=4,
)  # fmt: skip
TOY = replace(presets.SMOKE, name="toy", em=EM, samples=4, unet=UNET, held_out=3, observations=8, e_steps=2, cg_steps=1)

SCORING = [("_scores", 1), ("_scores", 2), ("_held_out", 1), ("save_grid", 1), ("write_result", 1)]
"""What is called between stages and after the last one, and which time."""


def command(folder: Path) -> None:
    """Runs it, begun or not, to its end, and writes what it came to beside the folder.

    Raises:
        ValueError: with the sentence that it is refused with.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(presets.PRESETS, {"toy": TOY}),
        mock.patch("emlib.metrics.alexnet.alexnet_missing", return_value="left out here"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(["em", "--preset", "toy", "--folder", str(folder)])
    if status:
        raise ValueError(err.getvalue().strip().splitlines()[-1])
    rows = json.loads((folder / "result.json").read_text())["rows"]
    digest = hashlib.sha256(json.dumps([{**row, "seconds": 0} for row in rows]).encode())
    digest.update((folder / "reconstructions_01.npy").read_bytes())
    for weight in emlib.load_unet(folder / "prior_01.safetensors").state_dict().values():
        digest.update(weight.contiguous().numpy().tobytes())
    folder.with_suffix(".end").write_text(digest.hexdigest())


def stages(folder: Path) -> dict[Path, int]:
    """Finished stages, and when they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("[pr]*_*.*") if file.suffix != ".part"}


@contextlib.contextmanager
def killed_in(part: str, time: int, after: bool) -> Iterator[None]:
    """SIGKILL when a part of the command is called this time, before it does anything or when it is done."""
    real, left = getattr(emlib.cli.em, part), time

    def dies(*words: object, **more: object) -> object:
        nonlocal left
        left -= 1
        done = real(*words, **more) if left or after else None
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    with mock.patch.object(emlib.cli.em, part, dies):
        yield


WAYS: list[Callable[[], Exception]] = [
    lambda: MemoryError(),
    lambda: MemoryError("Unable to allocate 7.11 PiB for an array"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried"),
    lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
]
"""How Python, numpy and PyTorch say that there is no more memory."""


@contextlib.contextmanager
def hungry(training: bool, time: int, way: Callable[[], Exception]) -> Iterator[None]:
    """Has the network find no memory when it is called this time, in an update or while pictures are drawn."""
    real, left = emlib.UNet.forward, time

    def forward(self: emlib.UNet, *words: object) -> object:
        nonlocal left
        left -= self.training == training
        if not left:
            raise way()
        return real(self, *words)

    with mock.patch.object(emlib.UNet, "forward", forward):
        yield

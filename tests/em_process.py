"""A small EM run in a process of its own, to be killed or run by several.

``python em_process.py FOLDER START MOMENT ...``; at the last of these moments it waits to be killed. What runs up to
each moment before that is killed there, and begun again: a process that is forked need not load the library anew.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial

import torch
import torch._dynamo  # an optimizer loads it: once here, and not in each process that is forked

import emlib
from emlib.runtime.distributed import joined

UNET = emlib.UNetConfig(channels=(8, 16), groups=4)
SETTINGS = emlib.EMSettings(
    iterations=2,
    init_updates=30,
    m_updates=30,
    train_batch=8,
    init_lr=1e-3,
    m_lr=1e-3,
    ema_decay=0.9,
    e_batch=4,
    shard=4,
    snapshot=5,
)


def loop(folder, start):
    """START is "clean" or "gaussian"; the latter's first E-step depends on no training."""
    schedule = emlib.linear_schedule()
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m = emlib.measure(x[:18], emlib.random_mask(18, 8, 0.6, 0), 0.1, seed=0)
    first = x[18:] if start == "clean" else emlib.fit_gaussian(m, schedule, 2)
    return emlib.run_em(m, first, UNET, schedule, lambda prior, k: partial(emlib.mmps, steps=4), SETTINGS, folder)


def run(folder: str, start: str, moment: str = "", then: Callable[[], object] = lambda: None) -> None:
    """Runs to the end and says each moment; does something at one of them."""
    with joined():
        for event in loop(folder, start):
            if isinstance(event, emlib.Progress):
                now = f"{event.iteration} {event.stage} {event.done}"
                # in one piece, since two processes share the pipe
                os.write(1, f"{now}\n".encode())
                if now == moment:
                    then()


def killed_at(moment: str, folder: str, start: str) -> None:
    """A run that ends by SIGKILL, which nothing can catch."""
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its moments are not those that are waited for
        try:
            run(folder, start, moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        sys.exit(f"the run ended before {moment!r}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, moments = sys.argv[1:3], sys.argv[3:]
    for early in moments[:-1]:
        killed_at(early, *where)
    run(*where, *moments[-1:], then=lambda: time.sleep(3600))

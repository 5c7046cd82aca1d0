"""A small EM run in a process of its own, to be killed or run by several.

``python em_process.py FOLDER START [MOMENT]``; at that moment it waits to be killed.
"""

import os
import sys
import time
from functools import partial

import torch

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined():
        for event in loop(*sys.argv[1:3]):
            if isinstance(event, emlib.Progress):
                moment = f"{event.iteration} {event.stage} {event.done}"
                # in one piece, since two processes share the pipe
                os.write(1, f"{moment}\n".encode())
                if sys.argv[3:] == [moment]:
                    time.sleep(3600)

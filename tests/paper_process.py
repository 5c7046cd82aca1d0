"""The paper's pipeline at toy size, to be run by several processes: ``python paper_process.py FOLDER``.

With ``RANK MOMENT`` after it that process waits at that moment to be killed.

Two phases, the first on half of the observations, mirrored pictures in training, and DPS with a scale that is searched
in each E-step.
"""

import os
import sys
import time

import torch

import emlib
from emlib.runtime.distributed import joined

UNET = emlib.UNetConfig(channels=(8, 16), groups=4)
SETTINGS = emlib.EMSettings(
    iterations=2,
    init_updates=20,
    m_updates=20,
    train_batch=8,
    init_lr=1e-3,
    m_lr=1e-3,
    ema_decay=0.9,
    e_batch=2,
    shard=4,
    snapshot=5,
    phases=emlib.Phases(subset=0.5, reset_iterations=1, reset_updates=20),
    flip=True,
)


def loop(folder):
    schedule = emlib.linear_schedule()
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m = emlib.measure(x[:18], emlib.random_mask(18, 8, 0.6, 0), 0.0, seed=0)
    e_step = emlib.searched_dps("residual", m.select(range(4)), schedule, 4, seed=0, scales=(0.5, 1.0, 2.0))
    return emlib.run_em(m, x[18:], UNET, schedule, e_step, SETTINGS, folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as here:
        for event in loop(sys.argv[1]):
            if isinstance(event, emlib.Progress):
                moment = f"{event.iteration} {event.stage} {event.done}"
                # in one piece, since the processes share the pipe
                os.write(1, f"{here.rank} {os.getpid()} {moment}\n".encode())
                if sys.argv[2:] == [str(here.rank), moment]:
                    time.sleep(3600)

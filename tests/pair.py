"""A script run by two processes: ``python pair.py SCRIPT WORDS``.

Under torchrun's own agent, but forked from one process that has loaded the library. That takes seconds, and longer than
the small runs of the tests do.
"""

import runpy
import sys
import uuid

import torch._dynamo  # noqa: F401 -- which the first optimizer of a process loads
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import emlib

emlib.run_em  # noqa: B018 -- names are loaded when they are first asked for


def work(script: str, *words: str) -> None:
    """What each of the two does."""
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    # as torchrun --standalone --nproc-per-node=2
    here = LaunchConfig(1, 1, 2, run_id=uuid.uuid4().hex, rdzv_endpoint="localhost:0", rdzv_backend="c10d",
                        max_restarts=0, start_method="fork")  # fmt: skip
    elastic_launch(here, work)(*sys.argv[1:])

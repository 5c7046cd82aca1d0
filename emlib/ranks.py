r"""Several processes on one run: ``torchrun -m emlib em ...`` starts them, one a GPU or one a share of the CPU.

Nothing else in the library asks how many there are in order to decide *what* to compute: random streams belong to
pictures, shards of an E-step to whoever is free, and an update averages its gradient over all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Ranks:
    """Which process this is, 0 to ``world`` - 1, and of how many."""

    rank: int
    world: int

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, prints and scores."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Every ``world``-th of ``count`` things, beginning with the rank's own."""
        return range(self.rank, count, self.world)


def ranks() -> Ranks:
    """The processes of this run; one, unless :func:`joined` has found more."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return Ranks(0, 1)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Joins the other processes that ``torchrun`` started, and parts from them at the end; alone it does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(0, 1)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ranks()
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Returns once every process has come this far."""
    if ranks().world > 1:
        distributed.barrier()


@contextmanager
def first_before_others() -> Iterator[None]:
    """Runs a block in the first process, then in all others: what the first one fetches, they find."""
    here = ranks()
    if not here.first:
        wait_for_all()
    try:
        yield
    finally:
        if here.first:
            wait_for_all()


def parallel(model: nn.Module) -> nn.Module:
    """The network with gradients averaged over all processes; itself when there is but one."""
    return nn.parallel.DistributedDataParallel(model) if ranks().world > 1 else model

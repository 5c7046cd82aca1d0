r"""Several processes on one run: ``torchrun -m emlib em ...`` starts them, one a GPU or one a share of the CPU.

Nothing else in the library asks how many there are in order to decide *what* to compute: random streams belong to
pictures, shards of an E-step to whoever is free, and an update averages its gradient over all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn

from emlib import lost

PATIENCE = timedelta(hours=6)
"""How long a process waits for the others. The first one scores alone, at the paper's size for the better part of an
hour; whoever dies is noticed at once all the same (:mod:`emlib.lost`), so this is only for a process that hangs."""


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
    """Joins the other processes that ``torchrun`` started, and parts from them at the end; alone it does nothing.

    Where one of them dies, all end: one of them says so in a line, and this one exits with status 1.

    Raises:
        ValueError: if there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(0, 1)
        return
    if torch.cuda.is_available():
        if (local := int(os.environ["LOCAL_RANK"])) >= torch.cuda.device_count():
            raise ValueError(
                f"process {local} has no GPU: there are {torch.cuda.device_count()}; lower --nproc-per-node to that"
            )
        torch.cuda.set_device(local)
    with lost.noticed():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        try:
            yield ranks()
        finally:
            distributed.destroy_process_group()


def wait_for_all() -> None:
    """Returns once every process has come this far."""
    if ranks().world > 1:
        distributed.barrier()


def as_the_first(number: float) -> float:
    """The first process's number, for all: two cards may differ in the last bit, and a search then in its answer."""
    if ranks().world == 1:
        return number
    told = torch.tensor(number, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
    distributed.broadcast(told, src=0)
    return told.item()


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

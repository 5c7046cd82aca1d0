r"""Several processes on one run: ``torchrun -m emlib em ...`` starts them, one a GPU or one a share of the CPU.

Nothing else in the library asks how many there are in order to decide *what* to compute: random streams belong to
pictures, shards of an E-step to whoever is free, and an update averages its gradient over all.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

PATIENCE = timedelta(hours=6)
"""How long a process waits for the others. The first one scores alone, at the paper's size for the better part of an
hour; whoever dies is noticed at once all the same (:func:`noticed`), so this is only
for a process that hangs."""


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
    with noticed():
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


MESSAGE = (
    "emlib: another process of this run has ended, so all end; what is done is kept, and the same command goes on there"
)


STATUS = 1
"""Exit status of a process that ends for another one."""


WORDS = ("gloo", "NCCL", "nccl", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What a failed collective's error names; gloo's have no class of their own."""


_ENDING = threading.Lock()


@contextmanager
def noticed() -> Iterator[None]:
    """Ends this process with :data:`MESSAGE`, said once among all, where another process of the run is lost."""
    before = _listen()
    try:
        yield
    except RuntimeError as error:  # torch's own errors of this kind are RuntimeErrors
        if not of_a_lost_process(error):
            raise
        _end()
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def of_a_lost_process(error: RuntimeError) -> bool:
    """Whether a collective failed because somebody was no longer there."""
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in WORDS)


def _listen() -> Any:
    """Starts the thread that hears SIGTERM; returns what handled it before."""
    heard, ring = os.pipe()
    os.set_blocking(ring, False)
    # The handler itself would run only once the main thread is back in Python; the pipe rings at once.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(ring)

    def wait() -> None:
        while os.read(heard, 1) != bytes([signal.SIGTERM]):
            pass
        _end()

    threading.Thread(target=wait, daemon=True).start()
    return before


def _end() -> None:
    """Says it, unless another process has, and ends at once: all files are whole at any moment."""
    _ENDING.acquire()  # for good: whichever thread comes second must not end the process before the first has spoken
    sys.stdout.flush()  # rows of the table, which would be lost
    if first_to_say(MESSAGE):
        os.write(2, (MESSAGE + "\n").encode())
    os._exit(STATUS)


def first_to_say(what: str) -> bool:
    """Whether no other process of this start has said it yet, as far as torchrun's store can tell."""
    if "MASTER_ADDR" not in os.environ:
        return True
    key = f"emlib/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{hashlib.sha256(what.encode()).hexdigest()}"
    try:
        store = distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=3),
        )
        return store.add(key, 1) == 1
    except (RuntimeError, ValueError):  # the store went with the process that kept it: better said twice than never
        return True

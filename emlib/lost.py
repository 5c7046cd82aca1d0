r"""When one of several processes dies: the others end within seconds, and one of them says so in one line.

A dead process shows in two ways, and either may come first. A collective that waits for it fails; and ``torchrun``,
which watches all, asks the others to end (SIGTERM). The second must be heard in a thread of its own, as the main one
may be waiting in C++ for an answer that will never come.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch import distributed

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


def _listen() -> signal.Handlers:
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
    if _first_to_say():
        os.write(2, (MESSAGE + "\n").encode())
    os._exit(STATUS)


def _first_to_say() -> bool:
    """Whether no other process of this start has said it yet, as far as torchrun's store can tell."""
    try:
        store = distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=3),
        )
        return store.add(f"emlib/lost/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1
    except RuntimeError:  # the store went with the process that kept it: better said twice than never
        return True

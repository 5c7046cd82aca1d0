"""The superuser may write everywhere. Without that one right a read-only folder binds it as it binds all others."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

VERSION, DAC_OVERRIDE = 0x20080522, 1 << 1
"""Of Linux's ``capset``, and its bit of the right to pass by the rights of files."""


@contextmanager
def bound() -> Iterator[bool]:
    """Takes that right away from this thread for a while; yields whether rights bind now, which they do for others."""
    libc = ctypes.CDLL(None)
    if os.geteuid() or not hasattr(libc, "capset"):
        yield bool(os.geteuid())
        return
    # whose (0 is this thread), then the rights in use, those that may be, those passed on, and again for the upper bits
    who, rights = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    libc.capget(who, rights)
    before, rights[0] = rights[0], rights[0] & ~DAC_OVERRIDE
    try:
        yield libc.capset(who, rights) == 0
    finally:
        rights[0] = before
        libc.capset(who, rights)

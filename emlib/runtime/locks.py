r"""One run a folder: whoever holds it keeps other processes out, and a process that dies lets go by dying."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HELD: weakref.WeakValueDictionary[str, Hold] = weakref.WeakValueDictionary()
"""Who holds which folder in this process, by its real path: the newest."""


class FolderInUse(ValueError):
    """A folder in which another run is at work."""

    def __init__(self, folder: str | Path, who: str) -> None:
        super().__init__(f"{folder} is in use by {who}; wait until it has ended or end it, or name another folder")


class Hold:
    """A folder that this process holds against all others, until it is released or nobody has this any more.

    The folder itself is locked (flock), so nothing is written for it and a killed process leaves nothing. Within one
    process the newest holder takes over, since a notebook's interrupted cell may be held by its traceback for long;
    the one before is told so as soon as it asks (:meth:`check`).

    Raises:
        FolderInUse: if another process holds the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._key = os.path.realpath(self.folder)
        before = _HELD.pop(self._key, None)
        descriptor = None if before is None else before._hand_over()
        if descriptor is not None and not _is(descriptor, self.folder):  # that was another folder of this name
            os.close(descriptor)
            descriptor = None
        if descriptor is None:
            descriptor = _locked(self.folder)
        self._descriptor: int | None = descriptor
        _HELD[self._key] = self

    def check(self) -> None:
        """Refuses to go on where a later run of this process has taken the folder over.

        Raises:
            FolderInUse: then.
        """
        if not self.mine:
            raise FolderInUse(self.folder, "a run that began later in this process")

    @property
    def mine(self) -> bool:
        """Whether the folder is still held by this one."""
        return _HELD.get(self._key) is self

    def release(self) -> None:
        """Lets the next one in."""
        if self.mine:
            del _HELD[self._key]
        if (descriptor := self._hand_over()) is not None:
            os.close(descriptor)

    __del__ = release

    def _hand_over(self) -> int | None:
        descriptor, self._descriptor = getattr(self, "_descriptor", None), None
        return descriptor


def _is(descriptor: int, folder: Path) -> bool:
    """Whether what is open here is what has this path now."""
    return folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat())


def held_elsewhere(folder: str | Path) -> bool:
    """Whether another process holds a folder, which need not be there."""
    if os.path.realpath(folder) in _HELD or not Path(folder).is_dir():
        return False
    try:
        os.close(_locked(Path(folder), quiet=True))
    except FolderInUse:
        return True
    return False


def _locked(folder: Path, quiet: bool = False) -> int:
    """Opens and locks a folder; where its file system knows no locks, says so and goes on."""
    import fcntl  # Linux and macOS alone have it, and nothing else here needs it

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FolderInUse(folder, "another run") from None
    except OSError as error:
        if not quiet:
            said = f"{folder} cannot be locked ({error.strerror}): see to it yourself that no other run works in it"
            warnings.warn(said, stacklevel=2)
    return descriptor


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Lets one process at a time into a block with this file's name; a process that dies lets the next one in.

    Raises:
        OSError: if the file cannot be made, or its file system knows no locks.
    """
    import fcntl

    with Path(path).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Files of a folder and of those below it, with a word on what is not looked into."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHUT = "cannot be opened ({}); allow reading it, or move it away"
LINKED = "is a link to a folder, which is not followed; copy that folder here, or name it instead of this"


@dataclass(frozen=True)
class Trouble:
    """A file that was left out.

    Attributes:
        name: path relative to the folder that was read, with "/".
        why: one sentence that goes on after the name and says what to do.
    """

    name: str
    why: str


@dataclass(frozen=True)
class Files:
    """What lies in a folder and in those below it.

    Attributes:
        paths: the files, in no promised order.
        troubles: folders that are not looked into.
        hidden: files whose names begin with a dot, such as the ``._x.png`` that macOS leaves on other disks.
    """

    paths: list[Path] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)


def files_below(folder: Path, without: Path | None = None) -> Files:
    """All files that are not hidden; hidden folders are passed over, links to folders named and not followed.

    Not followed, since a link may lead in a circle, out of the folder, or to the same pictures a second time.

    Args:
        folder: the folder.
        without: a folder that is left out with all below it, such as that of the masks.
    """
    kept_out = without.resolve() if without is not None else None
    found = Files()

    def shut(error: OSError) -> None:
        name = Path(error.filename or folder).relative_to(folder).as_posix()
        found.troubles.append(Trouble(name, SHUT.format(error.strerror)))

    for where, inside, names in os.walk(folder, onerror=shut):
        here = Path(where)
        linked = [name for name in sorted(inside) if (here / name).is_symlink() and not name.startswith(".")]
        found.troubles.extend(Trouble((here / name).relative_to(folder).as_posix(), LINKED) for name in linked)
        inside[:] = [name for name in inside if not name.startswith(".") and (here / name).resolve() != kept_out]
        for name in names:
            (found.hidden if name.startswith(".") else found.paths).append(here / name)
    return found


SAID: set[tuple[Path, str]] = set()
"""What this process has said of which folder: a run looks at its folder in each check and once more to read it."""


def warn_of(folder: Path, troubles: Collection[Trouble], hidden: Collection[Path]) -> None:
    """Says what of a folder is left out, in one sentence, and that once a process as long as it stays so."""
    left = ", and ".join(_left_out(troubles, hidden))
    if left and (said := (folder.resolve(), left)) not in SAID:
        SAID.add(said)
        warnings.warn(f"of {folder} are left out: {left}", stacklevel=3)


def _left_out(troubles: Collection[Trouble], hidden: Collection[Path]) -> Iterator[str]:
    if troubles:
        first, more = next(iter(troubles)), len(troubles) - 1
        yield f"{first.name}, which {first.why}" + f" ({more} more)" * bool(more)
    if hidden:
        name, more = min(path.name for path in hidden), len(hidden) - 1
        yield f"the hidden file {name}" + f" ({more} more)" * bool(more)

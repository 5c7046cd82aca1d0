"""Files that are whole or not there at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Gives a place to write to, which takes the name ``path`` only once all is written.

    A run that is stopped halfway thus never leaves half a file behind. The folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    yield part
    part.replace(path)


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON to a file."""
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")

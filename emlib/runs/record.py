"""Recorded runs: numbers with everything needed to trust them or make them again."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from emlib.runtime.files import read_json, write_json


def provenance() -> dict[str, Any]:
    """Commit, versions, processor and time of this very moment."""
    return {
        "commit": _commit(),
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "device": _device(),
        "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _device() -> str:
    """The GPU where there is one, else the processor."""
    torch = sys.modules.get("torch")  # this module works without
    if torch is not None and torch.cuda.is_available():
        return f"GPU {torch.cuda.get_device_name()}"
    return f"CPU {platform.machine()}, {os.cpu_count()} cores"


def _commit() -> str:
    package = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(package)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if Path(top.stdout.strip()).resolve() != package.parent:  # installed below somebody's own repository
            return "not in a git checkout"
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "not in a git checkout"
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def command_line() -> str:
    """The command that runs now, as a reader would type it."""
    script = Path(sys.argv[0])
    # The benchmarks are scripts; all else is a command of the library.
    words = [f"{script.parent.name}/{script.name}"] if script.parent.name == "benchmarks" else ["-m", "emlib"]
    return shlex.join(["python", *words, *sys.argv[1:]])


def write_result(
    path: str | Path,
    experiment: str,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    seconds: float,
    command: str | None = None,
) -> None:
    """Writes a recorded run, whole or not at all.

    Args:
        path: JSON file to write; its folder is made.
        experiment: name of the experiment.
        settings: every setting: preset, seed, data set and its fingerprint, ...
        rows: the numbers, one mapping a row.
        seconds: how long it took.
        command: that makes all of it, where it is not the one that runs now.
    """
    record = {
        "experiment": experiment,
        "command": command or command_line(),
        "settings": settings,
        "seconds": round(seconds, 1),
        **provenance(),
        "rows": rows,
    }
    write_json(path, record)


def read_result(path: str | Path) -> dict[str, Any]:
    """Reads a recorded run.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is no recorded run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recorded run at {path}; data/results/README.md lists the command for each")
    try:
        record = dict(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is no recorded run: {error}") from None
    if missing := {"experiment", "settings", "rows"} - set(record):
        raise ValueError(f"{path} is no recorded run: it lacks {', '.join(sorted(missing))}")
    rows = record["rows"]
    if not isinstance(record["settings"], dict) or not isinstance(rows, list):
        raise ValueError(f"{path} is no recorded run: its settings are no object or its rows are no list")
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is no recorded run: a row is no object of numbers by their names")
    return record

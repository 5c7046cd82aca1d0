r"""Whose folder it is: the fingerprint of a run's data, its settings, and those that older runs do not name."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from emlib.operators import Measurements
from emlib.runtime.files import read_json, unsealed
from emlib.runtime.tensors import read_notes

LATER = {
    "flip": False,
    "e_speed": None,
    "optimizer": "adamw",
    "solver": "plain",
    "refine": 0,
    "clean_copies": 0,
    "last_updates": 0,
}
"""Settings that folders of older runs do not name, and what those runs did."""


def fingerprint(measurements: Measurements, *tensors: Tensor) -> str:
    """Sixteen letters that differ for other data or other masks, which settings alone would not tell apart."""
    digest = hashlib.sha256(repr(measurements.index).encode())
    for x in (measurements.y, *measurements.operator.tensors().values(), *tensors):
        digest.update(x.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def completed(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A folder's or a record's settings, and those younger than it that ``wanted`` names; a preset has EM's inside."""
    pairs = {k: (v, wanted.get(k)) for k, v in found.items()}
    inner = {k: completed(a, b) for k, (a, b) in pairs.items() if isinstance(a, dict) and isinstance(b, dict)}
    return {**{k: v for k, v in LATER.items() if k in wanted}, **found, **inner}


def settings_in(file: Path, priors: Iterable[Path] = ()) -> dict[str, Any]:
    """Settings of the run that a folder holds; empty if it holds none.

    Every prior carries them too, so where their own file is missing or damaged they are read from there.

    Args:
        file: the folder's settings.json.
        priors: the folder's finished priors, the newest first.

    Raises:
        ValueError: if they cannot be read.
    """
    if file.is_symlink() or file.exists():
        try:
            if found := unsealed(dict(read_json(file))):
                return found
            trouble = f"{file} names no settings"
        except (ValueError, FileNotFoundError) as error:
            if file.is_dir():
                raise ValueError(f"{file} is a folder; delete it or name another folder") from None
            trouble = str(error) if str(file) in str(error) else f"{file}: {error}"
    else:
        trouble = f"{file} is missing"
    for prior in priors:
        try:
            found = json.loads(read_notes(prior)["settings"])
        except (ValueError, KeyError):
            continue
        if isinstance(found, dict):
            warnings.warn(f"{trouble}; the settings in {prior.name} are taken", stacklevel=3)
            return found
    if not file.exists():
        return {}
    raise ValueError(f"{trouble}; no finished prior in {file.parent} tells its settings either, so delete the folder")

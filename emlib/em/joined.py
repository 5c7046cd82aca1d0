r"""Pictures of an E-step on disk: shards, then all in one array with a checksum; memory never holds all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emlib.runtime.files import read_json
from emlib.runtime.tensors import load_tensors, read_array

CHECKSUM = "sha256"
"""Key of the checksum in what is known of an E-step; those of older releases have none."""


def read_shard(file: Path) -> Tensor:
    """Pictures [n, C, H, W] of one shard.

    Raises:
        ValueError: if it is damaged, or something else, with the remedy.
    """
    remedy = "so it is drawn again"
    tensors, _ = load_tensors(file, remedy)
    if list(tensors) != ["x"] or tensors["x"].ndim != 4 or tensors["x"].dtype != torch.float32:
        raise ValueError(f"{file} is no shard of an E-step, {remedy}")
    return tensors["x"]


def write_joined(file: Path, parts: Iterable[Tensor], pictures: int) -> None:
    """Writes pictures, float32 [b, C, H, W] at a time, as one array of NumPy's; other than a mapped file this notices a
    full disk.

    Raises:
        ValueError: if the parts do not hold so many pictures of one shape.
    """
    done, shape = 0, None
    with file.open("wb") as out:
        for x in parts:
            if shape is None:
                shape = tuple(x.shape[1:])
                about = {"descr": "<f4", "fortran_order": False, "shape": (pictures, *shape)}
                np.lib.format.write_array_header_1_0(out, about)
            if tuple(x.shape[1:]) != shape:
                raise ValueError(f"shards hold pictures of {shape} and of {tuple(x.shape[1:])}; delete them")
            out.write(x.contiguous().numpy().astype("<f4", copy=False).data)
            done += len(x)
    if done != pictures:
        raise ValueError(f"shards hold {done} pictures, where there are {pictures}; delete them")


def read_joined(file: Path, beside: Path) -> tuple[Tensor, dict[str, Any]]:
    """The array, left on disk until it is read, and what the JSON file beside it says.

    Raises:
        ValueError: if one of them is damaged.
    """
    try:
        # Copy-on-write: what a caller changes is his own.
        x = read_array(file, "c")
        about = dict(read_json(beside))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file.name} or {beside.name} cannot be read ({error})") from None
    wanted = about.pop(CHECKSUM, None)
    if wanted is not None and wanted != checksum_of(file, about):
        raise ValueError(f"{file.name} or {beside.name} is not what was written")
    if x.dtype != np.float32 or x.ndim != 4:
        raise ValueError(f"{file.name} holds {x.dtype} {x.shape}, not pictures")
    return torch.from_numpy(x), about


def checksum_of(file: Path, about: dict[str, Any]) -> str:
    """SHA-256 of an array's file and of what is known of it."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

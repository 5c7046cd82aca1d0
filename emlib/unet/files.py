r"""A U-Net's weights in a file: what is read is held against what its sizes ask for, and no code in it is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emlib.runtime.tensors import read_tensors, write_tensors
from emlib.unet.network import UNet
from emlib.unet.sizes import UNetConfig


def save_unet(model: UNet, path: str | Path, **notes: str) -> None:
    """Writes weights and sizes to one safetensors file, whole or not at all.

    Args:
        model: the network.
        path: file to write; its folder is made.
        notes: words to keep with the weights, such as the command that trained them.
    """
    write_tensors(path, model.state_dict(), {"unet": json.dumps(asdict(model.cfg)), **notes})


def load_unet(path: str | Path, remedy: str = "name another file") -> UNet:
    """Reads a network that :func:`save_unet` wrote; no code in the file is run.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the refusal.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file does not hold one of our networks, or is damaged.
    """
    note, state = read_tensors(path, "unet", remedy)
    try:
        cfg = _sizes(note)
        # before anything is made: a note may ask for more than any memory holds
        most, largest = len(state), max((x.numel() for x in state.values()), default=0)
        if (
            cfg.blocks * len(cfg.channels) > most
            or max(*cfg.channels, cfg.in_channels, cfg.patch, cfg.refine) > largest
        ):
            raise ValueError(f"{cfg} is more than {most} tensors of at most {largest} numbers can hold")
        with torch.device("meta"):
            wanted = UNet(cfg).state_dict()
        check_weights(state, wanted)
    except ValueError as error:
        raise ValueError(f"{path} does not hold a network of emlib's: {error}; {remedy}") from None
    model = UNet(cfg)
    model.load_state_dict(state)
    return model.eval()


def _sizes(note: str) -> UNetConfig:
    """The sizes that a file's note gives.

    Raises:
        ValueError: if it gives none.
    """
    try:
        said = json.loads(note)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its note of sizes is no JSON ({error})") from None
    if not isinstance(said, dict):
        raise ValueError(f"its note of sizes is no JSON object, but {type(said).__name__}")
    if strange := said.keys() - UNetConfig.__dataclass_fields__.keys():
        raise ValueError(f"its note of sizes has {', '.join(sorted(strange))[:80]}, which this release does not know")
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    return UNetConfig(**sizes)


def check_weights(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuses tensors that are not a network's weights.

    Args:
        state: what was read, by name.
        wanted: names and shapes of the network's own.

    Raises:
        ValueError: naming the first that is missing, too many, of another shape, or holds no finite numbers.
    """
    if missing := sorted(wanted.keys() - state.keys()):
        raise ValueError(f"{len(missing)} of its tensors are missing, {missing[0]} first")
    if extra := sorted(state.keys() - wanted.keys()):
        raise ValueError(f"it has {len(extra)} tensors too many, {extra[0]!r} first")
    for name, x in state.items():
        if x.shape != wanted[name].shape:
            raise ValueError(f"{name} is {tuple(x.shape)}, but the network's is {tuple(wanted[name].shape)}")
        if not x.is_floating_point():
            raise ValueError(f"{name} holds {x.dtype}, which are no weights")
        if not x.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")

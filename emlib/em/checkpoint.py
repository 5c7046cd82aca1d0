r"""A run of EM on disk: every stage in a whole file, so that the same command goes on wherever it was stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emlib.operators import Measurements
from emlib.runtime.distributed import ranks
from emlib.runtime.files import atomic_file, write_json
from emlib.unet import UNet, load_unet, save_unet

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


def _completed(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A folder's settings, and those that are younger than it; a preset has those of EM inside."""
    pairs = {k: (v, wanted.get(k)) for k, v in found.items()}
    inner = {k: _completed(a, b) for k, (a, b) in pairs.items() if isinstance(a, dict) and isinstance(b, dict)}
    return {**{k: v for k, v in LATER.items() if k in wanted}, **found, **inner}


@dataclass
class RunFolder:
    """Where the stages of a run are kept; with ``path`` None they are kept in memory, for one process alone.

    Several processes may share a folder: each saves its own shards, the first one all the rest.
    """

    path: Path | None
    memory: dict[int, list[Tensor]] = field(default_factory=dict)
    about: dict[int, dict[str, Any]] = field(default_factory=dict)

    def _in(self, name: str) -> Path:
        """A file in the folder; nobody asks for one where the stages are in memory."""
        assert self.path is not None, "a run in memory has no files"
        return self.path / name

    def claim(self, settings: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Makes the folder this run's own.

        Args:
            settings: everything that the run's numbers depend on.
            free: settings that may differ from the last time.

        Raises:
            ValueError: if it holds a run of other settings, naming both.
        """
        if self.path is None:
            if ranks().world > 1:
                raise ValueError("several processes share their work through a folder; name one")
            return
        settings = json.loads(json.dumps(settings))
        self.refuse_others({**dict.fromkeys(self.settings()), **settings}, free)
        if ranks().first:
            write_json(self.path / "settings.json", settings)
            for done in self.path.glob("reconstructions_*.npy"):  # a kill may have come between joining and sweeping
                self.sweep(int(done.stem.split("_")[1]))

    def settings(self) -> dict[str, Any]:
        """Settings of the run that the folder holds; empty if it holds none."""
        file = self._in("settings.json")
        return json.loads(file.read_text()) if file.is_file() else {}

    def refuse_others(self, settings: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Refuses a folder whose run has other values of these settings, which need not be all.

        Raises:
            ValueError: naming both.
        """
        settings = json.loads(json.dumps(settings))
        found = self.settings() and _completed(self.settings(), settings)
        keys = [k for k in settings if found and found.get(k) != settings[k] and k not in free]
        if keys:
            there, here = ({k: s.get(k) for k in keys} for s in (found, settings))
            raise ValueError(
                f"{self.path} holds a run with {there}, but this one has {here}; name another folder or delete it"
            )

    # ---- priors ----

    def prior(self, k: int) -> UNet | None:
        """The network after iteration k, if it is there."""
        file = self.path and self.path / f"prior_{k:02d}.safetensors"
        if not file or not file.is_file():
            return None
        return load_unet(file).to(memory_format=torch.channels_last).requires_grad_(False)

    def save_prior(self, k: int, model: UNet) -> None:
        """Keeps the network after iteration k; the snapshot of its training is not needed any more."""
        if self.path and ranks().first:
            settings = (self.path / "settings.json").read_text()  # as the run claimed the folder with
            save_unet(model, self.path / f"prior_{k:02d}.safetensors", iteration=str(k), settings=settings)
            self._snapshot(k).unlink(missing_ok=True)

    def _snapshot(self, k: int) -> Path:
        return self._in(f"training_{k:02d}.safetensors")

    def snapshot(self, k: int) -> dict[str, Tensor] | None:
        """Where the training of iteration k was last kept, if it is not done yet."""
        return load_file(self._snapshot(k)) if self.path and self._snapshot(k).is_file() else None

    def save_snapshot(self, k: int, state: dict[str, Tensor]) -> None:
        """Keeps a training halfway."""
        if self.path and ranks().first:
            with atomic_file(self._snapshot(k)) as part:
                save_file(state, part)

    # ---- reconstructions ----

    def _shard(self, k: int, i: int) -> Path:
        return self._in(f"shards_{k:02d}") / f"{i:05d}.safetensors"

    def has_shard(self, k: int, i: int) -> bool:
        """Whether shard i of E-step k is done; never, in memory, where nothing is left from before."""
        return self.path is not None and self._shard(k, i).is_file()

    def save_shard(self, k: int, i: int, x: Tensor) -> None:
        """Keeps the reconstructions of one shard."""
        if self.path is None:
            self.memory.setdefault(k, []).append(x)
            return
        with atomic_file(self._shard(k, i)) as part:
            save_file({"x": x.contiguous()}, part)

    def join_shards(self, k: int, count: int, pictures: int, about: dict[str, Any]) -> None:
        """Makes one file of all shards of E-step k, one after another, and removes them."""
        if self.path is None:
            self.memory, self.about = {k: [torch.cat(self.memory[k])]}, {k: about}
            return
        write_json(self.path / f"e_step_{k:02d}.json", about)
        with atomic_file(self._reconstructions(k)) as part:
            shape = (pictures, *load_file(self._shard(k, 0))["x"].shape[1:])
            # Written through the file system's own buffers: memory holds one shard, however many there are.
            out, start = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape), 0
            for i in range(count):
                x = load_file(self._shard(k, i))["x"].numpy()
                out[start : start + len(x)] = x
                start += len(x)
            out.flush()
            del out
        self.sweep(k)

    def sweep(self, k: int) -> None:
        """Removes the shards of a finished E-step."""
        folder = self._in(f"shards_{k:02d}")
        for file in folder.glob("*"):
            file.unlink()
        if folder.is_dir():
            folder.rmdir()

    def _reconstructions(self, k: int) -> Path:
        return self._in(f"reconstructions_{k:02d}.npy")

    def reconstructions(self, k: int) -> tuple[Tensor, dict[str, Any]] | None:
        """Reconstructions [N, C, H, W] of E-step k, left on disk until they are read, and what is known of the step."""
        if self.path is None:
            return (self.memory[k][0], self.about[k]) if k in self.about else None
        file = self._reconstructions(k)
        if not file.is_file():
            return None
        # Copy-on-write: what a caller changes is his own.
        x = torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))
        return x, json.loads((self.path / f"e_step_{k:02d}.json").read_text())

r"""A run of EM on disk: every stage in a whole file, so that the same command goes on wherever it was stopped."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emlib.em.identity import completed, settings_in
from emlib.em.joined import CHECKSUM, checksum_of, read_joined, read_shard, write_joined
from emlib.runtime.distributed import as_the_first, ranks, wait_for_all
from emlib.runtime.files import atomic_file, json_text, sealed, write_json
from emlib.runtime.locks import FolderInUse, Hold
from emlib.runtime.tensors import read_notes, usable, write_tensors
from emlib.unet import UNet, load_unet, save_unet

KEPT = (
    "prior_*.safetensors",
    "training_*.safetensors",
    "reconstructions_*.npy",
    "e_step_*.json",
    "shards_*/*.safetensors",
    "samples/*.safetensors",
    "repaired/*.safetensors",
)
"""Files of a run's stages, and of what ``evaluate`` and ``restore`` draw beside them."""


@dataclass
class RunFolder:
    """Where the stages of a run are kept; with ``path`` None they are kept in memory, for one process alone.

    Several processes may share a folder: each saves its own shards, the first one all the rest.
    """

    path: Path | None
    memory: dict[int, list[Tensor]] = field(default_factory=dict)
    about: dict[int, dict[str, Any]] = field(default_factory=dict)
    held: Hold | None = field(default=None, repr=False, compare=False)
    claimed: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    def _in(self, name: str) -> Path:
        """A file in the folder; nobody asks for one where the stages are in memory."""
        assert self.path is not None, "a run in memory has no files"
        return self.path / name

    def hold(self) -> None:
        """Keeps other runs out of the folder for as long as this object lives; makes the folder.

        Raises:
            FolderInUse: if another process works in it; all processes of this run say so.
        """
        if self.path is None:
            return
        busy: FolderInUse | None = None
        if ranks().first:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self.held = Hold(self.path)
            except FolderInUse as error:
                busy = error
        if as_the_first(float(busy is not None)):
            raise busy or FolderInUse(self.path, "another run")

    @property
    def mine(self) -> bool:
        """Whether no later run of this process has taken the folder over."""
        return self.held is None or self.held.mine

    def _check_held(self) -> None:
        """Before anything is written: a later run of this process may have taken the folder over."""
        if self.held is not None:
            self.held.check()

    def claim(self, settings: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Makes the folder this run's own, and clears away what a killed run left half done.

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
        self.claimed = settings
        self.refuse_others({**dict.fromkeys(self.settings()), **settings}, free)
        wait_for_all()  # all have read before the first one writes
        if ranks().first:
            write_json(self.path / "settings.json", sealed(settings))
            self._clear_away()
        wait_for_all()  # and nobody writes shards while it clears away

    def _clear_away(self) -> None:
        """What a kill left: between joining and sweeping, between a prior and its snapshot's end, amid a file."""
        for k in self._numbered("reconstructions_*.npy"):
            self.sweep(k)
        for k in self.finished():
            self._snapshot(k).unlink(missing_ok=True)
        # of a folder that is not held, as that of a table, another process may be writing a file
        for kind in ("*.part", "shards_*/*.part") if self.held else ():
            for half in self._in("").glob(kind):
                half.unlink(missing_ok=True)

    def settings(self) -> dict[str, Any]:
        """Settings of the run that the folder holds (:func:`emlib.em.identity.settings_in`); empty if it holds none."""
        return settings_in(self._in("settings.json"), [self._prior(k) for k in reversed(self.finished())])

    def refuse_others(self, settings: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Refuses a folder whose run has other values of these settings, which need not be all.

        Raises:
            ValueError: naming both.
        """
        settings = json.loads(json.dumps(settings))
        self._check_kinds()
        if not (found := self.settings()):
            return
        found = completed(found, settings)
        if keys := [k for k in settings if found.get(k) != settings[k] and k not in free]:
            there, here = ({k: s.get(k) for k in keys} for s in (found, settings))
            raise ValueError(
                f"{self.path} holds a run with {there}, but this one has {here}; name another folder or delete it "
                "(settings.json in it says so)"
            )

    def _check_kinds(self) -> None:
        """Refuses whatever stands where a run keeps a file and is none: hours later nothing could be written there."""
        for pattern in KEPT:
            if other := [place for place in self._in("").glob(pattern) if not place.is_file()]:
                raise ValueError(f"{other[0]} is no file, where a run keeps one; move it away or name another folder")

    def check_whole(self) -> None:
        """Reads all that a run goes on from, one file at a time, and holds each against its checksum.

        Snapshots and shards are left out: damaged ones are made again.

        Raises:
            ValueError: naming the first damaged file, with the remedy.
        """
        if self.path is None:
            return
        for k in self.finished():
            self.prior(k)
        for k in self._numbered("reconstructions_*.npy"):
            self.reconstructions(k)

    # ---- priors ----

    def finished(self) -> list[int]:
        """Iterations whose network is there, in order."""
        return self._numbered("prior_*.safetensors")

    def _numbered(self, pattern: str) -> list[int]:
        """Iterations that have a file of this kind, in order."""
        numbers = (file.stem.split("_")[1] for file in self._in("").glob(pattern))
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _prior(self, k: int) -> Path:
        return self._in(f"prior_{k:02d}.safetensors")

    def prior(self, k: int) -> UNet | None:
        """The network after iteration k, if it is there.

        Raises:
            ValueError: if its file is damaged, with the remedy.
        """
        if self.path is None or not self._prior(k).is_file():
            return None
        model = load_unet(self._prior(k), "delete it, and the same command trains it again")
        return model.to(memory_format=torch.channels_last).requires_grad_(False)

    def ended(self, k: int) -> int | None:
        """Updates of the prior that is there, if they are fewer than the settings say (:data:`emlib.em.events.ENOUGH`).

        Raises:
            ValueError: if they are no number.
        """
        if self.path is None or not self._prior(k).is_file():
            return None
        said = read_notes(self._prior(k)).get("updates")
        if said is not None and not said.isdecimal():
            raise ValueError(f"{self._prior(k)} says {said!r:.80} of its updates; delete it, and it is trained again")
        return None if said is None else int(said)

    def save_prior(self, k: int, model: UNet, ended: int | None = None) -> None:
        """Keeps the network after iteration k; the snapshot of its training is not needed any more.

        ``ended``: its updates, where they are fewer than the settings say.
        """
        if self.path and ranks().first:
            self._check_held()
            fewer = {} if ended is None else {"updates": str(ended)}
            save_unet(model, self._prior(k), iteration=str(k), settings=json_text(self.claimed), **fewer)
            self._snapshot(k).unlink(missing_ok=True)

    def _snapshot(self, k: int) -> Path:
        return self._in(f"training_{k:02d}.safetensors")

    def snapshot(self, k: int, check: Callable[[dict[str, Tensor]], None]) -> dict[str, Tensor] | None:
        """Where the training of iteration k was last kept, if it is not done yet.

        A damaged one is not used, nor one that ``check`` refuses by raising ValueError: that training begins anew.
        """
        again = "so this training begins anew"
        if self.path is None or not (state := usable(self._snapshot(k), again)):
            return None
        try:
            check(state)
        except ValueError as error:
            warnings.warn(f"{self._snapshot(k)} is not used: {error}, {again}", stacklevel=2)
            return None
        return state

    def save_snapshot(self, k: int, state: dict[str, Tensor]) -> None:
        """Keeps a training halfway."""
        if self.path and ranks().first:
            self._check_held()
            write_tensors(self._snapshot(k), state)

    # ---- reconstructions ----

    def _shard(self, k: int, i: int) -> Path:
        return self._in(f"shards_{k:02d}") / f"{i:05d}.safetensors"

    def has_shard(self, k: int, i: int, pictures: int) -> bool:
        """Whether shard i of E-step k, of so many pictures, is done; never in memory, where nothing is left.

        A damaged one is not, nor another's: it is removed, to be drawn again.
        """
        file = self._shard(k, i) if self.path else None
        if file is None or not file.is_file():
            return False
        try:
            if (found := len(read_shard(file))) != pictures:
                raise ValueError(f"{file} holds {found} pictures, not {pictures}, so they are drawn again")
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
            file.unlink(missing_ok=True)
            return False
        return True

    def save_shard(self, k: int, i: int, x: Tensor) -> None:
        """Keeps the reconstructions of one shard."""
        if self.path is None:
            self.memory.setdefault(k, []).append(x)
            return
        self._check_held()
        write_tensors(self._shard(k, i), {"x": x})

    def join_shards(self, k: int, count: int, pictures: int, about: dict[str, Any]) -> None:
        """Makes one file of all shards of E-step k, one after another, and removes them.

        Raises:
            ValueError: if the shards do not hold so many pictures.
        """
        if self.path is None:
            self.memory, self.about = {k: [torch.cat(self.memory[k])]}, {k: about}
            return
        self._check_held()
        parts = (read_shard(self._shard(k, i)) for i in range(count))
        with atomic_file(self._reconstructions(k)) as part:
            write_joined(part, parts, pictures)
            write_json(self._about(k), {**about, CHECKSUM: checksum_of(part, about)})
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

    def _about(self, k: int) -> Path:
        return self._in(f"e_step_{k:02d}.json")

    def reconstructions(self, k: int) -> tuple[Tensor, dict[str, Any]] | None:
        """Reconstructions [N, C, H, W] of E-step k, left on disk until they are read, and what is known of the step.

        Raises:
            ValueError: if they are damaged, with the remedy.
        """
        if self.path is None:
            return (self.memory[k][0], self.about[k]) if k in self.about else None
        file = self._reconstructions(k)
        if not file.is_file():
            return None
        remedy = f"delete {file} and {self._about(k).name}, and the same command draws them again"
        try:
            return read_joined(file, self._about(k))
        except ValueError as error:
            raise ValueError(f"the reconstructions of E-step {k} are damaged: {error}; {remedy}") from None

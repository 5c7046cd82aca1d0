r"""Trained networks from elsewhere, and ours for others: diffusers' folders, on disk or at the Hugging Face hub.

So DPS with a clean prior needs no training: ``load_pretrained("google/ddpm-cifar10-32")`` is the network that
EMDiffusion takes for its upper bound (appendix A).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emlib.hub.card import model_card
from emlib.hub.diffusers import check_schedule, from_sizes, renamed, to_sizes
from emlib.hub.reach import answers
from emlib.runtime.files import atomic_folder, read_json, write_json
from emlib.unet import UNet, load_unet

CONFIG, WEIGHTS, PICKLED = "config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
"""Names that diffusers gives the files of a network."""


class Find(Protocol):
    """Finds the files of a network, now on this machine."""

    def __call__(self, *names: str, needed: bool = True) -> Path | None:
        """The first of these files that there is, the preferred first; none only where none is needed."""


def load_pretrained(name: str | Path) -> UNet:
    """A trained network, ready to draw with.

    Args:
        name: a file that :func:`emlib.unet.save_unet` wrote; or a folder as diffusers' ``UNet2DModel`` or
            ``DDPMPipeline`` writes it; or the name of such a folder at the Hugging Face hub, OWNER/NAME, from where
            only what is needed is fetched, once.

    Raises:
        FileNotFoundError: if it is none of these, lacks a file or cannot be fetched.
        ValueError: if our U-Net cannot be like that network or it has another noise schedule, naming what differs.
    """
    path = Path(name)
    if path.is_file() or path.suffix == ".safetensors":
        return load_unet(path)
    if path.is_dir():
        return _load(_in_folder(path))
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(name)) or path.parent.is_dir():
        raise FileNotFoundError(
            f"no file or folder at {name}; check the path, or give a name at the Hugging Face hub such as "
            "google/ddpm-cifar10-32"
        )
    return _load(_at_hub(str(name)))


def _load(find: Find) -> UNet:
    """Refuses what does not suit us before the weights are touched."""
    # a network alone, or a flat pipeline like google/ddpm-cifar10-32; else a pipeline of subfolders
    inside, beside = ("", "") if find(CONFIG, needed=False) else ("unet/", "scheduler/")
    config = _found(find(f"{inside}{CONFIG}"))
    if scheduler := find(f"{beside}scheduler_config.json", needed=False):
        check_schedule(read_json(scheduler), str(scheduler))
    with torch.device("meta"):
        model = UNet(to_sizes(read_json(config), str(config)))
    file = _found(find(f"{inside}{WEIGHTS}", f"{inside}{PICKLED}"))
    state = _tensors(file)
    if odd := [name for name, x in state.items() if not x.is_floating_point()]:
        raise ValueError(f"{file} holds {state[odd[0]].dtype} as {odd[0]}, which are no weights; take another file")
    try:
        model.load_state_dict(renamed(state), assign=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{file} does not hold the network that {config} describes: {why[:500]}") from None
    return model.to(memory_format=torch.channels_last).eval()


def _found(path: Path | None) -> Path:
    """A file that was needed: :class:`Find` raises where it is not there."""
    assert path is not None
    return path


def _in_folder(folder: Path) -> Find:
    def find(*names: str, needed: bool = True) -> Path | None:
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if needed and not found:
            raise FileNotFoundError(
                f"{folder} holds no {' or '.join(names)}; name a folder that diffusers' save_pretrained wrote, with "
                f"{CONFIG} and the weights in it or in its subfolder unet"
            )
        return found

    return find


def _at_hub(repo: str) -> Find:
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise FileNotFoundError(
            f"no file or folder at {repo}; to fetch it from the Hugging Face hub, install huggingface_hub (it comes "
            f"with diffusers), or name a folder with its {CONFIG} and {WEIGHTS}"
        ) from None

    reachable = not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT)

    def find(*names: str, needed: bool = True) -> Path | None:
        reached = True
        for name in names:
            try:
                with _offline(not reachable):  # its client would ask again and again, for most of a minute
                    return Path(hf_hub_download(repo, name))
            except LocalEntryNotFoundError:  # neither fetched before nor to be fetched now
                reached = False
            except EntryNotFoundError:
                continue
            except OSError as error:  # no such repository, or not for everyone
                why = str(error).strip().splitlines()[0]
                raise FileNotFoundError(
                    f"{repo} cannot be had from the Hugging Face hub ({why}); check the name, or log in there if it is "
                    "not open to all"
                ) from None
        if needed and reached:
            raise FileNotFoundError(f"{repo} at the Hugging Face hub holds no {' or '.join(names)}; name another one")
        if needed:
            raise FileNotFoundError(
                f"no file or folder at {repo}, and the Hugging Face hub cannot be reached; with a network, "
                f"`hf download {repo} --local-dir FOLDER` makes a folder that can be copied here and named instead"
            )
        return None

    return find


@contextlib.contextmanager
def _offline(really: bool) -> Iterator[None]:
    """Has the hub's client look at what it has fetched before and nothing else."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or really
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or a pickled file; of the latter nothing but tensors is read."""
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is no safetensors file ({error}); fetch it again") from None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file PyTorch raises nearly everything
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{file} is damaged or holds more than weights, which could be code ({why}); take a .safetensors file"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError(f"{file} holds no weights by name; take a .safetensors file")
    return state


def save_pretrained(
    model: UNet,
    folder: str | Path,
    notes: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network as diffusers' ``UNet2DModel.from_pretrained`` reads it, with a model card; whole or not at all.

    Args:
        model: the network; it must not fold pixels (``patch`` 1).
        folder: folder to make; it must not be there yet, or be empty.
        notes: words about it for the card, such as those that :func:`emlib.unet.save_unet` keeps; its "size" is the
            height and width of the pictures, which diffusers' pipelines draw.
        record: a recorded run for the card (:func:`emlib.runs.record.read_result`): its command, settings and numbers.

    Raises:
        ValueError: if the network folds pixels, or the folder has something in it.
    """
    notes = dict(notes or {})
    config = from_sizes(model.cfg, int(notes["size"]) if "size" in notes else None)
    with atomic_folder(folder) as part:
        state = {key: x.detach().contiguous().cpu() for key, x in model.state_dict().items()}
        save_file(state, part / WEIGHTS, metadata={"format": "pt"})
        write_json(part / CONFIG, config)
        (part / "README.md").write_text(model_card(model, Path(folder).name, notes, record), encoding="utf-8")

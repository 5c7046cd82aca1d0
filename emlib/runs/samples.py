r"""Many pictures from a prior, in shards on disk, and how far they are from real ones: ``python -m emlib evaluate``.

A picture's noise belongs to its number, so it is the same whatever the batch, the number of processes and the
interruptions; shards are kept as bytes, 150 MB for 50,000 pictures of CIFAR-10's size.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from emlib.data.datasets import Split
from emlib.data.pixels import from_pixels, to_pixels
from emlib.diffusion import Eps, draw
from emlib.posterior import BLOCK
from emlib.runtime.distributed import ranks, wait_for_all
from emlib.runtime.files import atomic_file, is_taken
from emlib.runtime.tensors import load_tensors, usable, write_tensors
from emlib.schedule import Schedule
from emlib.unet import UNet

SHARD = 256
"""Pictures in a file, drawn by one process; a multiple of BLOCK, so that batches of a shard are too."""


REMEDY = "delete it, and the same command draws it again"
"""What to do about a damaged shard."""


SHOWN = 100
"""Pictures of the grid: the first ones, so that nobody chose them."""


def picture_shape(prior: UNet, data: Split) -> tuple[int, int, int]:
    """(C, H, W) of the real pictures.

    Raises:
        ValueError: if the network does not take such pictures.
    """
    _, c, h, w = data.corrupted.shape
    cfg = prior.cfg
    if c != cfg.in_channels or h % cfg.stride or w % cfg.stride:
        raise ValueError(
            f"{data.name} has {c} channel(s) of {h} x {w} pixels, but the prior takes {cfg.in_channels} channel(s) "
            f"and sides in multiples of {cfg.stride}; name the data that it was trained on"
        )
    return c, h, w


def weights_fingerprint(model: nn.Module) -> str:
    """Sixteen letters that differ for other weights."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def draw_shards(
    prior: Eps,
    schedule: Schedule,
    shape: tuple[int, int, int],
    count: int,
    steps: int,
    folder: Path,
    seed: int = 0,
    batch: int = 256,
    eta: float = 0.0,
    device: str = "cpu",
) -> Iterator[tuple[int, int]]:
    """Draws what is missing of ``count`` pictures, this process its share of the shards; see :func:`emlib.draw`.

    Batches are filled up to a multiple of :data:`emlib.posterior.BLOCK`, since other sizes round otherwise.

    Yields:
        (pictures done, pictures to do) of this process, once they are on disk where a shard is full.

    Raises:
        ValueError: if the prior's pictures are no numbers.
    """
    batch = -(-batch // BLOCK) * BLOCK
    missing = [first for first in range(0, count, SHARD) if _held(folder, first, shape) < min(SHARD, count - first)]
    wait_for_all()  # all have looked before any draws, so that their lists agree
    # the last shard ends with a whole block too
    mine = {missing[i]: min(SHARD, -(-(count - missing[i]) // BLOCK) * BLOCK) for i in ranks().share(len(missing))}
    done, total = 0, sum(mine.values())
    yield done, total
    for first, size in mine.items():
        drawn: list[Tensor] = []
        for x in draw(prior, schedule, shape, size, steps, seed, batch, eta, device, first):
            drawn.append(to_pixels(x).cpu())
            done += len(x)
            if sum(map(len, drawn)) == size:  # kept before anyone hears of it
                write_tensors(_shard(folder, first), {"x": torch.cat(drawn)})
            yield done, total


def read_shards(folder: Path, count: int) -> Iterator[Tensor]:
    """The first ``count`` pictures that :func:`draw_shards` has drawn, as bytes [b, C, H, W], a shard at a time."""
    for first in range(0, count, SHARD):
        yield load_tensors(_shard(folder, first), REMEDY)[0]["x"][: min(SHARD, count - first)]


def _shard(folder: Path, first: int) -> Path:
    return folder / "samples" / f"{first:06d}.safetensors"


def _held(folder: Path, first: int, shape: tuple[int, int, int]) -> int:
    """How many pictures the shard that begins with ``first`` has, 0 if it is not there, damaged or another's.

    Raises:
        ValueError: if something else stands in its place.
    """
    path = _shard(folder, first)
    if is_taken(path):
        raise ValueError(f"{path} is no file, where samples are kept; move it away or name another --folder")
    again = "so it is drawn again"
    if not (held := usable(path, again)):
        return 0
    x = held.get("x", torch.empty(0))
    if x.dtype != torch.uint8 or tuple(x.shape[1:]) != shape or len(x) > SHARD:
        warnings.warn(f"{path} holds no samples of {shape} in bytes, {SHARD} at most, {again}", stacklevel=2)
        return 0
    return len(x)


def save_tile(batches: Iterator[Tensor], path: Path) -> None:
    """Writes pictures, bytes [b, C, H, W], as one PNG with ten in a row."""
    from emlib.viz.figures import MARK, tile

    sheet, about = tile(from_pixels(torch.cat(list(batches))), 10), PngInfo()
    about.add_text("Software", MARK)
    with atomic_file(path) as part:
        Image.fromarray(sheet).save(part, format="PNG", pnginfo=about)

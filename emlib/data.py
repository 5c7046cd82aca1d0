"""Pictures: the embedded set, CIFAR-10, or a folder of the reader's own.

All loaders give float32 [N, C, H, W] on [-1, 1], cut into the same three parts: a few clean pictures,
many that will only be seen broken, and some held out for the final check.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FASHION_SHA256 = "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
"""Fingerprint of the embedded file, as it is in the repository."""

SPLIT_SEED = 2024
CLEAN, HELD_OUT = 500, 1000
"""Sizes of the clean and the held-out part; everything else will be seen broken."""


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of one data set, each [N, C, H, W] on [-1, 1].

    Attributes:
        name: of the data set, for results.
        fingerprint: of the file or files it came from, for results.
        clean: the few clean pictures that start EM (EMDiffusion takes 50).
        corrupted: originals of the pictures that EM sees only through an operator.
        held_out: pictures that nothing is trained on.
    """

    name: str
    fingerprint: str
    clean: Tensor
    corrupted: Tensor
    held_out: Tensor


def data_dir() -> Path:
    """Folder of the pictures and weights that come with the project; ``EMLIB_DATA`` names another.

    Raises:
        FileNotFoundError: if there is none.
    """
    here = Path(__file__).resolve().parent
    places = [Path(os.environ["EMLIB_DATA"])] if "EMLIB_DATA" in os.environ else [here / "_data", here.parent / "data"]
    for place in places:
        if (place / "fashion-mnist").is_dir():
            return place
    raise FileNotFoundError(
        f"the project's data is not in {' or '.join(map(str, places))}; set EMLIB_DATA to the repository's data folder"
    )


def split(images: Tensor, name: str, fingerprint: str) -> Split:
    """Cuts a data set into its three parts, by a fixed shuffle.

    Small sets give a tenth to the clean and a tenth to the held-out part, at most 500 and 1,000.

    Raises:
        ValueError: if there are fewer than ten pictures.
    """
    n = len(images)
    if n < 10:
        raise ValueError(f"{name} has {n} pictures; at least 10 are needed to split them in three")
    clean, held_out = min(CLEAN, n // 10), min(HELD_OUT, n // 10)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))
    parts = order.split([clean, n - clean - held_out, held_out])
    return Split(name, fingerprint, *(images[part] for part in parts))


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Bytes [N, H, W] or [N, H, W, C] -> float32 [N, C, H, W] on [-1, 1]."""
    x = torch.from_numpy(np.array(pixels, dtype=np.float32))
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
    return x / 127.5 - 1


def to_pixels(x: Tensor) -> Tensor:
    """Pictures [N, C, H, W] on [-1, 1] -> the nearest bytes, same shape; what lies outside is clipped."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte()


def load_embedded() -> Split:
    """Fashion-MNIST's 10,000 test pictures, 28 x 28, grey; they come with the project (MIT licence).

    Raises:
        ValueError: if the file is not the one that the book was written with.
    """
    path = data_dir() / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != FASHION_SHA256:
        raise ValueError(f"{path} has fingerprint {found[:12]}, not {FASHION_SHA256[:12]}; restore it with git")
    pixels = np.frombuffer(gzip.decompress(raw), dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    return split(from_bytes(pixels), "Fashion-MNIST (10,000 test pictures)", found[:16])


def load_cifar10(root: str | Path) -> Split:
    """CIFAR-10's 50,000 training pictures, 32 x 32, colour, through torchvision (downloaded where missing).

    Args:
        root: folder of torchvision data sets.
    """
    from torchvision.datasets import CIFAR10

    root = Path(root)
    pixels = CIFAR10(root, train=True, download=not (root / "cifar-10-batches-py").is_dir()).data
    return split(from_bytes(pixels), "CIFAR-10", hashlib.sha256(pixels.tobytes()).hexdigest()[:16])


def load_folder(root: str | Path, size: int, channels: int = 3) -> Split:
    """Every PNG, JPEG or WebP below a folder, cut to its central square and scaled to ``size``.

    Args:
        root: the folder; subfolders count.
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        FileNotFoundError: if there is no such folder or no picture in it.
        ValueError: if ``channels`` is neither 1 nor 3.
    """
    from PIL import Image, ImageOps

    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, got channels={channels}")
    root = Path(root)
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    if not files:
        raise FileNotFoundError(f"no PNG, JPEG or WebP pictures in {root}")
    digest, pixels = hashlib.sha256(), []
    for path in files:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (size, size))
        pixels.append(np.asarray(fitted))
        digest.update(pixels[-1].tobytes())
    return split(from_bytes(np.stack(pixels)), f"folder {root.name}", digest.hexdigest()[:16])


def fitted(images: Tensor, size: int, channels: int) -> Tensor:
    """Pictures of another set as a network takes them: scaled to ``size``, made grey or given three equal channels.

    Args:
        images: [N, 1 or 3, H, W] on [-1, 1].
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.
    """
    if channels == 1 and images.shape[1] == 3:
        # luma = 0.299 R + 0.587 G + 0.114 B, as Pillow and television have it
        images = torch.einsum("nchw,c->nhw", images, images.new_tensor([0.299, 0.587, 0.114]))[:, None]
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return images.expand(-1, channels, -1, -1).contiguous()


def load(name: str, size: int = 32, channels: int = 3) -> Split:
    """A data set by its name: "embedded", "cifar10" or a folder's path.

    ``EMLIB_DATASETS`` names the folder where torchvision keeps CIFAR-10 (default: ~/.cache/emlib).

    Raises:
        ValueError: if there is neither such a data set nor such a folder.
    """
    if name == "embedded":
        return load_embedded()
    if name == "cifar10":
        return load_cifar10(os.environ.get("EMLIB_DATASETS", Path.home() / ".cache" / "emlib"))
    if Path(name).is_dir():
        return load_folder(name, size, channels)
    raise ValueError(f"unknown data {name!r}; take embedded, cifar10 or the path of a folder of pictures")

"""Pictures: the embedded set, CIFAR-10, CelebA, ORL's faces, or a folder of the reader's own.

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
from torch import Tensor

from emlib.data.decode import datasets_dir, decoded, pictures_below
from emlib.data.faces import PEOPLE, by_people, face_pixels
from emlib.data.pixels import _rows
from emlib.data.sources import celeba_files, cifar10_pixels

FASHION_SHA256 = "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
"""Fingerprint of the embedded file, as it is in the repository."""


SPLIT_SEED = 2024


CLEAN, HELD_OUT = 500, 1000
"""Sizes of the clean and the held-out part; everything else will be seen broken."""

FEWEST = 10
"""Pictures that a set has at least, so that each part has one."""


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of one data set, each [N, C, H, W] on [-1, 1].

    They take 4 C H W bytes per picture: 0.6 GB for CIFAR-10, 1.5 GB for 30,000 pictures of CelebA at 64 pixels.

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
    here = Path(__file__).resolve().parent.parent  # of the package
    places = [Path(os.environ["EMLIB_DATA"])] if "EMLIB_DATA" in os.environ else [here / "_data", here.parent / "data"]
    for place in places:
        if (place / "fashion-mnist").is_dir():
            return place
    raise FileNotFoundError(
        f"the project's data is not in {' or '.join(map(str, places))}; set EMLIB_DATA to the repository's data folder"
    )


def part_sizes(count: int) -> list[int]:
    """Pictures of the clean, the corrupted and the held-out part of a set of so many."""
    clean, held_out = min(CLEAN, count // 10), min(HELD_OUT, count // 10)
    return [clean, count - clean - held_out, held_out]


def split(pixels: np.ndarray, name: str, fingerprint: str) -> Split:
    """Cuts a data set into its three parts, by a fixed shuffle.

    Small sets give a tenth to the clean and a tenth to the held-out part, at most 500 and 1,000.

    Args:
        pixels: bytes, or numbers of 16 bits, [N, H, W] or [N, H, W, C], perhaps mapped from a file.
        name: of the data set.
        fingerprint: of the data set.

    Raises:
        ValueError: if there are fewer than ten pictures.
    """
    n = len(pixels)
    if n < FEWEST:
        raise ValueError(f"{name} has {n} pictures; at least {FEWEST} are needed to split them in three")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))
    parts = order.split(part_sizes(n))
    return Split(name, fingerprint, *(_rows(pixels, part.numpy()) for part in parts))


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
    return split(pixels, "Fashion-MNIST (10,000 test pictures)", found[:16])


def load_cifar10(root: str | Path) -> Split:
    """CIFAR-10's 50,000 training pictures, 32 x 32, colour, through torchvision (downloaded where missing).

    Args:
        root: folder of torchvision's data sets.

    Raises:
        FileNotFoundError: if they are missing and cannot be fetched.
    """
    pixels = cifar10_pixels(Path(root))
    return split(pixels, "CIFAR-10", hashlib.sha256(pixels.tobytes()).hexdigest()[:16])


def load_celeba(root: str | Path, size: int = 64, channels: int = 3) -> Split:
    """CelebA, 30,000 of its aligned training pictures, from files that the reader has put there; never downloaded.

    The paper names 64 pixels but not the cut, and its authors' code squeezes whatever it is given into a square. Here
    it is the central square of 178 x 178 pixels, which distorts nothing and keeps the whole face, scaled down with
    antialiasing. The fingerprint is that of the decoded pictures.

    Args:
        root: folder of torchvision's data sets, which holds ``celeba``.
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        FileNotFoundError: if files are missing; it says which, where to get them, and on what terms.
        ValueError: if a file is not what it should be, or ``channels`` is neither 1 nor 3.
    """
    folder, names = celeba_files(Path(root))
    pixels, fingerprint = decoded(folder, names, size, channels)
    return split(pixels, f"CelebA ({len(names):,} training pictures)", fingerprint)


def load_faces(root: str | Path, size: int = 64, channels: int = 1) -> Split:
    """400 photographs of 40 people (Samaria & Harter 1994), from files that the reader has put there.

    Clean are 50 pictures of five people, held out 80 of eight; nobody is in two parts.

    Args:
        root: folder of the data sets, which holds ``orl-faces``.
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        FileNotFoundError: if files are missing; it says which, and how to get them.
        ValueError: if a file is no picture, or ``channels`` is neither 1 nor 3.
    """
    pixels, fingerprint = face_pixels(Path(root), size, channels)
    people = torch.randperm(PEOPLE, generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    parts = (_rows(pixels, np.array(rows)) for rows in by_people(people))
    return Split(f"ORL faces ({len(pixels)} pictures of {PEOPLE} people)", fingerprint, *parts)


def load_folder(root: str | Path, size: int, channels: int = 3) -> Split:
    """Every PNG, JPEG or WebP below a folder, upright, cut to its central square and scaled to ``size``.

    A warning names what looks like a picture and is left out: see :func:`emlib.data.pictures_below`.

    Args:
        root: the folder; subfolders count.
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        FileNotFoundError: if there is no such folder or no picture in it.
        ValueError: if ``channels`` is neither 1 nor 3, or a file is no picture, or one with transparent pixels.
    """
    root = Path(root)
    if not (names := pictures_below(root)):
        raise FileNotFoundError(f"no PNG, JPEG or WebP pictures in {root}")
    pixels, fingerprint = decoded(root, names, size, channels)
    return split(pixels, f"folder {root.name}", fingerprint)


def load(name: str, size: int | None = None, channels: int = 3) -> Split:
    """A data set by its name: "embedded", "cifar10", "celeba", "faces" or a folder's path.

    ``EMLIB_DATASETS`` names the folder where torchvision's data sets are (default: ~/.cache/emlib).

    Args:
        name: the name.
        size: height and width wanted, in pixels, of CelebA and faces (64 if None) or a folder (32); the others have
            their own.
        channels: 1 for grey, 3 for colour, of CelebA, faces or a folder.

    Raises:
        ValueError: if there is neither such a data set nor such a folder.
        FileNotFoundError: if its files are missing.
    """
    if name == "embedded":
        return load_embedded()
    if name == "cifar10":
        return load_cifar10(datasets_dir())
    if name == "celeba":
        return load_celeba(datasets_dir(), 64 if size is None else size, channels)
    if name == "faces":
        return load_faces(datasets_dir(), 64 if size is None else size, channels)
    if Path(name).is_dir():
        return load_folder(name, 32 if size is None else size, channels)
    names = "embedded, cifar10, celeba, faces or the path of a folder of pictures"
    raise ValueError(f"unknown data {name!r}; take {names}")

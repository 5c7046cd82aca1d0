"""CIFAR-10 and CelebA in their original files, as torchvision keeps them; what is missing is said, with the remedy."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path

import numpy as np

from emlib.runtime.distributed import first_before_others, ranks

CELEBA_PICTURES = 30_000
"""How many of CelebA's 162,770 training pictures are taken, as many as the paper has (EMDiffusion, section 5.1)."""


CELEBA_HELP = (
    "This library never downloads CelebA: it shows people's faces, is for non-commercial research only, and its host "
    "allows few downloads a day. If you agree to the terms on mmlab.ie.cuhk.edu.hk/projects/CelebA.html, get "
    "img_align_celeba.zip and list_eval_partition.txt there, and put the list and the unpacked pictures into {folder} "
    "(list_eval_partition.txt, img_align_celeba/000001.jpg, ...). EMLIB_DATASETS names the folder that holds celeba/"
)


CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
"""What torchvision unpacks into ``cifar-10-batches-py``; it checks their sums when it reads them."""


def cifar10_absent(root: Path) -> list[Path]:
    """Files of CIFAR-10 that are not there, or empty; nothing is opened."""
    files = [root / "cifar-10-batches-py" / name for name in CIFAR10_FILES]
    return [file for file in files if not (file.is_file() and file.stat().st_size)]


def cifar10_pixels(root: Path) -> np.ndarray:
    """CIFAR-10's 50,000 training pictures, uint8 [N, 32, 32, 3], through torchvision, which checks every file's sum.

    Files that are missing or broken are fetched, by one process for all.

    Args:
        root: folder of torchvision's data sets.

    Raises:
        FileNotFoundError: if they are not there and cannot be fetched.
    """
    from torchvision.datasets import CIFAR10

    with first_before_others():
        try:
            return CIFAR10(root, train=True, download=ranks().first).data
        except (OSError, RuntimeError, HTTPException) as error:
            raise FileNotFoundError(
                f"CIFAR-10 is not in {root} and could not be fetched ({error}). With a network, try again; without, "
                f"put {CIFAR10.filename} (170 MB, from {CIFAR10.url}) into that folder, or let EMLIB_DATASETS name the "
                f"folder that holds {CIFAR10.base_folder}"
            ) from error


def celeba_files(root: Path) -> tuple[Path, list[str]]:
    """The first 30,000 pictures of CelebA's official training part: their folder, and their names in it.

    Of torchvision's layout only the aligned pictures and the list of parts are asked for: its own loader wants four
    more files, of attributes that nothing here reads.

    Args:
        root: folder of torchvision's data sets, which holds ``celeba``.

    Raises:
        FileNotFoundError: if something is missing; it says what, where to get it, and on what terms.
        ValueError: if the list of parts is not the official one.
    """
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import check_integrity

    folder = root / CelebA.base_folder
    pictures, parts = folder / "img_align_celeba", folder / "list_eval_partition.txt"
    for path in (parts, pictures):
        if not path.exists():
            raise FileNotFoundError(f"CelebA lacks {path}. {CELEBA_HELP.format(folder=folder)}")
    sums = {name: md5 for _, md5, name in CelebA.file_list}
    if not check_integrity(parts, sums[parts.name]):
        raise ValueError(f"{parts} is not CelebA's own: its checksum differs; get it anew")
    rows = (line.split() for line in parts.read_text().splitlines())
    names = [name for name, part in rows if part == "0"][:CELEBA_PICTURES]
    there = set(os.listdir(pictures))
    if absent := [name for name in names if name not in there]:
        raise FileNotFoundError(
            f"CelebA lacks {len(absent):,} of {len(names):,} pictures in {pictures}, {absent[0]} first. "
            + CELEBA_HELP.format(folder=folder)
        )
    return pictures, names

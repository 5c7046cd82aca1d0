"""Pictures: the embedded set, CIFAR-10, CelebA, or a folder of the reader's own."""

from emlib.data.datasets import (
    CLEAN,
    HELD_OUT,
    SPLIT_SEED,
    Split,
    data_dir,
    load,
    load_celeba,
    load_cifar10,
    load_embedded,
    load_folder,
    split,
)
from emlib.data.decode import datasets_dir, pictures_below
from emlib.data.pixels import fitted, from_bytes, from_pixels, to_pixels

__all__ = [
    "CLEAN",
    "HELD_OUT",
    "SPLIT_SEED",
    "Split",
    "data_dir",
    "datasets_dir",
    "fitted",
    "from_bytes",
    "from_pixels",
    "load",
    "load_celeba",
    "load_cifar10",
    "load_embedded",
    "load_folder",
    "pictures_below",
    "split",
    "to_pixels",
]

r"""What AlexNet sees: LPIPS against the truth, and the features of FD-AlexNet between two crowds.

AlexNet's convolutions come with the project, rounded to float16; full precision counts where PyTorch's cache has it.
On a thousand embedded pictures under noise, blur and masks the two differ by at most 1.8e-4 in a picture's LPIPS,
2.3e-5 in its mean and 1.7e-4 of itself in FD-AlexNet, far below what another seed makes of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emlib.data.datasets import data_dir
from emlib.metrics.frechet import frechet_distance
from emlib.metrics.image import check_pair
from emlib.runtime.tensors import read_tensors

ALEXNET_FILE = "alexnet-owt-7be5be79.pth"
"""What torchvision calls its checkpoint, and so PyTorch's cache."""


ALEXNET_NOTE = "alexnet"
"""Key of the note in the project's own file, which says where its weights are from."""


SHAPES = {
    f"{layer}.{kind}": shape if kind == "weight" else shape[:1]
    for layer, shape in (
        (0, (64, 3, 11, 11)),
        (3, (192, 64, 5, 5)),
        (6, (384, 192, 3, 3)),
        (8, (256, 384, 3, 3)),
        (10, (256, 256, 3, 3)),
    )
    for kind in ("weight", "bias")
}
"""Of AlexNet's convolutions, by torchvision's names."""


LEAST = 31
"""Pixels of a side that AlexNet's pools leave something of."""


def alexnet_cached() -> Path:
    """Where torch keeps AlexNet's weights in full precision; ``TORCH_HOME`` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE


def alexnet_path() -> Path:
    """AlexNet's weights: in PyTorch's cache, or else those in float16 that come with the project.

    A file in the cache that is cut, or something else such as the page of a network's gateway, counts as missing, with
    a warning.

    Raises:
        FileNotFoundError: if the cache has none and the project's data is nowhere.
    """
    cached = alexnet_cached()
    if not cached.is_file():
        return data_dir() / "checkpoints" / "alexnet-features.safetensors"
    if not (why := _broken(cached)):
        return cached
    warnings.warn(
        f"{cached} does not hold AlexNet's weights ({why}); those that come with the project, in float16, serve "
        "instead. `python -m emlib weights --alexnet` puts the right ones there",
        stacklevel=2,
    )
    return data_dir() / "checkpoints" / "alexnet-features.safetensors"


def _broken(path: Path) -> str:
    """What is wrong with a file of weights; empty if nothing is."""
    status = path.stat()
    return _looked_into(path, status.st_size, status.st_mtime_ns)


@cache
def _looked_into(path: Path, size: int, changed: int) -> str:
    """Once for each file as it is: whether all numbers are there, in their shapes, and finite."""
    try:
        found = read_features(path)
    except Exception as error:  # of a damaged file PyTorch raises nearly everything
        return " ".join(str(error).split())[:120] or type(error).__name__
    if {name: tuple(x.shape) for name, x in found.items()} != SHAPES:
        return "its tensors are others"
    return "" if all(bool(x.isfinite().all()) for x in found.values()) else "some of its numbers are NaN"


def alexnet_missing() -> str:
    """Why LPIPS and FD-AlexNet cannot be had, with the remedy; empty when they can, as in every whole installation."""
    try:
        path = alexnet_path()
    except FileNotFoundError as error:
        return f"AlexNet's weights are not at {alexnet_cached()}, and {error}"
    if path.is_file() and not (why := _broken(path)):
        return ""
    if path.is_file():
        return f"{path} does not hold AlexNet's weights ({why}): install the project anew, or restore it with git"
    return (
        f"AlexNet's weights are neither at {alexnet_cached()} nor, as they come with the project, at {path}: install "
        "it anew, run `python -m emlib weights --alexnet` once with a network, or set TORCH_HOME to a folder with them"
    )


def alexnet_name() -> str:
    """Tells the features that the two sets of weights give apart where some are kept on disk."""
    return "alexnet" if alexnet_path() == alexnet_cached() else "alexnet-float16"


def read_features(path: Path) -> dict[str, Tensor]:
    """AlexNet's convolutions, float32, from torchvision's checkpoint or the project's; nothing in a file is executed.

    Raises:
        FileNotFoundError: if the file is missing.
    """
    if path.suffix == ".safetensors":
        _, rounded = read_tensors(path, ALEXNET_NOTE)
        return {name: x.float() for name, x in rounded.items()}
    known = torch.load(path, map_location="cpu", weights_only=True)
    return {name.removeprefix("features."): x for name, x in known.items() if name.startswith("features.")}


def fetch_alexnet() -> None:
    """Downloads AlexNet's weights in full precision into PyTorch's cache where it has none.

    Raises:
        FileNotFoundError: if they cannot be had.
    """
    path = alexnet_cached()
    if path.is_file() and not _broken(path):
        return
    from torchvision.models import AlexNet_Weights

    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # whole or not at all, and refused if its fingerprint is another
        torch.hub.download_url_to_file(
            AlexNet_Weights.IMAGENET1K_V1.url, str(path), hash_prefix=path.stem.rsplit("-", 1)[1]
        )
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"AlexNet's weights in full precision could not be fetched ({error}); those that come with the project, "
            "in float16, serve without them"
        ) from None


def _path() -> Path:
    # Asked first, so that the sentence comes with its remedy, and not from inside a package.
    if missing := alexnet_missing():
        raise FileNotFoundError(missing)
    return alexnet_path()


@cache
def _lpips(path: Path) -> nn.Module:
    import lpips

    with warnings.catch_warnings():
        # lpips builds its AlexNet by torchvision arguments that torchvision has renamed; it works all the same.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        # pnet_rand: its own layers from its package, but no download; AlexNet's are put in here.
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = read_features(path)
    for part in net.net.children():  # the features in five slices, under their old numbers
        part.load_state_dict({name: features[name] for name in part.state_dict()})
    return net.eval().requires_grad_(False)


@cache
def _alexnet(path: Path, device: torch.device | str = "cpu") -> nn.Module:
    from torchvision.models import alexnet

    net = alexnet().features
    net.load_state_dict(read_features(path))
    return net.to(device).eval().requires_grad_(False)


def _colour(x: Tensor, size: int | None) -> Tensor:
    """Grey to three channels in float32, the shorter side scaled to ``size`` pixels where given.

    Raises:
        ValueError: if AlexNet has nothing left of so small a picture.
    """
    x = x.float().expand(-1, 3, -1, -1)
    sides = list(x.shape[-2:])
    if size is not None:
        sides = [round(side * size / min(sides)) for side in sides]
    if min(sides) < LEAST:
        raise ValueError(f"AlexNet needs sides of {LEAST} pixels or more, got {sides[0]} x {sides[1]}; take size=64")
    if sides == list(x.shape[-2:]):
        return x
    return F.interpolate(x, size=sides, mode="bilinear", align_corners=False, antialias=True)


@torch.no_grad()
def lpips_distance(x: Tensor, truth: Tensor, size: int | None = 64, batch: int = 250) -> Tensor:
    r"""LPIPS of each picture to its truth, AlexNet version 0.1, [B] (Zhang et al. 2018); 0 is best.

    Args:
        x: pictures, [B, C, H, W] on [-1, 1].
        truth: what they should be, same shape.
        size: pixels that the shorter side is scaled to first, since AlexNet needs at least 31; None for the pictures'
            own.
        batch: pictures at a time.

    Raises:
        ValueError: if the shapes differ, or the pictures are too small.
        FileNotFoundError: if AlexNet's weights are missing.
    """
    check_pair(x, truth)
    net = _lpips(_path())
    pairs = zip(x.split(batch), truth.split(batch), strict=True)
    return torch.cat([net(_colour(a, size), _colour(b, size)).flatten() for a, b in pairs])


@torch.no_grad()
def alexnet_features(x: Tensor, batch: int = 250) -> Tensor:
    r"""256 numbers for each picture, [B, 256]: AlexNet's last convolution averaged over the picture.

    Args:
        x: pictures, [B, C, H, W] on [-1, 1]; the shorter side is scaled to 64 pixels first. On a GPU they are seen
            there, in full float32.
        batch: pictures at a time.

    Raises:
        FileNotFoundError: if AlexNet's weights are missing.
    """
    mean = torch.tensor([0.485, 0.456, 0.406], device=x.device).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=x.device).view(1, 3, 1, 1)

    net = _alexnet(_path(), x.device)

    def parts() -> Iterator[Tensor]:
        for part in x.split(batch):
            seen = ((_colour(part, 64) + 1) / 2 - mean) / std
            yield net(seen).mean(dim=(2, 3))

    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        return torch.cat(list(parts()))


def fd_alexnet(samples: Tensor, real: Tensor) -> float:
    """FD-AlexNet between generated and real pictures, [N, C, H, W] and [M, C, H, W] on [-1, 1]; 0 is best."""
    return frechet_distance(alexnet_features(samples), alexnet_features(real))

r"""FID: the Fréchet distance in the features of the Inception-v3 of 2015 (Heusel et al. 2017), and only in those.

The network comes from ``torch-fidelity`` (the extra ``fid``), which promises the features of the original TensorFlow
graph to rounding. Its peer ``pytorch-fid`` has the same weights, but enlarges pictures by another rule than that graph
and needs a part of SciPy that ends with 1.18; torchmetrics wraps torch-fidelity's network, by default with a third
rule. The weights, 95 MB, are fetched once by ``python -m emlib weights --fid``; nothing is downloaded at other times.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from emlib.data.pixels import to_pixels
from emlib.metrics.frechet import Statistics, distance, statistics

DIGEST = "6726825d"
"""How the SHA-256 of the weights begins; their name has it too, as torch.hub wants."""


NAMES = (f"weights-inception-2015-12-05-{DIGEST}.pth", f"pt_inception-2015-12-05-{DIGEST}.pth")
"""What torch-fidelity and pytorch-fid call the same file."""


FEATURES = 2048


def inception_path() -> Path:
    """Where torch keeps Inception's weights; ``TORCH_HOME`` moves it."""
    places = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in NAMES]
    return next((place for place in places if place.is_file()), places[0])


def inception_missing() -> str:
    """Why FID cannot be had, with the remedy and the alternative; empty when it can."""
    path, instead = inception_path(), "FD-AlexNet (--feature fd-alexnet) is to be had without it"
    if find_spec("torch_fidelity") is None:
        return f"FID needs the package torch-fidelity: run `pip install torch-fidelity`; {instead}"
    if not path.is_file():
        return (
            f"Inception's weights are not at {path}: run `python -m emlib weights --fid` once with a network, "
            f"or set TORCH_HOME to a folder that has them; {instead}"
        )
    status = path.stat()
    if not (found := _sha256(path, status.st_size, status.st_mtime_ns)).startswith(DIGEST):
        return (
            f"{path} does not hold Inception's weights: its SHA-256 begins with {found[:8]}, not {DIGEST}; "
            f"`python -m emlib weights --fid` puts the right ones there; {instead}"
        )
    return ""


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch_inception() -> Path:
    """Downloads Inception's weights where they are missing, and checks them.

    Raises:
        FileNotFoundError: if the package is missing or the weights cannot be had.
    """
    if not inception_missing():
        return inception_path()
    if find_spec("torch_fidelity") is None:
        raise FileNotFoundError(inception_missing())
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = inception_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # whole or not at all, and refused if its fingerprint is another
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=DIGEST)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"Inception's weights could not be fetched ({error}); without them FID is left out, "
            "and FD-AlexNet is to be had"
        ) from None
    return path


@contextmanager
def _data_only() -> Iterator[None]:
    """Inside, ``torch.load`` reads data and runs no code, whatever a package asks of it."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@cache
def _inception(path: Path, device: str) -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with _data_only():
        network = FeatureExtractorInceptionV3("inception-v3-compat", [str(FEATURES)], str(path))
    return network.to(device).eval().requires_grad_(False)


@torch.no_grad()
def inception_features(pixels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    r"""2048 numbers for each picture, [B, 2048] on ``device``: the average after Inception's last block.

    The package enlarges the bytes to 299 pixels by TensorFlow 1's bilinear rule and maps them to (b - 128) / 128.

    Args:
        pixels: uint8 [B, 1 or 3, H, W]; grey is repeated in three channels. Bytes, since the FIDs of the literature
            are those of pictures in files; of pictures on [-1, 1] :func:`emlib.data.pixels.to_pixels` makes them.
        device: where the network works.

    Raises:
        ValueError: if these are no such bytes.
        FileNotFoundError: if the package or the weights are missing.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise ValueError(
            f"Inception takes bytes [B, 1 or 3, H, W], got {pixels.dtype} {tuple(pixels.shape)}; "
            "to_pixels makes them of pictures on [-1, 1]"
        )
    if missing := inception_missing():
        raise FileNotFoundError(missing)
    (features,) = _inception(inception_path(), str(device))(pixels.to(device).expand(-1, 3, -1, -1))
    return features


def fid(samples: Tensor, reference: Statistics, batch: int = 128, device: torch.device | str = "cpu") -> float:
    r"""FID of pictures to a reference set; 0 is best.

    It falls with the number of samples, so that FIDs of different numbers cannot be compared; the literature's are of
    50,000. Quote it with its number and its floor, a FID of real pictures to others.

    Args:
        samples: [N, 1 or 3, H, W] on [-1, 1], more than 2048 of them so that their covariance has full rank.
        reference: of the real pictures' :func:`inception_features`.
        batch: pictures at a time.
        device: where the network works.

    Raises:
        ValueError: if there are too few samples.
        FileNotFoundError: if the package or the weights are missing.
    """
    if len(samples) <= FEATURES:
        raise ValueError(f"{len(samples)} samples are too few for {FEATURES} features; take more than that")
    features = (inception_features(to_pixels(part), device) for part in samples.split(batch))
    return distance(statistics(features), reference)

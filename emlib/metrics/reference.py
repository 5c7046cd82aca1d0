r"""Fréchet distances to a set of real pictures: which can be had, and what is known of the real ones, kept on disk."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from emlib.data.datasets import Split
from emlib.data.decode import datasets_dir
from emlib.data.pixels import from_pixels, to_pixels
from emlib.metrics import alexnet, fid
from emlib.metrics.frechet import Statistics, distance, merged, statistics
from emlib.runtime.tensors import checksum, read_tensors, usable, write_tensors

BATCH = 128
"""Pictures that a network of features sees at a time."""

FEW = 1000
"""Real pictures on a GPU at a time; a multiple of what AlexNet sees at once, so that none is seen otherwise."""

KEPT = 1000
"""Pictures from which on their features are kept on disk; those of fewer take a second."""


@dataclass(frozen=True)
class Feature:
    """A network whose features a Fréchet distance may be taken in.

    Attributes:
        distance: what that distance is called.
        network: says what its statistics are called on disk; other weights or another size, another name.
        size: how many numbers it gives for a picture.
        missing: says why it cannot be had, empty when it can.
        of: bytes [B, C, H, W] and a device -> features [B, size].
    """

    distance: str
    network: Callable[[], str]
    size: int
    missing: Callable[[], str]
    of: Callable[[Tensor, str], Tensor]


FEATURES = {
    "fid": Feature("FID", lambda: "inception-2015-12-05", fid.FEATURES, fid.inception_missing, fid.inception_features),
    "fd-alexnet": Feature(
        "FD-AlexNet",
        lambda: f"{alexnet.alexnet_name()}-64px",
        256,
        lambda: alexnet.alexnet_missing(),
        lambda pixels, device: alexnet.alexnet_features(from_pixels(pixels.to(device))),
    ),
}
"""By the name that the command line gives them."""


def choose_features(wanted: str | None, samples: int, real: int) -> tuple[list[Feature], list[str]]:
    """The features in which ``samples`` pictures can be held against ``real`` ones.

    Args:
        wanted: a name, to have that one or an error; None for all that can be had.

    Returns:
        The features, and for each that is left out a sentence why.

    Raises:
        ValueError: if what is wanted, or everything, is left out.
    """
    chosen, reasons = [], []
    for feature in FEATURES.values() if wanted is None else [FEATURES[wanted]]:
        least = feature.size + 1  # for a covariance of full rank; as many again, for the floor
        few = samples < least or real < 2 * least
        short = f"{feature.distance} takes {least} samples and {2 * least} real pictures, got {samples} and {real}"
        if why := feature.missing() or (short if few else ""):
            reasons.append(why)
        else:
            chosen.append(feature)
    if not chosen:
        raise ValueError("; ".join(reasons))
    return chosen, reasons


def score(
    feature: Feature, samples: Iterable[Tensor], count: int, data: Split, device: str = "cpu"
) -> dict[str, float | int]:
    """Fréchet distance of samples to all pictures of a data set, with all that it must be quoted with.

    Args:
        feature: which features.
        samples: bytes [B, C, H, W] in batches, ``count`` pictures in all.
        count: how many.
        data: real pictures; all three parts count, as the literature takes the whole training set.
        device: where the network of features works.

    Returns:
        The distance by its name, ``n`` samples, ``n_real`` pictures, and the ``floor``: the distance of the first
        ``n_floor`` real pictures (in a fixed shuffle) to the remaining ones; n of them, or half if there are fewer.
    """
    total = len_of(data)
    half = min(count, total // 2)
    one, rest = (real_statistics(feature, data, first, last, device) for first, last in ((0, half), (half, total)))
    found = distance(_statistics(feature, samples, count, "samples", device), merged(one, rest))
    return {feature.distance: found, "n": count, "n_real": total, "floor": distance(one, rest), "n_floor": half}


def len_of(data: Split) -> int:
    """Number of pictures in all three parts."""
    return sum(map(len, (data.clean, data.corrupted, data.held_out)))


def real_statistics(feature: Feature, data: Split, first: int, last: int, device: str = "cpu") -> Statistics:
    """Statistics of pictures ``first`` to ``last`` of a data set, from the file that keeps them or put there.

    Raises:
        ValueError: if there is a file in its place that is not that.
    """
    about: dict[str, Any] = {
        "data": data.fingerprint,
        "shape": list(data.corrupted.shape[1:]),
        "pictures": [first, last],
        "of": len_of(data),
        "network": feature.network(),
    }
    size = "x".join(map(str, about["shape"]))
    path = kept_in() / f"{data.fingerprint}-{size}-{first}-{last}-of-{about['of']}-{feature.network()}.safetensors"
    if path.is_file():
        return _read(path, about)
    name = f"real pictures {first}-{last}"
    found = _statistics(feature, _pixels(data, first, last), last - first, name, device)
    tensors = {"n": torch.tensor(found.n), "mean": found.mean, "scatter": found.scatter}
    _keep(path, tensors, "statistics", about)
    return found


def real_features(real: Tensor, device: str = "cpu") -> Tensor:
    """AlexNet's features of pictures [N, C, H, W] on [-1, 1], [N, 256]; of many from the file that keeps them.

    The file is named after the pictures' own checksum, AlexNet's weights and the kind of device, which may round
    otherwise. A damaged one is made anew, with a warning.
    """
    if len(real) < KEPT:
        return _alexnet(real, device)
    feature, kind = FEATURES["fd-alexnet"], device.split(":")[0]
    pictures, network = checksum({"real": real}, {}), feature.network()
    about = {"pictures": pictures, "network": network, "device": kind}
    path = kept_in() / f"{pictures[:16]}-{network}-features-{kind}.safetensors"
    known = usable(path, "so AlexNet looks at the real pictures again").get("features")
    if known is None or known.shape != (len(real), feature.size):
        known = _alexnet(real, device)
        _keep(path, {"features": known}, "features", about)
    return known


def _alexnet(real: Tensor, device: str) -> Tensor:
    return torch.cat([alexnet.alexnet_features(part.to(device)).cpu() for part in real.split(FEW)])


def _keep(path: Path, tensors: dict[str, Tensor], kind: str, about: dict[str, Any]) -> None:
    """Writes what took its time; a full or read-only folder of data sets loses nothing else."""
    try:
        write_tensors(path, tensors, {kind: json.dumps(about)})
    except OSError as error:
        warnings.warn(f"{kind} of the real pictures were not kept for the next time: {error}", stacklevel=3)


def kept_in() -> Path:
    """Folder of the real pictures' statistics, beside the data sets: ``EMLIB_DATASETS`` moves both."""
    return datasets_dir() / "statistics"


def _read(path: Path, about: dict[str, Any]) -> Statistics:
    note, tensors = read_tensors(path, "statistics", "delete it, and it is made again")
    if json.loads(note) != about:
        raise ValueError(f"{path} holds statistics of {note}, not of {json.dumps(about)}; delete it")
    return Statistics(int(tensors["n"]), tensors["mean"], tensors["scatter"])


def _pixels(data: Split, first: int, last: int) -> Iterator[Tensor]:
    """Bytes of pictures ``first`` to ``last`` in the order of the three parts, which is shuffled."""
    start = 0
    for part in (data.clean, data.corrupted, data.held_out):
        begin, end = max(first - start, 0), min(last - start, len(part))
        for i in range(begin, end, BATCH):
            yield to_pixels(part[i : min(i + BATCH, end)])
        start += len(part)


def _statistics(feature: Feature, batches: Iterable[Tensor], count: int, name: str, device: str) -> Statistics:
    def features() -> Iterator[Tensor]:
        with tqdm(total=count, desc=f"{feature.distance}, {name}", unit="picture", leave=False) as bar:
            for pixels in batches:
                for part in pixels.split(BATCH):
                    yield feature.of(part, device)
                    bar.update(len(part))

    return statistics(features())

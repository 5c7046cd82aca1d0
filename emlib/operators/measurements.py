r"""Measurements y = A x + n: drawn once, and kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emlib.diffusion import check_images
from emlib.operators.base import Operator
from emlib.operators.checking import check_measurements, check_noise_std
from emlib.operators.registry import KINDS
from emlib.runtime.rng import randn, streams
from emlib.runtime.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Measurements:
    r"""All that is known of some pictures: y = A x + n.

    Attributes:
        y: [N, C', H', W'], on the scale of the pictures, not clipped; all finite, and 0 in gaps.
        operator: A, with the parameters of these N pictures.
        noise_std: standard deviation of n on the [-1, 1] scale, 0 or more.
        index: index of each picture in its data set, N different whole numbers; keys its random stream.

    Raises:
        ValueError: if one of these does not hold, or y is far from what A makes of pictures on [-1, 1].
    """

    y: Tensor
    operator: Operator
    noise_std: float
    index: tuple[int, ...]

    def __post_init__(self) -> None:
        check_measurements(self.y, self.operator, self.noise_std, self.index)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture x; y may have another."""
        _, channels, height, width = self.y.shape
        return self.operator.image_shape((channels, height, width))

    def select(self, rows: Sequence[int]) -> Measurements:
        """The measurements of the pictures with these numbers."""
        rows = list(rows)
        index = tuple(self.index[row] for row in rows)
        return self.changed(y=self.y[rows], operator=self.operator.select(rows), index=index)

    def on(self, device: torch.device | str) -> Measurements:
        """The same on a device."""
        return self.changed(y=self.y.to(device), operator=self.operator.on(device))

    def changed(self, **others: Any) -> Measurements:
        """These with other fields, taken as they are: what is made of checked ones may hold a picture twice, or NaN."""
        made = copy.copy(self)
        made.__dict__.update(others)
        return made

    def view(self) -> Tensor:
        """y as pictures [N, C, H, W], for scores and figures (:meth:`emlib.operators.Operator.view`)."""
        return self.operator.view(self.y)


def measure(x: Tensor, operator: Operator, noise_std: float, seed: int, first: int = 0) -> Measurements:
    r"""Draws y = A x + n, once; the noise of a picture depends on the seed and its index alone.

    Args:
        x: clean pictures, [N, C, H, W] on [-1, 1].
        operator: A for these N pictures.
        noise_std: standard deviation of n on the [-1, 1] scale, 0 or more (half of it on [0, 1]).
        seed: seed of the experiment.
        first: index of the first picture in its data set.

    Raises:
        ValueError: if ``noise_std`` is negative, the pictures are not on [-1, 1] or the operator does not fit.
    """
    check_noise_std(noise_std)
    check_images(x)
    index = range(first, first + len(x))
    # y = A x + n,   n ~ N(0, noise_std^2 I)
    clean = operator(x)
    noise = randn(streams(seed, "measurement noise", index), tuple(clean.shape[1:]))
    found = Measurements(clean + noise_std * noise * operator.seen(clean), operator, noise_std, tuple(index))
    if found.image_shape != tuple(x.shape[1:]):
        raise ValueError(
            f"{operator.name} makes {tuple(clean.shape[1:])} of pictures {tuple(x.shape[1:])}, but its image_shape "
            f"says that they were {found.image_shape}; write image_shape(y_shape) in the operator"
        )
    return found


def save_measurements(m: Measurements, path: str | Path) -> None:
    """Writes measurements to one safetensors file, whole or not at all.

    Raises:
        OSError: if it cannot be written, naming the file.
        ValueError: if the operator has the name of one of ours and is another, which a file could not tell.
    """
    name, kind = m.operator.name, type(m.operator)
    if KINDS.get(name, kind) is not kind:
        raise ValueError(
            f"{kind.__name__} has the name {name!r} of emlib's own {KINDS[name].__name__}, as which the file would be "
            "read; give the class a name of its own"
        )
    tensors = {"y": m.y, "index": torch.tensor(m.index), **m.operator.tensors()}
    notes = {"measurements": json.dumps({"operator": name, "noise_std": m.noise_std})}
    write_tensors(path, tensors, notes)


def load_measurements(path: str | Path, operator: type[Operator] | Operator | None = None) -> Measurements:
    """Reads what :func:`save_measurements` wrote.

    Args:
        path: the file.
        operator: the operator's class, where it is none of ours: no code is looked for in a file. Or the operator
            itself, which is then held against the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else, is damaged, or holds measurements through another operator.
    """
    note, tensors = read_tensors(path, "measurements")
    name, noise_std = _about(note, path)
    kind = operator or KINDS.get(name)
    if kind is None or kind.name != name:
        raise ValueError(
            f"{path} holds measurements through the operator {name!r}, "
            f"not {getattr(kind, 'name', 'one of ' + ', '.join(KINDS))}; hand its class to load_measurements"
        )
    if not {"y", "index"} <= tensors.keys():
        raise ValueError(f"{path} lacks y or index, so it holds no measurements; get it anew")
    # masks stay bytes, left on disk until a picture is asked for
    y, index = tensors.pop("y"), tensors.pop("index")
    A = _held_against(kind, tensors, path) if isinstance(kind, Operator) else _remade(kind, tensors, path)
    try:
        return Measurements(y, A, noise_std, tuple(index.flatten().tolist()))
    except (ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path} holds no measurements that can be used: {error}") from error


def _about(note: str, path: str | Path) -> tuple[str, float]:
    """The operator's name and the noise's standard deviation, as the file's note has them."""
    try:
        about = json.loads(note)
        return str(about["operator"]), float(about["noise_std"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} has a damaged note, {note[:80]!r}; get it anew") from error


def _remade(kind: type[Operator], tensors: Mapping[str, Tensor], path: str | Path) -> Operator:
    """The operator of a file's tensors, whatever its class makes of those that are not its own."""
    try:
        return kind.from_tensors(tensors)
    except Exception as error:  # a stranger's class may raise anything
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} holds no {kind.name!r} as this version makes it ({said}); measure anew") from error


def _held_against(A: Operator, tensors: Mapping[str, Tensor], path: str | Path) -> Operator:
    own = A.tensors()
    if own.keys() != tensors.keys() or not all(torch.equal(own[key], x) for key, x in tensors.items()):
        raise ValueError(f"{path} holds measurements through another {A.name!r} than this one; make it as it was then")
    return A

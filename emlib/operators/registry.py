"""Operators by name: a new one is one file beside this one, and one line here. Yours may stay where it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from emlib.operators.base import Operator
from emlib.operators.blur import GaussianBlur
from emlib.operators.channel_mask import ChannelMask
from emlib.operators.composed import Composed
from emlib.operators.convolution import BoxBlur, Convolution, MotionBlur
from emlib.operators.downsample import Downsample
from emlib.operators.fourier import FourierMask
from emlib.operators.grey import Grey
from emlib.operators.identity import Identity
from emlib.operators.mask import PixelMask

RESERVED = {
    "operator",
    "noise_std",
    "sampler",
    "scale",
    "seed",
    "preset",
    "data",
    "start",
    "iterations",
    "folder",
    "out",
}
"""Words of the command line, which no parameter of an operator may be called."""

OPERATORS: dict[str, type[Operator]] = {
    kind.name: kind
    for kind in (
        PixelMask,
        GaussianBlur,
        Identity,
        BoxBlur,
        MotionBlur,
        Downsample,
        Grey,
    )
}
"""Our operators by name, in the order in which they are listed."""

KINDS: dict[str, type[Operator]] = OPERATORS | {
    kind.name: kind for kind in (Convolution, ChannelMask, FourierMask, Composed)
}
"""With those that take tensors, and so are made in Python and not on the command line; files may hold any of these."""


def find_operator(word: str) -> type[Operator]:
    """The operator of a name, or of a file: ``path/to/file.py:Class``, whose code is then run.

    Raises:
        ValueError: if there is no such name, file or class, or the class is no operator of its own name.
    """
    if word in OPERATORS:
        return OPERATORS[word]
    path, colon, name = word.rpartition(":")
    if not colon:
        raise ValueError(f"unknown operator {word!r}; there are {_listed()}, or one of yours as FILE.py:CLASS")
    if not (file := Path(path)).is_file():
        raise ValueError(f"no file {path} for the operator {word!r}; name it as FILE.py:CLASS")
    return _from_file(file.resolve(), file.stat().st_mtime_ns, name)


@cache
def _from_file(path: Path, changed: int, name: str) -> type[Operator]:
    """The class of this name; read once, and again when the file has changed."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; name the operator as FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Operator)):
        raise ValueError(f"{path} has no class {name} that is an emlib.operators.Operator")
    if getattr(kind, "__abstractmethods__", None):
        raise ValueError(f"{name} in {path} lacks {' and '.join(sorted(kind.__abstractmethods__))}; write them")
    if not isinstance(getattr(kind, "name", None), str) or not kind.name.isidentifier() or kind.name in KINDS:
        raise ValueError(f"{name} in {path} needs a name of its own, one word other than {_listed(KINDS)}")
    if taken := RESERVED & set(kind.parameters):
        raise ValueError(
            f"{name} in {path} calls a parameter {sorted(taken)[0]}, which has a meaning already; rename it"
        )
    return kind


def make_operator(word: str, count: int, size: int, seed: int, first: int = 0, **parameters: float) -> Operator:
    """The operator of a task, by the word that :func:`find_operator` takes.

    Args:
        word: its name, or its file and class.
        count, size, seed, first: as for :meth:`Operator.for_pictures`.
        parameters: those that the operator has; others are left aside, those not given have their defaults.

    Raises:
        ValueError: if there is no such operator, or a parameter is out of its range.
    """
    kind = find_operator(word)
    return kind.for_pictures(count, size, seed, first, **own_parameters(kind, parameters))


def own_parameters(kind: type[Operator], given: Mapping[str, Any]) -> dict[str, float]:
    """The parameters that this operator has, with what is given or their defaults."""
    return {name: given.get(name, parameter.default) for name, parameter in kind.parameters.items()}


def _listed(names: Iterable[str] = OPERATORS) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}"

"""Words that several commands understand, and rows that several print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emlib.guidance.rules import RULES
from emlib.operators import OPERATORS, Operator, find_operator
from emlib.posterior import SAMPLERS
from emlib.runs.presets import PRESETS
from emlib.runs.task import check_seed
from emlib.runtime.places import check_name

Strangers = list[type[Operator]]
"""Operators that the command line names by their file."""

PRIOR = "a safetensors file of emlib's, a folder in diffusers' layout, or its name at the Hugging Face hub"


def add_sizes(sub: argparse.ArgumentParser) -> None:
    """``--preset`` and ``--data``."""
    sub.add_argument("--preset", help=f"sizes: {', '.join(PRESETS)} (default: EMLIB_PRESET, then pocket)")
    sub.add_argument("--data", help="embedded, cifar10, celeba, faces or a folder of pictures (default: the preset's)")


def add_task(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """All that tells a task and its E-step: sizes, operator with its own parameters, noise, sampler, scale, seed."""
    add_sizes(sub)
    known = f"{', '.join(OPERATORS)}, or one of yours as FILE.py:CLASS"
    sub.add_argument("--operator", default="mask", help=f"{known} (default: mask)")
    parameters = {
        name: parameter for kind in [*OPERATORS.values(), *strangers] for name, parameter in kind.parameters.items()
    }
    for name, parameter in parameters.items():
        option = f"--{name.replace('_', '-')}"
        # absent where it is not given, so that one of another operator is noticed
        sub.add_argument(option, type=float, default=argparse.SUPPRESS, help=parameter.help)
    sub.add_argument("--noise-std", type=float, default=0.0, help="noise on the [-1, 1] scale (default: 0)")
    sub.add_argument("--sampler", choices=SAMPLERS, default="mmps", help="E-step (default: mmps)")
    sub.add_argument("--scale", default="auto", help=f"DPS's lambda: a number or a rule: {', '.join(RULES)}")
    sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")


def check_words(args: argparse.Namespace) -> None:
    """Refuses words that mean nothing, or nothing here: an empty name, a seed out of range, another operator's number.

    Raises:
        ValueError: with the remedy.
    """
    if getattr(args, "seed", None) is not None:
        check_seed(args.seed)
    if empty := [name for name, value in vars(args).items() if value == "" and name not in ("tensorboard", "blur")]:
        raise ValueError(f"--{empty[0].replace('_', '-')} is empty; leave it out or name something")
    for name in ("folder", "out", "tensorboard", "picture"):
        if place := getattr(args, name, None):
            check_name(Path(place))
    if not hasattr(args, "operator"):
        return
    own, others = find_operator(args.operator).parameters, {n for kind in OPERATORS.values() for n in kind.parameters}
    if strange := sorted(name for name in others - own.keys() if hasattr(args, name)):
        raise ValueError(f"the operator {args.operator} has no --{strange[0].replace('_', '-')}; leave it out")


def path_of(word: str) -> Path:
    """A path on the command line.

    Raises:
        argparse.ArgumentTypeError: if nothing is named; Python takes that for the folder one is in.
    """
    if not word.strip():
        raise argparse.ArgumentTypeError("is empty; leave it out or name something")
    return Path(word)


def print_row(row: dict[str, Any], head: bool = False) -> None:
    """A row of scores under their titles, above whatever bar is being drawn."""
    if head:
        print(f"{'':>10} {'PSNR dB':>9} {'LPIPS':>8} {'FD-AlexNet':>11} {'seconds':>8}")
    name = row.get("iteration", row.get("pictures"))
    columns = {"PSNR": "9.2f", "LPIPS": "8.4f", "FD-AlexNet": "11.2f", "seconds": "8.0f"}
    cells = [f"{row[key]:>{form}}" if key in row else " " * int(form.split(".")[0]) for key, form in columns.items()]
    tqdm.write(f"{name!s:>10} {' '.join(cells)}".rstrip())
    sys.stdout.flush()  # a log file is read while the run goes on

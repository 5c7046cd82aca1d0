"""The command line: ``python -m emlib COMMAND``, each with ``--help``:
em, train, reconstruct, restore, evaluate, export, experiment, cost, weights.

``torchrun --nproc-per-node=N -m emlib em ...`` runs EM on N processes, ``evaluate`` likewise.
"""

from __future__ import annotations

import argparse
import sys

import emlib
from emlib.cli import cost, em, evaluate, experiment, export, reconstruct, restore, train, weights
from emlib.operators import Operator, find_operator
from emlib.runtime.distributed import joined

COMMANDS = {
    "em": (em, "Runs EM from a few clean and many broken pictures; resumes where it stopped."),
    "train": (train, "Trains a prior on clean pictures: the ceiling that EM is held against."),
    "reconstruct": (reconstruct, "Reconstructs held-out broken pictures with a trained prior."),
    "restore": (restore, "Repairs a folder of your own broken pictures, and reports on it."),
    "evaluate": (evaluate, "Draws samples from a prior; FID (or FD-AlexNet) to real pictures."),
    "export": (export, "Writes a prior as a folder for diffusers and the hub, with a model card."),
    "experiment": (experiment, "Runs each method of a table that has no result yet; gathers all."),
    "cost": (cost, "Says what a run would take: evaluations, FLOPs, memory, time."),
    "weights": (weights, "Says where AlexNet's weights are; fetches those that are asked for."),
}
"""Each command's module, and what it does in a sentence."""


def main(words: list[str] | None = None) -> int:
    """Runs one command; a mistake in the input ends in one sentence and status 2."""
    try:
        args = parser(strangers_operator(words)).parse_args(words)
    except (ValueError, argparse.ArgumentError) as error:  # no such operator, or one whose words are taken
        print(f"emlib: {error}", file=sys.stderr)
        return 2
    try:
        with joined() as here:
            try:
                return args.run(args) or 0
            except (ValueError, FileNotFoundError) as error:
                if here.first:
                    print(f"emlib {args.command}: {error}", file=sys.stderr)
                return 2
    except ValueError as error:  # more processes than GPUs
        print(f"emlib {args.command}: {error}", file=sys.stderr)
        return 2


def strangers_operator(words: list[str] | None) -> list[type[Operator]]:
    """The operator that the command line names by its file, which may have parameters of its own."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--operator", default="")
    word = first.parse_known_args(words)[0].operator
    return [find_operator(word)] if ":" in word else []


def parser(strangers: list[type[Operator]] | None = None) -> argparse.ArgumentParser:
    """What the command line understands; with the parameters of operators that are not ours."""
    said = emlib.__doc__ or ""
    whole = argparse.ArgumentParser(prog="python -m emlib", description=said.splitlines()[0])
    commands = whole.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=module.run)
        module.add_arguments(sub, strangers or [])
    return whole

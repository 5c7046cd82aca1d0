"""The command line: ``python -m emlib COMMAND``, each with ``--help``:
em, train, reconstruct, restore, evaluate, export, experiment, cost, weights.

``torchrun --nproc-per-node=N -m emlib em ...`` runs EM on N processes, ``evaluate`` likewise.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING

import emlib

if TYPE_CHECKING:
    from emlib.operators import Operator

COMMANDS = {
    "em": "Runs EM from a few clean and many broken pictures; resumes where it stopped.",
    "train": "Trains a prior on clean pictures: the ceiling that EM is held against.",
    "reconstruct": "Reconstructs held-out broken pictures with a trained prior.",
    "restore": "Repairs a folder of your own broken pictures, and reports on it.",
    "evaluate": "Draws samples from a prior; FID (or FD-AlexNet) to real pictures.",
    "export": "Writes a prior as a folder for diffusers and the hub, with a model card.",
    "experiment": "Runs each method of a table that has no result yet; gathers all.",
    "cost": "Says what a run would take: evaluations, FLOPs, memory, time.",
    "weights": "Says where AlexNet's weights are; fetches those that are asked for.",
}
"""Each command, a module of this room, and what it does in a sentence."""

RESUMES = ("em", "restore", "evaluate", "experiment")
"""Commands that keep what is done."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of a disk that may be mended, after which a run goes on."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell gives it."""


def main(words: list[str] | None = None) -> int:
    """Runs one command; a mistake in the input, or a place that fails, ends in one sentence and status 2."""
    words = sys.argv[1:] if words is None else words
    command = next((word for word in words if word in COMMANDS), "")
    try:
        check_text(words)
        args = parser(strangers_operator(words) if command else [], command).parse_args(words)
        # the rest waits for torch, which a word of help need not
        from emlib.runtime.distributed import joined

        with joined():
            try:
                return args.run(args) or 0
            except (ValueError, OSError, MemoryError) as error:
                return refusal(args.command, error)
            except RuntimeError as error:
                if not any(word in str(error) for word in ("allocate memory", "out of memory", "enough memory")):
                    raise
                return refusal(args.command, MemoryError(str(error)))
    except KeyboardInterrupt:
        kept = "what is done is kept, and the same command goes on there" if command in RESUMES else "nothing was kept"
        print(f"\nemlib {command}: stopped; {kept}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, argparse.ArgumentError) as error:  # no such operator, or its words are taken; too few GPUs
        return refusal(command, error)


def check_text(words: list[str]) -> None:
    """Refuses a word that is no UTF-8: weights and records keep the whole command in their notes, which are.

    Raises:
        ValueError: with the remedy.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="backslashreplace").decode()
            raise ValueError(
                f"{shown} is no word in UTF-8, in which weights and records keep their command; rename it, or "
                "name another"
            ) from None


def refusal(command: str, error: Exception) -> int:
    """Says in one sentence why a command ends; of several processes that end for the same reason one does."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        said = f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in FULL and command in RESUMES:
        said += "; what is done is kept, and the same command goes on there"
    if isinstance(error, MemoryError):
        said = f"this takes more memory than there is ({said}); take a smaller preset or a smaller batch"
        said += "; with more of it free the same command goes on where it was" if command in RESUMES else ""
    said = f"emlib {command}: {said}".replace("emlib :", "emlib:")
    if _first_to_say(said):
        print(said, file=sys.stderr)
    return 2


def _first_to_say(said: str) -> bool:
    """Whether no other process of this run has; one that is alone need not load torch to know."""
    if "WORLD_SIZE" not in os.environ:
        return True
    from emlib.runtime.distributed import first_to_say

    return first_to_say(said)


def strangers_operator(words: list[str]) -> list[type[Operator]]:
    """The operator that the command line names by its file, which may have parameters of its own."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--operator", default="")
    try:
        word = first.parse_known_args(words)[0].operator
    except argparse.ArgumentError:  # --operator with nothing behind it: the command's own parser says so
        return []
    if ":" not in word:
        return []
    from emlib.operators import find_operator

    return [find_operator(word)]


def parser(strangers: list[type[Operator]] | None = None, command: str | None = None) -> argparse.ArgumentParser:
    """What the command line understands; with the parameters of operators that are not ours.

    Args:
        strangers: these operators.
        command: the one whose words are wanted, empty for none; all where it is not given.
    """
    said = emlib.__doc__ or ""
    whole = argparse.ArgumentParser(prog="python -m emlib", description=said.splitlines()[0])
    commands = whole.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if command in (None, name):
            module = importlib.import_module(f"emlib.cli.{name}")
            sub.set_defaults(run=module.run)
            module.add_arguments(sub, strangers or [])
    return whole

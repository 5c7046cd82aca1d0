"""The command line: ``python -m emlib COMMAND``, each with ``--help``:
em, train, reconstruct, evaluate, export, experiment, cost, weights.

``torchrun --nproc-per-node=N -m emlib em ...`` runs EM on N processes, ``evaluate`` likewise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import emlib
from emlib import cost, metrics, sampling
from emlib.commands import em_command, reconstruct_command, train_command
from emlib.experiment import METHODS, experiment_command
from emlib.fid import fetch_inception
from emlib.guidance import RULES
from emlib.operators import OPERATORS, Operator, find_operator
from emlib.posterior import SAMPLERS
from emlib.presets import PRESETS
from emlib.pretrained import export_command
from emlib.ranks import joined


def main(words: list[str] | None = None) -> int:
    """Runs one command; a mistake in the input ends in one sentence and status 2."""
    try:
        args = _parser(_strangers_operator(words)).parse_args(words)
    except ValueError as error:  # an operator that there is not
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


def _strangers_operator(words: list[str] | None) -> list[type[Operator]]:
    """The operator that the command line names by its file, which may have parameters of its own."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--operator", default="")
    word = first.parse_known_args(words)[0].operator
    return [find_operator(word)] if ":" in word else []


def _parser(strangers: list[type[Operator]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emlib", description=emlib.__doc__.splitlines()[0])
    operators = [*OPERATORS.values(), *strangers]
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def task(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--preset", help=f"sizes: {', '.join(PRESETS)} (default: EMLIB_PRESET, then pocket)")
        sub.add_argument("--data", help="embedded, cifar10, celeba or a folder of pictures (default: the preset's)")
        known = ", ".join(OPERATORS)
        sub.add_argument(
            "--operator", default="mask", help=f"{known}, or one of yours as FILE.py:CLASS (default: mask)"
        )
        for name, parameter in {k: v for kind in operators for k, v in kind.parameters.items()}.items():
            option = f"--{name.replace('_', '-')}"
            sub.add_argument(option, type=float, default=parameter.default, help=parameter.help)
        sub.add_argument("--noise-std", type=float, default=0.0, help="noise on the [-1, 1] scale (default: 0)")
        sub.add_argument("--sampler", choices=SAMPLERS, default="mmps", help="E-step (default: mmps)")
        sub.add_argument("--scale", default="auto", help=f"DPS's lambda: a number or a rule: {', '.join(RULES)}")
        sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")

    sub = command("em", em_command, "Runs EM from a few clean and many broken pictures; resumes where it stopped.")
    task(sub)
    sub.add_argument(
        "--start",
        default="clean",
        help="first prior from: clean (a few clean pictures), gaussian (fitted to the measurements), preprocessed "
        "(filtered measurements) or a folder of other pictures (default: clean)",
    )
    sub.add_argument("--iterations", type=int, help="EM iterations (default: the preset's)")
    sub.add_argument("--folder", type=Path, help="where the run is kept (default: runs/em-OPERATOR-SAMPLER-PRESET)")
    sub.add_argument("--out", type=Path, help="record the run in this JSON file, with its picture beside it")
    sub.add_argument(
        "--dry-run",
        action="store_true",
        help="only say what the run would do, cost and need, and whether all of it is there; status 2 if it is not",
    )
    sub.add_argument("--e-batch", type=int, help="pictures sampled at a time; changes memory, no picture")
    sub.add_argument("--train-batch", type=int, help="pictures in an update (default: the preset's)")
    sub.add_argument(
        "--tensorboard", nargs="?", const="", metavar="DIR", help="log for TensorBoard, in DIR or in the run's folder"
    )

    sub = command("train", train_command, "Trains a prior on clean pictures: the ceiling that EM is held against.")
    sub.add_argument("--preset", help=f"sizes: {', '.join(PRESETS)} (default: EMLIB_PRESET, then pocket)")
    sub.add_argument("--data", help="embedded, cifar10, celeba or a folder of pictures (default: the preset's)")
    sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    sub.add_argument("--out", type=Path, required=True, help="safetensors file to write")

    sub = command("reconstruct", reconstruct_command, "Reconstructs held-out broken pictures with a trained prior.")
    task(sub)
    sub.add_argument("--prior", required=True, help=sampling.PRIOR)
    sub.add_argument("--picture", type=Path, help="write a picture of the first reconstructions here")

    sampling.add_arguments(
        command(
            "evaluate", sampling.evaluate_command, "Draws samples from a prior; FID (or FD-AlexNet) to real pictures."
        )
    )

    sub = command("export", export_command, "Writes a prior as a folder for diffusers and the hub, with a model card.")
    sub.add_argument("--prior", required=True, help=sampling.PRIOR)
    sub.add_argument("--out", type=Path, required=True, help="folder to make; its name is the card's title")
    sub.add_argument("--result", type=Path, help="recorded run (JSON) whose command and numbers go into the card")

    sub = command("experiment", experiment_command, "Runs each method of a table that has no result yet; gathers all.")
    sub.add_argument("name", help="an experiment in experiments/, or the path of a JSON file like them")
    sub.add_argument(
        "--data",
        help="embedded, cifar10, celeba or a folder of pictures (default: the preset's, or EMLIB_PICTURES instead)",
    )
    sub.add_argument("--preset", help="other sizes than the experiment's")
    sub.add_argument("--methods", nargs="+", help=f"only these of {', '.join(METHODS)} (default: all it lists)")
    sub.add_argument("--seeds", nargs="+", type=int, help="only these (default: all it lists)")
    sub.add_argument("--folder", type=Path, help="where methods keep what they resume from (default: runs/NAME)")
    sub.add_argument(
        "--out",
        type=Path,
        help="the gathered table; a file a finished method lies in the folder of the same name "
        "(default: data/results/NAME.json, with --preset runs/NAME-PRESET.json)",
    )

    cost.add_arguments(
        command("cost", cost.cost_command, "Says what a run would take: evaluations, FLOPs, memory, time.")
    )
    sub = command("weights", weights_command, "Says where AlexNet's weights are; fetches those that are asked for.")
    sub.add_argument("--fid", action="store_true", help="fetches Inception's, 95 MB, or an error")
    sub.add_argument(
        "--alexnet",
        action="store_true",
        help="fetches AlexNet's in full precision, 233 MB, or an error; the project's own are rounded to float16",
    )
    return parser


def weights_command(args: argparse.Namespace) -> None:
    """``emlib weights``: says where AlexNet's are; with no option nothing is fetched, since the project brings them.

    Raises:
        FileNotFoundError: if weights are asked for and cannot be had, or AlexNet's are nowhere.
    """
    if args.fid:
        print(f"Inception's weights are at {fetch_inception()}")
    if args.alexnet:
        metrics.fetch_alexnet()
    if missing := metrics.alexnet_missing():
        raise FileNotFoundError(missing)
    path = metrics.alexnet_path()
    rounded = "" if path == metrics.alexnet_cached() else "; in float16, as they come with the project"
    print(f"AlexNet's weights are at {path}{rounded}")


if __name__ == "__main__":
    sys.exit(main())

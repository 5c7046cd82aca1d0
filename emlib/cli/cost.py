"""``emlib cost``: what a run at a preset would take on a device."""

from __future__ import annotations

import argparse

import torch

from emlib.cli.words import Strangers, check_words
from emlib.guidance.search import RULES
from emlib.planning.cost import DEVICES, EFFICIENCY, as_text, plan, sustained
from emlib.planning.counting import FLOAT
from emlib.posterior import SAMPLERS
from emlib.runs.job import check_scale
from emlib.runs.presets import PRESETS, preset


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib cost``."""
    sub.add_argument("--preset", help=f"sizes: {', '.join(PRESETS)} (default: EMLIB_PRESET, then pocket)")
    sub.add_argument("--device", default="cpu", help=f"{', '.join(DEVICES)}, or cpu, which is timed (default: cpu)")
    sub.add_argument("--sampler", choices=list(SAMPLERS), default="mmps", help="E-step (default: mmps)")
    sub.add_argument(
        "--scale", default="residual", help=f"DPS's lambda: a number, or {' or '.join(RULES)}, which search for it"
    )


def run(args: argparse.Namespace) -> None:
    """Prints what a run at a preset will take on a device.

    Raises:
        ValueError: if the preset, the device or the scale is not one that there is.
    """
    check_words(args)
    check_scale(args.scale)
    p, searched = preset(args.preset), args.scale in RULES
    rate = sustained(args.device)
    stages = plan(p, rate, args.sampler, searched)
    how = f"timed just now on a small network with {torch.get_num_threads()} thread(s)"
    if args.device != "cpu":
        how = f"{DEVICES[args.device] / 1e12:g} TFLOP/s at its peak, of which a share of {EFFICIENCY} is assumed"
    print(f"EM with {args.sampler} at preset {p.name}, network of {stages[0].weights / FLOAT / 1e6:.1f} M parameters")
    print(f"device {args.device}: {rate / 1e12:.3g} TFLOP/s ({how})\n")
    print(as_text(stages))
    print("\nforward and gradient count pictures through the network, calls count batches; weights to activations are")
    print("the memory of a stage, in the total that of the largest; operators and scores are not counted")

"""``emlib reconstruct``: held-out pictures with a given prior."""

from __future__ import annotations

import argparse

import torch
from tqdm import tqdm

from emlib.cli.words import PRIOR, Strangers, add_task, check_words, path_of, print_row
from emlib.hub.pretrained import load_pretrained
from emlib.metrics import summary
from emlib.operators import find_operator
from emlib.operators.registry import own_parameters
from emlib.posterior import reconstruct
from emlib.runs.build import choose_e_step
from emlib.runs.job import check_scale
from emlib.runs.outputs import try_picture
from emlib.runs.presets import preset
from emlib.runs.task import make_task
from emlib.runtime.device import pick_device
from emlib.schedule import linear_schedule
from emlib.viz.figures import save_grid


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib reconstruct``."""
    add_task(sub, strangers)
    sub.add_argument("--prior", required=True, help=PRIOR)
    sub.add_argument("--picture", type=path_of, help="write a picture of the first reconstructions here")


def run(args: argparse.Namespace) -> None:
    """Reconstructs the held-out pictures and prints their scores."""
    if args.picture is not None:
        try_picture(args.picture)
    check_words(args)
    check_scale(args.scale)
    p = preset(args.preset)
    schedule, device = linear_schedule().to(pick_device()), pick_device()
    prior = load_pretrained(args.prior).to(device)
    parameters = own_parameters(find_operator(args.operator), vars(args))
    task = make_task(p, args.operator, noise_std=args.noise_std, seed=args.seed, data=args.data, **parameters).on(
        device
    )
    held_out = task.held_out
    sampler = choose_e_step(args.sampler, args.scale, args.seed, p, schedule, held_out)(prior, 0)
    parts = []
    with tqdm(total=len(held_out), desc="reconstructing", unit="picture") as bar:
        for part in reconstruct(sampler, prior, schedule, held_out, args.seed, "held-out", p.em.e_batch):
            parts.append(part)
            bar.update(len(part))
    x = torch.cat(parts)
    observed = held_out.view()
    print_row({"pictures": "observed", **summary.against_truth(observed, task.held_out_truth)}, head=True)
    print_row({"pictures": "rebuilt", **summary.against_truth(x, task.held_out_truth)})
    if args.picture:
        save_grid({"truth": task.held_out_truth, "observed": observed, "rebuilt": x}, args.picture)

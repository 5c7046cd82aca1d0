"""``emlib train``: the clean prior, the ceiling that EM is held against."""

from __future__ import annotations

import argparse
from typing import cast

from tqdm import tqdm

from emlib.cli.words import Strangers, add_sizes, check_words, path_of
from emlib.runs.outputs import try_weights
from emlib.runs.presets import preset
from emlib.runs.record import command_line
from emlib.runs.task import make_task
from emlib.runtime.device import pick_device
from emlib.schedule import linear_schedule
from emlib.training import train
from emlib.unet import UNet, build_unet, save_unet


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib train``."""
    add_sizes(sub)
    sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    sub.add_argument("--out", type=path_of, required=True, help="safetensors file to write")


def run(args: argparse.Namespace) -> None:
    """Trains the clean prior and writes it."""
    try_weights(args.out)
    check_words(args)
    p = preset(args.preset)
    task = make_task(p, data=args.data, seed=args.seed)
    images = task.real
    schedule, device = linear_schedule(), pick_device()
    model = build_unet(p.unet, args.seed).to(device)
    how = (p.em.train_batch, p.em.init_lr, args.seed, p.em.ema_decay, p.em.flip)
    steps = train(model, schedule.to(device), images, p.prior_updates, *how, optimizer=p.em.optimizer)
    losses = []
    bar = tqdm(steps, total=p.prior_updates, desc="clean prior", unit="update")
    for step in bar:
        losses.append(step.loss)
        recent = f"{sum(losses[-50:]) / len(losses[-50:]):.4f}"
        bar.set_postfix(loss=recent, refresh=False)
    about = {"data": str(task.about["data"]), "pictures": str(len(images)), "size": str(images.shape[-1])}
    save_unet(cast(UNet, step.ema), args.out, command=command_line(), **about, loss=recent)
    print(f"weights: {args.out}")

"""What the commands of ``python -m emlib`` do."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from emlib import evaluate, guidance, metrics
from emlib.board import board, tell_row, told
from emlib.data import load
from emlib.diffusion import Eps
from emlib.dry_run import dry_run, em_stages
from emlib.em import EStep, run_em
from emlib.job import STARTS, job_of, scale_of
from emlib.machine import pick_device
from emlib.operators import Measurements, find_operator
from emlib.operators.registry import own_parameters
from emlib.posterior import find_sampler, reconstruct
from emlib.preflight import checks, refuse
from emlib.presets import Preset, preset
from emlib.pretrained import load_pretrained
from emlib.progress import watch
from emlib.ranks import ranks
from emlib.results import command_line, write_result
from emlib.schedule import Schedule, linear_schedule
from emlib.speed import quick
from emlib.starts import fit_gaussian, preprocessed
from emlib.tasks import Task, make_task
from emlib.training import train
from emlib.unet import build_unet, save_unet


def em_command(args: argparse.Namespace) -> int:
    """``emlib em``: the loop, a table as it goes, a picture at the end; or with ``--dry-run`` its plan alone."""
    job, device, here = job_of(args), pick_device(), ranks()
    if args.dry_run:
        return dry_run(job, device)
    p, settings, folder = job.preset, job.settings, job.folder
    refuse(checks(job, em_stages(job), device))
    say = print if here.first else (lambda *words: None)
    schedule, task = linear_schedule().to(device), _task(args, p).on(device)
    measurements, held_out = task.measurements, task.held_out
    e_step = choose_e_step(args.sampler, args.scale, args.seed, p, schedule, measurements)
    say(f"EM at preset {p.name}: {len(task.measurements)} broken pictures, start {args.start}; kept in {folder}")
    loop = run_em(
        measurements,
        choose_start(args.start, task, measurements, schedule),
        p.unet,
        schedule,
        e_step,
        settings,
        folder,
        {**job.about(), **task.about},
    )
    if not here.first:  # the others work along; the first one shows and scores
        for _ in loop:
            pass
        return 0
    real = _features(task)
    observed = task.measurements.view()
    start, rows, shown = time.perf_counter(), [], {"observed": observed}
    rows.append({"iteration": "observed", **evaluate.against_truth(observed, task.truth)})
    _print_row(rows[-1], head=True)
    with board(job.board) as tell:
        for step in watch(told(loop, tell)):
            row: dict[str, Any] = {"iteration": step.iteration, "seconds": round(step.seconds, 1)}
            if step.iteration:
                row |= {"phase": step.phase} | ({} if step.scale is None else {"scale": step.scale})
                row |= evaluate.against_truth(step.reconstructions, task.truth[list(step.rows)])
                shown[f"EM {step.iteration}"] = step.reconstructions
            if real is not None:
                row |= evaluate.against_real(draw_samples(step.prior, schedule, task, p, args.seed, device), real)
            rows.append(row)
            tell_row(row, tell)
            _print_row(rows[-1])
    sampler = e_step(step.prior, step.iteration + 1)
    rebuilt = reconstruct(sampler, step.prior, schedule, held_out, args.seed, "held-out", settings.e_batch)
    held_out = torch.cat(list(rebuilt))
    rows.append({"iteration": "held out", **evaluate.against_truth(held_out, task.held_out_truth)})
    _print_row(rows[-1])
    shown = {"truth": task.truth, **shown}
    out = args.out or folder / "result.json"
    save_grid(shown, out.with_suffix(".png"))
    write_result(
        out,
        "em",
        {
            "preset": p.name,
            **task.about,
            **job.about(),
            **asdict(settings),
            "clean": p.clean,
            "observations": p.observations,
        },
        rows,
        time.perf_counter() - start,
    )
    print(f"numbers: {out}   picture: {out.with_suffix('.png')}")
    return 0


def choose_start(name: str, task: Task, measurements: Measurements, schedule: Schedule) -> Tensor | Eps:
    """What EM begins with, by the name that the command line gives it.

    Raises:
        ValueError: if there is no such start, or the folder of other pictures has none.
    """
    if name == "clean":
        return task.clean
    if name == "gaussian":
        return fit_gaussian(measurements, schedule)
    if name == "preprocessed":
        return preprocessed(measurements)
    if not Path(name).is_dir():
        raise ValueError(f"unknown start {name!r}; there are {', '.join(STARTS)}, or a folder of pictures")
    channels, size, _ = measurements.image_shape
    return load(name, size=size, channels=channels).corrupted[: len(task.clean)]


def train_command(args: argparse.Namespace) -> None:
    """``emlib train``: the clean prior."""
    p = preset(args.preset)
    task = make_task(p, data=args.data, seed=args.seed)
    images = task.real
    schedule, device = linear_schedule(), pick_device()
    model = build_unet(p.unet, args.seed).to(device)
    steps = train(
        model,
        schedule.to(device),
        images,
        p.prior_updates,
        p.em.train_batch,
        p.em.init_lr,
        args.seed,
        p.em.ema_decay,
        p.em.flip,
    )
    losses = []
    bar = tqdm(steps, total=p.prior_updates, desc="clean prior", unit="update")
    for step in bar:
        losses.append(step.loss)
        bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}", refresh=False)
    about = {"data": task.about["data"], "pictures": str(len(images)), "size": str(images.shape[-1])}
    save_unet(step.ema, args.out, command=command_line(), **about, loss=f"{sum(losses[-50:]) / 50:.4f}")
    print(f"weights: {args.out}")


def reconstruct_command(args: argparse.Namespace) -> None:
    """``emlib reconstruct``: held-out pictures with a given prior."""
    p = preset(args.preset)
    schedule, device = linear_schedule().to(pick_device()), pick_device()
    prior = load_pretrained(args.prior).to(device)
    task = _task(args, p).on(device)
    held_out = task.held_out
    sampler = choose_e_step(args.sampler, args.scale, args.seed, p, schedule, held_out)(prior, 0)
    parts = []
    with tqdm(total=len(held_out), desc="reconstructing", unit="picture") as bar:
        for part in reconstruct(sampler, prior, schedule, held_out, args.seed, "held-out", p.em.e_batch):
            parts.append(part)
            bar.update(len(part))
    x = torch.cat(parts)
    observed = held_out.view()
    _print_row({"pictures": "observed", **evaluate.against_truth(observed, task.held_out_truth)}, head=True)
    _print_row({"pictures": "rebuilt", **evaluate.against_truth(x, task.held_out_truth)})
    if args.picture:
        save_grid({"truth": task.held_out_truth, "observed": observed, "rebuilt": x}, args.picture)


def choose_e_step(
    sampler: str, scale: str, seed: int, p: Preset, schedule: Schedule, measurements: Measurements
) -> EStep:
    """The E-step by the names that the command line gives its sampler and scale."""
    record = find_sampler(sampler)
    if record.guided and scale in guidance.RULES:
        probe = measurements.select(range(min(guidance.PROBE, len(measurements))))
        steps, _ = record.cost(p)
        search = guidance.searched_dps(scale, probe, schedule, steps, seed, sampler=record.sampler)
        search.say = tqdm.write if ranks().first else None
        return search  # itself, so that EM finds its last scale when a run resumes
    filled_in = record.filled_in(p, scale_of(scale) if record.guided else None)
    return lambda prior, k: filled_in


def draw_samples(
    prior: Eps, schedule: Schedule, task: Task, p: Preset, seed: int, device: str, eta: float = 0.0
) -> Tensor:
    """The preset's number of pictures from the prior, [N, C, H, W] on [-1, 1]; ``eta`` as in :func:`evaluate.draw`."""
    shape = tuple(task.truth.shape[1:])
    prior = quick(prior, replace(p.em.sampling, compile=False))  # for one crowd, compiling would take longer
    batches = evaluate.draw(prior, schedule, shape, p.samples, p.sample_steps, seed, eta=eta, device=device)
    return torch.cat(list(tqdm(batches, total=-(-p.samples // 250), desc="samples", leave=False)))


def _task(args: argparse.Namespace, p: Preset) -> Task:
    parameters = own_parameters(find_operator(args.operator), vars(args))
    return make_task(p, args.operator, noise_std=args.noise_std, seed=args.seed, data=args.data, **parameters)


def _features(task: Task) -> Tensor | None:
    if missing := metrics.alexnet_missing():
        print(f"LPIPS and FD-AlexNet are left out: {missing}")
    return evaluate.features_or_none(task.real)


def _print_row(row: dict[str, Any], head: bool = False) -> None:
    if head:
        print(f"{'':>10} {'PSNR dB':>9} {'LPIPS':>8} {'FD-AlexNet':>11} {'seconds':>8}")
    name = row.get("iteration", row.get("pictures"))
    columns = {"PSNR": "9.2f", "LPIPS": "8.4f", "FD-AlexNet": "11.2f", "seconds": "8.0f"}
    cells = [f"{row[key]:>{form}}" if key in row else " " * int(form.split(".")[0]) for key, form in columns.items()]
    tqdm.write(f"{name!s:>10} {' '.join(cells)}".rstrip())
    sys.stdout.flush()  # a log file is read while the run goes on


def save_grid(rows: dict[str, Tensor], path: Path) -> None:
    """Writes rows of pictures, each with its name, to a file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from emlib.viz import grid

    path.parent.mkdir(parents=True, exist_ok=True)
    fig = grid({name: x.cpu() for name, x in rows.items()})
    fig.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    pyplot.close(fig)

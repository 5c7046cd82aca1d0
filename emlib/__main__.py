"""The command line: ``python -m emlib em | train | reconstruct | weights``, each with ``--help``."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import emlib
from emlib import evaluate, guidance, metrics
from emlib.em import EStep, run_em, watch
from emlib.operators import Measurements
from emlib.posterior import Sampler, dps, mmps, reconstruct
from emlib.presets import PRESETS, Preset, preset
from emlib.results import write_result
from emlib.schedule import Schedule, linear_schedule
from emlib.tasks import Task, make_task
from emlib.unet import UNet, build_unet, load_unet, save_unet


def main(words: list[str] | None = None) -> int:
    """Runs one command; a mistake in the input ends in one sentence and status 2."""
    args = _parser().parse_args(words)
    try:
        args.run(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"emlib {args.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emlib", description=emlib.__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def task(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--preset", help=f"sizes: {', '.join(PRESETS)} (default: EMLIB_PRESET, then pocket)")
        sub.add_argument("--data", help="embedded, cifar10 or a folder of pictures (default: the preset's)")
        sub.add_argument("--operator", default="mask", help="mask, blur or noise (default: mask)")
        sub.add_argument("--fraction", type=float, default=0.6, help="share of hidden pixels of a mask (default: 0.6)")
        sub.add_argument("--noise-std", type=float, default=0.0, help="noise on the [-1, 1] scale (default: 0)")
        sub.add_argument("--sampler", choices=["mmps", "dps"], default="mmps", help="E-step (default: mmps)")
        sub.add_argument(
            "--scale", default="residual", help="DPS's lambda: a number, or the rule residual or discrepancy"
        )
        sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")

    sub = command("em", em_command, "Runs EM from a few clean and many broken pictures; resumes where it stopped.")
    task(sub)
    sub.add_argument("--iterations", type=int, help="EM iterations (default: the preset's)")
    sub.add_argument("--folder", type=Path, help="where the run is kept (default: runs/em-OPERATOR-SAMPLER-PRESET)")
    sub.add_argument("--out", type=Path, help="record the run in this JSON file, with its picture beside it")

    sub = command("train", train_command, "Trains a prior on clean pictures: the ceiling that EM is held against.")
    sub.add_argument("--preset", help=f"sizes: {', '.join(PRESETS)} (default: EMLIB_PRESET, then pocket)")
    sub.add_argument("--data", help="embedded, cifar10 or a folder of pictures (default: the preset's)")
    sub.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    sub.add_argument("--out", type=Path, required=True, help="safetensors file to write")

    sub = command("reconstruct", reconstruct_command, "Reconstructs held-out broken pictures with a trained prior.")
    task(sub)
    sub.add_argument("--prior", type=Path, required=True, help="safetensors file of the prior")
    sub.add_argument("--picture", type=Path, help="write a picture of the first reconstructions here")

    command("weights", weights_command, "Fetches AlexNet's weights (LPIPS, FD-AlexNet) where they are missing.")
    return parser


def em_command(args: argparse.Namespace) -> None:
    """``emlib em``: the loop, a table as it goes, a picture at the end."""
    p = preset(args.preset)
    settings = replace(p.em, seed=args.seed, iterations=args.iterations or p.em.iterations)
    if settings.iterations < 1:
        raise ValueError(f"EM needs at least one iteration, got {settings.iterations}")
    device = _device()
    schedule, task = linear_schedule().to(device), _task(args, p)
    measurements, held_out = _on(task.measurements, device), _on(task.held_out, device)
    about = {"sampler": args.sampler, "scale": args.scale if args.sampler == "dps" else "none"}
    e_step = choose_e_step(args, p, schedule, measurements)
    folder = args.folder or Path("runs") / f"em-{args.operator}-{args.sampler}-{p.name}"
    print(f"EM at preset {p.name}: {len(task.clean)} clean, {len(task.measurements)} broken pictures; kept in {folder}")
    real = _features(task)
    loop = run_em(
        measurements,
        task.clean,
        p.unet,
        schedule,
        e_step,
        settings,
        folder,
        {**about, **task.about, "e_steps": p.e_steps, "cg_steps": p.cg_steps},
    )
    start, rows, shown = time.perf_counter(), [], {"observed": task.measurements.y}
    rows.append({"iteration": "observed", **evaluate.against_truth(task.measurements.y, task.truth)})
    _print_row(rows[-1], head=True)
    for step in watch(loop):
        row: dict[str, Any] = {"iteration": step.iteration, "seconds": round(step.seconds, 1)}
        if step.iteration:
            row |= evaluate.against_truth(step.reconstructions, task.truth)
            shown[f"EM {step.iteration}"] = step.reconstructions
        samples = draw_samples(step.prior, schedule, task, p, args.seed, device)
        rows.append(row | evaluate.against_real(samples, real))
        _print_row(rows[-1])
    sampler = e_step(step.prior, settings.iterations + 1)
    rebuilt = reconstruct(sampler, step.prior, schedule, held_out, args.seed, "held-out", settings.e_batch)
    held_out = torch.cat(list(rebuilt))
    rows.append({"iteration": "held out", **evaluate.against_truth(held_out, task.held_out_truth)})
    _print_row(rows[-1])
    shown = {"truth": task.truth, **shown}
    out = args.out or folder / "result.json"
    _save_grid(shown, out.with_suffix(".png"))
    write_result(
        out,
        "em",
        {"preset": p.name, **task.about, **about, **asdict(settings), "clean": p.clean, "observations": p.observations},
        rows,
        time.perf_counter() - start,
    )
    print(f"numbers: {out}   picture: {out.with_suffix('.png')}")


def train_command(args: argparse.Namespace) -> None:
    """``emlib train``: the clean prior."""
    p = preset(args.preset)
    images = make_task(p, data=args.data, seed=args.seed).real
    schedule, device = linear_schedule(), _device()
    model = build_unet(p.unet, args.seed).to(device)
    steps = emlib.train(
        model,
        schedule.to(device),
        images,
        p.prior_updates,
        p.em.train_batch,
        p.em.init_lr,
        args.seed,
        p.em.ema_decay,
    )
    losses = []
    bar = tqdm(steps, total=p.prior_updates, desc="clean prior", unit="update")
    for step in bar:
        losses.append(step.loss)
        bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}", refresh=False)
    command = f"python -m emlib train --preset {p.name} --seed {args.seed} --out {args.out}"
    save_unet(step.ema, args.out, command=command, pictures=str(len(images)), loss=f"{sum(losses[-50:]) / 50:.4f}")
    print(f"weights: {args.out}")


def reconstruct_command(args: argparse.Namespace) -> None:
    """``emlib reconstruct``: held-out pictures with a given prior."""
    p = preset(args.preset)
    schedule, device = linear_schedule().to(_device()), _device()
    prior = load_unet(args.prior).to(device)
    task = _task(args, p)
    held_out = _on(task.held_out, device)
    sampler = choose_e_step(args, p, schedule, held_out)(prior, 0)
    parts = []
    with tqdm(total=len(held_out), desc="reconstructing", unit="picture") as bar:
        for part in reconstruct(sampler, prior, schedule, held_out, args.seed, "held-out", p.em.e_batch):
            parts.append(part)
            bar.update(len(part))
    x = torch.cat(parts)
    _print_row({"pictures": "observed", **evaluate.against_truth(task.held_out.y, task.held_out_truth)}, head=True)
    _print_row({"pictures": "rebuilt", **evaluate.against_truth(x, task.held_out_truth)})
    if args.picture:
        _save_grid({"truth": task.held_out_truth, "observed": task.held_out.y, "rebuilt": x}, args.picture)


def weights_command(args: argparse.Namespace) -> None:
    """``emlib weights``: AlexNet, where it can be had; the library works without it, with fewer scores."""
    if not metrics.alexnet_missing():
        print(f"AlexNet's weights are at {metrics.alexnet_path()}")
        return
    from torchvision.models import AlexNet_Weights

    try:
        torch.hub.load_state_dict_from_url(AlexNet_Weights.IMAGENET1K_V1.url, check_hash=True)
    except OSError as error:  # no network, no disk
        print(f"AlexNet's weights could not be fetched ({error}): LPIPS and FD-AlexNet will be left out")
        return
    print(f"AlexNet's weights are now at {metrics.alexnet_path()}")


def choose_e_step(args: argparse.Namespace, p: Preset, schedule: Schedule, measurements: Measurements) -> EStep:
    """The E-step that the command line names."""
    if args.sampler == "mmps":
        return lambda prior, k: functools.partial(mmps, steps=p.e_steps, cg_steps=p.cg_steps)
    if args.scale in guidance.RULES:
        probe = measurements.select(range(min(guidance.PROBE, len(measurements))))
        search = guidance.searched_dps(args.scale, probe, schedule, p.dps_steps, args.seed)

        def e_step(prior: UNet, k: int) -> Sampler:
            sampler = search(prior, k)
            tqdm.write(f"E-step {k}: guidance scale {sampler.keywords['scale']:g} by {args.scale}")
            return sampler

        return e_step
    try:
        scale = float(args.scale)
    except ValueError:
        raise ValueError(f"--scale takes a number or {' or '.join(guidance.RULES)}, got {args.scale!r}") from None
    if scale <= 0:
        raise ValueError(f"--scale must be above 0, got {scale}")
    return lambda prior, k: functools.partial(dps, steps=p.dps_steps, scale=scale)


def draw_samples(prior: UNet, schedule: Schedule, task: Task, p: Preset, seed: int, device: str) -> Tensor:
    """The preset's number of pictures from the prior, [N, C, H, W] on [-1, 1]."""
    shape = tuple(task.truth.shape[1:])
    batches = evaluate.draw(prior, schedule, shape, p.samples, p.sample_steps, seed, device=device)
    return torch.cat(list(tqdm(batches, total=-(-p.samples // 250), desc="samples", leave=False)))


def _task(args: argparse.Namespace, p: Preset) -> Task:
    return make_task(p, args.operator, args.fraction, args.noise_std, args.seed, args.data)


def _features(task: Task) -> Tensor | None:
    if missing := metrics.alexnet_missing():
        print(f"LPIPS and FD-AlexNet are left out: {missing}")
    return evaluate.features_or_none(task.real)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _on(m: Measurements, device: str) -> Measurements:
    return replace(m, y=m.y.to(device))


def _print_row(row: dict[str, Any], head: bool = False) -> None:
    if head:
        print(f"{'':>10} {'PSNR dB':>9} {'LPIPS':>8} {'FD-AlexNet':>11} {'seconds':>8}")
    name = row.get("iteration", row.get("pictures"))
    columns = {"PSNR": "9.2f", "LPIPS": "8.4f", "FD-AlexNet": "11.2f", "seconds": "8.0f"}
    cells = [f"{row[key]:>{form}}" if key in row else " " * int(form.split(".")[0]) for key, form in columns.items()]
    tqdm.write(f"{name!s:>10} {' '.join(cells)}".rstrip())


def _save_grid(rows: dict[str, Tensor], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from emlib.viz import grid

    path.parent.mkdir(parents=True, exist_ok=True)
    grid({name: x.cpu() for name, x in rows.items()}).savefig(path, dpi=110, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    sys.exit(main())

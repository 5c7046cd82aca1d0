"""``emlib em``: the loop, a table as it goes, a picture at the end."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from emlib.cli.words import Strangers, add_task, check_words, path_of, print_row
from emlib.data.datasets import load
from emlib.em.e_step import EStep
from emlib.em.events import Iteration, Progress
from emlib.em.loop import run_em
from emlib.metrics import alexnet, summary
from emlib.metrics.summary import CROWD
from emlib.operators import find_operator
from emlib.planning.budgets import CARDS, calls_and_steps, counted, timed_here
from emlib.planning.checks import checks, refuse
from emlib.planning.dry_run import dry_run, em_stages
from emlib.planning.minutes import observations_there, plan_minutes
from emlib.planning.plan import Plan, keep_plan, kept_plan
from emlib.posterior import find_sampler, reconstruct
from emlib.runs.build import draw_samples, e_step_of, start_of, task_of
from emlib.runs.job import STARTS, Job, job_of
from emlib.runs.progress import until, watch
from emlib.runs.record import write_result
from emlib.runs.task import Task
from emlib.runs.tensorboard import board, tell_row, told
from emlib.runtime.device import pick_device
from emlib.runtime.distributed import ranks
from emlib.schedule import Schedule, linear_schedule
from emlib.viz.figures import save_grid

GLANCE = 1000
"""Pictures of an E-step that are scored where time is short."""


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib em``."""
    add_task(sub, strangers)
    sub.add_argument(
        "--start",
        default="clean",
        help="first prior from: clean (a few clean pictures), gaussian (fitted to the measurements), preprocessed "
        "(filtered measurements) or a folder of other pictures (default: clean)",
    )
    sub.add_argument("--iterations", type=int, help="EM iterations (default: the preset's)")
    sub.add_argument("--folder", type=path_of, help="where the run is kept (default: runs/em-OPERATOR-SAMPLER-PRESET)")
    sub.add_argument("--out", type=path_of, help="record the run in this JSON file, with its picture beside it")
    sub.add_argument(
        "--dry-run",
        action="store_true",
        help="only say what the run would do, cost and need, and whether all of it is there; status 2 if it is not",
    )
    sub.add_argument(
        "--minutes",
        type=float,
        help="how long it may take: this machine is timed, and network, observations and updates follow from that",
    )
    sub.add_argument(
        "--device", choices=list(CARDS), help="with --minutes and --dry-run: the plan for this one, by the cost model"
    )
    sub.add_argument("--e-batch", type=int, help="pictures sampled at a time: memory, and on a GPU rounding")
    sub.add_argument("--train-batch", type=int, help="pictures in an update (default: the preset's)")
    sub.add_argument(
        "--tensorboard", nargs="?", const="", metavar="DIR", help="log for TensorBoard, in DIR or in the run's folder"
    )


def run(args: argparse.Namespace) -> int:
    """``emlib em``, or with ``--dry-run`` its plan alone."""
    check_words(args)
    begin, job, device = time.perf_counter(), job_of(args), pick_device()
    if args.device and not (args.minutes and args.dry_run):
        raise ValueError("--device plans for a machine that is not here: give it with --minutes and --dry-run")
    if args.minutes is None:
        return dry_run(job, device) if args.dry_run else run_job(job, device)
    if given := [word for word in ("iterations", "e_batch", "train_batch") if getattr(args, word) is not None]:
        raise ValueError(f"--minutes chooses --{given[0].replace('_', '-')} itself; leave one of them out")
    if ranks().world > 1:
        raise ValueError("--minutes plans for one process; start it without torchrun")
    if args.folder is None:
        folder = job.folder.with_name(f"{job.folder.name}-minutes")
        job = replace(job, folder=folder, out=args.out or folder / "result.json")
    p, there = job.preset, observations_there(job.data)
    begun = None if job.start in STARTS[1:] else p.clean  # which learn from as many pictures as there are
    if args.device:
        print("\n".join(plan_minutes(p, args.minutes, there, counted(p, args.device), begun=begun).lines()))
        return 0
    plan = kept_plan(job.folder)
    if plan is None:
        if find_sampler(job.sampler).steps != "e_steps":
            raise ValueError(f"--minutes plans the calls of MMPS and PiGDM, not those of {job.sampler}; leave it out")
        load(job.data, p.size, p.unet.in_channels)  # decoding them is part of the time
        spent = time.perf_counter() - begin
        plan = plan_minutes(p, args.minutes, there, timed_here(p, device), spent, begun=begun)
    print("\n".join(plan.lines()))
    sizes = plan.sizes(job.preset)
    solves = "cg_steps" in find_sampler(job.sampler).settings
    if solves and find_operator(job.operator).hides:
        calls, steps = calls_and_steps(sizes.e_steps, job.noise_std)
        sizes = replace(sizes, e_steps=calls, cg_steps=steps)
    job = replace(job, preset=sizes)
    if args.dry_run:
        return dry_run(job, device)
    return run_job(replace(job, ends=begin + 60 * args.minutes - plan.seconds["scores"]), device, plan)


def run_job(job: Job, device: str, plan: Plan | None = None) -> int:
    """Runs EM; the first process shows, scores and records it, the others work along."""
    refuse(checks(job, em_stages(job), device))
    if plan is not None:
        keep_plan(plan, job.folder)
    here, schedule = ranks(), linear_schedule().to(device)
    task = task_of(job).on(device)
    e_step, start = e_step_of(job, schedule, task.measurements), start_of(job, task, schedule)
    if here.first:
        count = len(task.measurements)
        print(f"EM at preset {job.preset.name}: {count} broken pictures, start {job.start}; kept in {job.folder}")
    about = {**job.about(), **task.about}
    loop = run_em(task.measurements, start, job.preset.unet, schedule, e_step, job.settings, job.folder, about)
    if here.first:
        last = job.settings.iterations
        timed = loop if plan is None or job.ends is None else until(loop, job.ends, last, plan.least)
        _show(job, task, timed, e_step, schedule, device, plan)
    else:
        for _ in loop:
            pass
    return 0


def _show(
    job: Job,
    task: Task,
    loop: Iterator[Progress | Iteration],
    e_step: EStep,
    schedule: Schedule,
    device: str,
    plan: Plan | None,
) -> None:
    """A row for each iteration as it comes, and at the end the record and its picture."""
    real = _features(task, device) if plan is None else None
    observed = task.measurements.view()
    begin, step, shown = time.perf_counter(), None, {"truth": task.truth, "observed": observed}
    rows: list[dict[str, Any]] = [{"iteration": "observed", **summary.against_truth(observed, task.truth)}]
    print_row(rows[-1], head=True)
    with board(job.board) as tell:
        for step in watch(told(loop, tell)):
            rows.append(_scores(job, task, step, real, schedule, device))
            if step.iteration:
                shown[f"EM {step.iteration}"] = step.reconstructions
            tell_row(rows[-1], tell)
            print_row(rows[-1])
    if step is None:
        print("no prior is finished yet, so there is nothing to score")
        return
    rows.append({"iteration": "held out", **_held_out(job, task, e_step, step, schedule)})
    if plan is not None and plan.samples:
        rows[-1] |= _crowd(job, task, step, schedule, device)
    print_row(rows[-1])
    save_grid(shown, job.out.with_suffix(".png"))
    sizes = {"clean": job.preset.clean, "observations": job.preset.observations}
    settings = {"preset": job.preset.name, **task.about, **job.about(), **asdict(job.settings), **sizes}
    settings |= {} if plan is None else {"plan": asdict(plan)}
    write_result(job.out, "em", settings, rows, time.perf_counter() - begin)
    print(f"numbers: {job.out}   picture: {job.out.with_suffix('.png')}")


def _scores(
    job: Job, task: Task, step: Iteration, real: Tensor | None, schedule: Schedule, device: str
) -> dict[str, Any]:
    """The row of one iteration: what it drew against the truth, what its prior draws against real pictures."""
    row: dict[str, Any] = {"iteration": step.iteration, "seconds": round(step.seconds, 1)}
    row |= {} if step.updates is None else {"updates": step.updates}
    if step.iteration:
        row |= {"phase": step.phase} | ({} if step.scale is None else {"scale": step.scale})
        some = slice(None if job.ends is None else GLANCE)
        row |= summary.against_truth(step.reconstructions[some], task.truth[list(step.rows)[some]])
    if real is not None:
        samples = draw_samples(step.prior, schedule, task, job.preset, job.settings.seed, device)
        row |= summary.against_real(samples, real)
    return row


def _crowd(job: Job, task: Task, step: Iteration, schedule: Schedule, device: str) -> dict[str, Any]:
    """What the last prior draws, against real pictures."""
    real = summary.features_or_none(task.real[:CROWD], device)
    if real is None:
        return {}
    samples = draw_samples(step.prior, schedule, task, job.preset, job.settings.seed, device)
    return summary.with_floor(samples, real)


def _held_out(job: Job, task: Task, e_step: EStep, step: Iteration, schedule: Schedule) -> dict[str, float]:
    """Scores of the held-out pictures, drawn as the E-step after the last iteration would."""
    sampler, settings = e_step(step.prior, step.iteration + 1), job.settings
    drawn = reconstruct(sampler, step.prior, schedule, task.held_out, settings.seed, "held-out", settings.e_batch)
    return summary.against_truth(torch.cat(list(drawn)), task.held_out_truth)


def _features(task: Task, device: str) -> Tensor | None:
    if missing := alexnet.alexnet_missing():
        print(f"LPIPS and FD-AlexNet are left out: {missing}")
    return summary.features_or_none(task.real, device)

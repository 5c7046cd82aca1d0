"""From names to objects: what the words of a command line stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from emlib.data.datasets import load
from emlib.diffusion import Eps, draw
from emlib.em.e_step import EStep
from emlib.em.initial import fit_gaussian, preprocessed
from emlib.guidance.rules import RULES
from emlib.guidance.search import PROBE, searched_dps
from emlib.operators import Measurements
from emlib.posterior import find_sampler
from emlib.runs.job import STARTS, Job, scale_of
from emlib.runs.presets import Preset
from emlib.runs.task import Task, make_task
from emlib.runtime.distributed import ranks
from emlib.runtime.precision import quick
from emlib.schedule import Schedule


def task_of(job: Job) -> Task:
    """The job's pictures, and what is measured of them."""
    p, seed = job.preset, job.settings.seed
    return make_task(p, job.operator, noise_std=job.noise_std, seed=seed, data=job.data, **job.parameters)


def e_step_of(job: Job, schedule: Schedule, measurements: Measurements) -> EStep:
    """The job's E-step."""
    return choose_e_step(job.sampler, job.scale, job.settings.seed, job.preset, schedule, measurements)


def start_of(job: Job, task: Task, schedule: Schedule) -> Tensor | Eps:
    """What the job begins with."""
    return choose_start(job.start, task, task.measurements, schedule)


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


def choose_e_step(
    sampler: str, scale: str, seed: int, p: Preset, schedule: Schedule, measurements: Measurements
) -> EStep:
    """The E-step by the names that the command line gives its sampler and scale."""
    record = find_sampler(sampler)
    if record.guided and scale in RULES:
        probe = measurements.select(range(min(PROBE, len(measurements))))
        steps, _ = record.cost(p)
        search = searched_dps(scale, probe, schedule, steps, seed, sampler=record.sampler)
        search.say = tqdm.write if ranks().first else None
        return search  # itself, so that EM finds its last scale when a run resumes
    filled_in = record.filled_in(p, scale_of(scale) if record.guided else None)
    return lambda prior, k: filled_in


def draw_samples(
    prior: Eps, schedule: Schedule, task: Task, p: Preset, seed: int, device: str, eta: float = 1.0
) -> Tensor:
    """The preset's number of pictures from the prior, [N, C, H, W] on [-1, 1], to take distances of.

    By default with fresh noise in each step: DDIM, whose path has none, keeps every mistake of the network, and in 25
    calls turned the order of methods (chapter 12).
    """
    _, channels, height, width = task.truth.shape
    prior = quick(prior, replace(p.em.sampling, compile=False))  # for one crowd, compiling would take longer
    batches = draw(prior, schedule, (channels, height, width), p.samples, p.sample_steps, seed, eta=eta, device=device)
    return torch.cat(list(tqdm(batches, total=-(-p.samples // 250), desc="samples", leave=False)))

r"""Every method on one task, one small file a method and seed; a method that has its file is never run again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from emlib.data.datasets import load
from emlib.data.pixels import fitted
from emlib.em.checkpoint import RunFolder
from emlib.experiments.base import SOLVER, Setting
from emlib.experiments.config import Experiment, here
from emlib.experiments.methods import METHODS
from emlib.experiments.table import check_pictures, keep_pictures, settings_of
from emlib.metrics import alexnet, summary
from emlib.metrics.summary import CROWD
from emlib.runs.build import draw_samples
from emlib.runs.presets import Preset
from emlib.runs.record import provenance
from emlib.runs.task import make_task
from emlib.runtime.device import pick_device
from emlib.runtime.files import sealed, write_json
from emlib.schedule import linear_schedule
from emlib.unet import UNet, save_unet

LAST_DRAWS = "FD-AlexNet of the last E-step"
"""Column: how far from real pictures is what the last M-step was given; what its prior draws has its own column."""


def run_missing(
    experiment: Experiment,
    methods: Iterable[str],
    seed: int,
    folder: Path,
    kept: Path,
    data: str,
    sizes: Preset | None = None,
    solver: str = SOLVER,
) -> Iterator[list[dict]]:
    """Runs the methods that have no file yet, and yields the rows of each once they are kept.

    Args:
        experiment: the task, and the sizes where no others are given.
        methods: which of its methods.
        seed: seed of everything random.
        folder: for what a method needs to resume, and the prior that it came to, as METHOD.safetensors.
        kept: for one file a finished method.
        data: the data set, as :func:`emlib.data.datasets.load` takes it.
        sizes, solver: those of a recorded table, which are not today's (:mod:`emlib.experiments.recorded`).

    Raises:
        ValueError: if ``kept`` or ``folder`` holds files of another task or other sizes, ``kept`` of other pictures.
    """
    p, device = sizes or experiment.sizes(), pick_device()
    said = settings_of(experiment, seed, p, solver)
    RunFolder(kept).claim(said)
    if all((kept / f"{method}.json").is_file() for method in methods):
        return
    RunFolder(folder).claim(said)  # EM's own folders do not know what their E-steps were drawn with
    task = make_task(p, experiment.operator, experiment.fraction, experiment.noise_std, seed, data).on(device)
    for each in experiment.seeds:
        check_pictures(kept.parent / f"seed-{each}", experiment.methods, task.about)
    other = None
    if experiment.other:
        _, channels, size, _ = task.clean.shape
        other = fitted(load(here(experiment.other), size, channels).clean, size, channels)[: p.clean]
    if reason := alexnet.alexnet_missing():
        print(f"LPIPS and FD-AlexNet are left out: {reason}")
    schedule, crowd = linear_schedule().to(device), summary.features_or_none(task.real[:CROWD], device)
    for method in methods:
        file, work = kept / f"{method}.json", folder / method
        if file.is_file():
            continue
        resumed, start, cores = work.exists(), time.perf_counter(), time.process_time()
        outcome = METHODS[method](Setting(p, task, schedule, seed, work, other, solver))
        row = {"method": method, "seed": seed, "seconds": round(time.perf_counter() - start, 1)}
        if device == "cpu":  # where others compute beside it, its own processor time is the one to compare
            row |= {"processor seconds": round(time.process_time() - cores, 1), "threads": torch.get_num_threads()}
        row |= {"resumed": True} if resumed else {}  # its seconds are those since it was resumed
        if isinstance(outcome.prior, UNet):
            save_unet(outcome.prior, work.with_suffix(".safetensors"))
        samples = None if outcome.prior is None else draw_samples(outcome.prior, schedule, task, p, seed, device)
        row |= summary.with_floor(outcome.crowd if samples is None else samples, crowd)
        if drawn := summary.with_floor(outcome.trained_on, crowd):
            row[LAST_DRAWS] = drawn["FD-AlexNet"]
        rows = [{**row, "by": by, **summary.with_interval(x, task.held_out_truth)} for by, x in outcome.rebuilt.items()]
        keep_pictures(outcome, samples, task, file.with_suffix(".safetensors"))
        write_json(file, sealed({"rows": rows, "task": task.about, **provenance()}))
        yield rows

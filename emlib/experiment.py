r"""A table of the paper, made anew: every method on one task, one small file a method and seed, gathered at the end.

``experiments/NAME.json`` says which methods take part and on what; the preset says how large all is. A method that
has its file is never run again, so the command may be stopped and repeated, or be shared out by ``--methods``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from emlib import evaluate, metrics
from emlib.commands import draw_samples, pick_device
from emlib.contenders import CONTENDERS, Setting
from emlib.data import fitted, load
from emlib.files import write_json
from emlib.folder import RunFolder
from emlib.gathering import gather, keep_pictures
from emlib.presets import Preset, preset
from emlib.results import provenance
from emlib.schedule import linear_schedule
from emlib.tasks import make_task
from emlib.unet import UNet, save_unet
from emlib.variations import VARIATIONS

METHODS = CONTENDERS | VARIATIONS
"""All that an experiment may name."""
LAST_DRAWS = "FD-AlexNet of the last E-step"
"""Column: how far from real pictures is what the last M-step was given; what its prior draws has its own column."""
CROWD = 10_000
"""Real pictures that a Fréchet distance is taken to, at most."""


@dataclass(frozen=True)
class Experiment:
    """What ``experiments/NAME.json`` says.

    Attributes:
        about: a sentence.
        preset: gives the sizes.
        operator, fraction, noise_std: the task, as :func:`emlib.tasks.make_task` takes it.
        methods: in the table's order.
        seeds: each method runs once with each.
        iterations: EM iterations, where not the preset's; trained baselines and the ceiling get as many updates fewer.
        cg_steps: conjugate-gradient steps of MMPS, where not the preset's.
        other: data set of another kind of pictures, for ``start-other``; as :func:`emlib.data.load` takes it.
    """

    about: str
    preset: str
    operator: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    fraction: float = 0.6
    noise_std: float = 0.0
    iterations: int | None = None
    cg_steps: int | None = None
    other: str = ""

    def __post_init__(self) -> None:
        check_methods(self.methods)
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"EM needs at least one iteration, got iterations={self.iterations}")
        if self.cg_steps is not None and self.cg_steps < 1:
            raise ValueError(f"MMPS needs at least one conjugate-gradient step, got cg_steps={self.cg_steps}")
        if "start-other" in self.methods and not self.other:
            raise ValueError("start-other needs another data set; name it as other")

    def sizes(self) -> Preset:
        """The preset, cut to the number of iterations, with the experiment's conjugate-gradient steps."""
        p = preset(self.preset)
        p = replace(p, cg_steps=self.cg_steps or p.cg_steps)
        if self.iterations is None:
            return p
        saved = (p.em.iterations - self.iterations) * p.em.m_updates
        return replace(p, em=replace(p.em, iterations=self.iterations), prior_updates=p.prior_updates - saved)


def check_methods(names: Iterable[str]) -> None:
    """Refuses methods that there are not."""
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")


def read_experiment(name: str) -> Experiment:
    """Reads an experiment: a JSON file by its path, or by its name in ``experiments/``, here or beside the library.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not as :class:`Experiment` wants it.
    """
    places = [Path("experiments"), Path(__file__).resolve().parent.parent / "experiments"]
    files = [Path(name), *(place / f"{name}.json" for place in places)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        names = sorted({file.stem for place in places for file in place.glob("*.json")})
        raise FileNotFoundError(f"no experiment {name}; there are {', '.join(names)}, or give the path of a JSON file")
    try:
        said = json.loads(found.read_text())
        return Experiment(**{key: tuple(value) if isinstance(value, list) else value for key, value in said.items()})
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{found} is no experiment: {error}") from None


def experiment_command(args: argparse.Namespace) -> None:
    """``emlib experiment``: runs what has no file yet, then gathers all that have one."""
    name, experiment = Path(args.name).stem, read_experiment(args.name)
    methods, seeds = args.methods or experiment.methods, args.seeds or experiment.seeds
    listed = tuple(dict.fromkeys([*experiment.seeds, *seeds]))
    command = whole_command(args, listed if len(listed) > len(experiment.seeds) else ())
    experiment = replace(experiment, preset=args.preset or experiment.preset, seeds=listed)
    check_methods(methods)
    data = args.data or here(experiment.sizes().data)
    # other sizes are another table, which must not mix with the recorded one
    own = Path("data") / "results" / name if args.preset is None else Path("runs") / f"{name}-{args.preset}"
    out = args.out or own.with_name(f"{own.name}.json")
    folder, kept = args.folder or Path("runs") / own.name, out.with_suffix("")
    for seed in seeds:
        part = f"seed-{seed}"
        for rows in run_missing(experiment, methods, seed, folder / part, kept / part, data):
            for row in rows:
                found = [f"{key} {row[key]:.3f}" for key in ("PSNR", "SSIM", "LPIPS", "FD-AlexNet") if key in row]
                tqdm.write(f"seed {seed}  {row['method']:13} {row['by']:9} {'  '.join(found)}  {row['seconds']:.0f} s")
    missing = gather(experiment, name, kept, out, command)
    print(f"numbers: {out}" + (f"   still missing: {', '.join(missing)}" if missing else ""))


def whole_command(args: argparse.Namespace, seeds: Iterable[int] = ()) -> str:
    """The command given, without what takes a part of the table; with these seeds where they aren't its own."""
    options = {name: getattr(args, name) for name in ("data", "preset", "folder", "out")}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    words += ["--seeds", *map(str, seeds)] if seeds else []
    return shlex.join(["python", "-m", "emlib", "experiment", args.name, *words])


def here(data: str) -> str:
    """A data set that does not come with the project, or what ``EMLIB_PICTURES`` names in its place."""
    return data if data == "embedded" else os.environ.get("EMLIB_PICTURES") or data


def run_missing(
    experiment: Experiment, methods: Iterable[str], seed: int, folder: Path, kept: Path, data: str
) -> Iterator[list[dict]]:
    """Runs the methods that have no file yet, and yields the rows of each once they are kept.

    Args:
        experiment: the task and the sizes.
        methods: which of its methods.
        seed: seed of everything random.
        folder: for what a method needs to resume, and the prior that it came to, as METHOD.safetensors.
        kept: for one file a finished method.
        data: the data set, as :func:`emlib.data.load` takes it.

    Raises:
        ValueError: if ``kept`` holds files of another task, other sizes or data of another name.
    """
    p, device = experiment.sizes(), pick_device()
    said = {key: value for key, value in asdict(experiment).items() if key not in ("about", "methods", "seeds")}
    RunFolder(kept).claim({**said, **asdict(p), "seed": seed, "data": Path(data).name})
    if all((kept / f"{method}.json").is_file() for method in methods):
        return
    task = make_task(p, experiment.operator, experiment.fraction, experiment.noise_std, seed, data).on(device)
    other = None
    if experiment.other:
        _, channels, size, _ = task.clean.shape
        other = fitted(load(here(experiment.other), size, channels).clean, size, channels)[: p.clean]
    if reason := metrics.alexnet_missing():
        print(f"LPIPS and FD-AlexNet are left out: {reason}")
    schedule, crowd = linear_schedule().to(device), evaluate.features_or_none(task.real[:CROWD])
    for method in methods:
        file, work = kept / f"{method}.json", folder / method
        if file.is_file():
            continue
        resumed, start = work.exists(), time.perf_counter()
        outcome = METHODS[method](Setting(p, task, schedule, seed, work, other))
        row = {"method": method, "seed": seed, "seconds": round(time.perf_counter() - start, 1)}
        row |= {"threads": torch.get_num_threads()} if device == "cpu" else {}
        row |= {"resumed": True} if resumed else {}  # its seconds are those since it was resumed
        if isinstance(outcome.prior, UNet):
            save_unet(outcome.prior, work.with_suffix(".safetensors"))
        samples = None if outcome.prior is None else draw_samples(outcome.prior, schedule, task, p, seed, device)
        row |= evaluate.with_floor(outcome.crowd if samples is None else samples, crowd)
        if drawn := evaluate.with_floor(outcome.trained_on, crowd):
            row[LAST_DRAWS] = drawn["FD-AlexNet"]
        rows = [
            {**row, "by": by, **evaluate.with_interval(x, task.held_out_truth)} for by, x in outcome.rebuilt.items()
        ]
        keep_pictures(outcome, samples, task, file.with_suffix(".safetensors"))
        write_json(file, {"rows": rows, "task": task.about, **provenance()})
        yield rows

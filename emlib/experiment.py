r"""A table of the paper, made anew: every method on one task, one small file a method and seed, gathered at the end.

``experiments/NAME.json`` says which methods take part and on what; the preset says how large all is. A method that
has its file is never run again, so the command may be stopped and repeated, or run by several processes at once
with other ``--methods``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from emlib import evaluate, metrics
from emlib.commands import draw_samples, moved, pick_device, save_grid
from emlib.contenders import CONTENDERS, Outcome, Setting
from emlib.files import whole, write_json
from emlib.folder import RunFolder
from emlib.presets import preset
from emlib.results import provenance, write_result
from emlib.schedule import linear_schedule
from emlib.tasks import Task, make_task

SHOWN = 10
"""Pictures of each row that are kept for the figure."""
CROWD = 10_000
"""Real pictures that a Fréchet distance is taken to, at most."""


@dataclass(frozen=True)
class Experiment:
    """What ``experiments/NAME.json`` says.

    Attributes:
        about: a sentence for the reader.
        preset: sizes.
        operator, fraction, noise_std: the task, as :func:`emlib.tasks.make_task` takes it.
        methods: names in :data:`emlib.contenders.CONTENDERS`, in the table's order.
        seeds: one whole table each.
    """

    about: str
    preset: str
    operator: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    fraction: float = 0.6
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        check_methods(self.methods)


def check_methods(names: tuple[str, ...] | list[str]) -> None:
    """Refuses methods that there are not."""
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise ValueError(f"unknown methods {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")


def read_experiment(path: str | Path) -> Experiment:
    """Reads an experiment.

    Args:
        path: a JSON file, or the name of one in ``experiments/``, here or beside the library.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not as :class:`Experiment` wants it.
    """
    places = [Path("experiments"), Path(__file__).resolve().parent.parent / "experiments"]
    files = [Path(path), *(place / f"{path}.json" for place in places)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        names = sorted({file.stem for place in places for file in place.glob("*.json")})
        raise FileNotFoundError(f"no experiment {path}; there are {', '.join(names)}, or give the path of a JSON file")
    try:
        said = json.loads(found.read_text())
        return Experiment(**{key: tuple(value) if isinstance(value, list) else value for key, value in said.items()})
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{found} is no experiment: {error}") from None


def experiment_command(args: argparse.Namespace) -> None:
    """``emlib experiment``: runs what has no file yet, then gathers all that have one."""
    name = Path(args.name).stem
    experiment = read_experiment(args.name)
    experiment = replace(experiment, preset=args.preset or experiment.preset, seeds=args.seeds or experiment.seeds)
    check_methods(args.methods or ())
    folder = args.folder or Path("runs") / name
    out = args.out or Path("data") / "results" / f"{name}.json"
    for seed in experiment.seeds:
        claim(experiment, seed, folder, args.data)
        for file in run_missing(experiment, seed, folder, args.data, args.methods or experiment.methods):
            for row in json.loads(file.read_text())["rows"]:
                found = [f"{key} {row[key]:.3f}" for key in ("PSNR", "SSIM", "LPIPS", "FD-AlexNet") if key in row]
                tqdm.write(f"seed {seed}  {row['method']:13} {row['by']:9} {'  '.join(found)}  {row['seconds']:.0f} s")
    missing = gather(experiment, name, folder, out)
    print(f"numbers: {out}" + (f"   still missing: {', '.join(missing)}" if missing else ""))


def claim(experiment: Experiment, seed: int, folder: Path, data: str | None) -> None:
    """Makes sure that the files of a folder belong together: same sizes, same task, same data by name."""
    said = {key: value for key, value in asdict(experiment).items() if key not in ("about", "methods", "seeds")}
    p = preset(experiment.preset)
    RunFolder(folder / f"seed-{seed}").claim({**said, **asdict(p), "seed": seed, "data": Path(data or p.data).name})


def run_missing(
    experiment: Experiment, seed: int, folder: Path, data: str | None, methods: tuple[str, ...] | list[str]
) -> Iterator[Path]:
    """Runs the methods that have no file yet, and yields the file of each."""
    files = {method: result_file(folder, method, seed) for method in methods}
    if all(file.is_file() for file in files.values()):
        return
    p, device = preset(experiment.preset), pick_device()
    schedule = linear_schedule().to(device)
    task = make_task(p, experiment.operator, experiment.fraction, experiment.noise_std, seed, data)
    task = replace(task, measurements=moved(task.measurements, device), held_out=moved(task.held_out, device))
    if reason := metrics.alexnet_missing():
        print(f"LPIPS and FD-AlexNet are left out: {reason}")
    crowd = evaluate.features_or_none(task.real[:CROWD])
    for method, file in files.items():
        if file.is_file():  # looked at only now: another process may have made it
            continue
        work = file.parent / method
        resumed, start = work.exists(), time.perf_counter()
        outcome = CONTENDERS[method](Setting(p, task, schedule, seed, work))
        row = {"method": method, "seed": seed, "seconds": round(time.perf_counter() - start, 1)}
        row |= {"resumed": True} if resumed else {}  # its seconds are those since it was resumed
        samples = None if outcome.prior is None else draw_samples(outcome.prior, schedule, task, p, seed, device)
        row |= evaluate.with_floor(outcome.crowd if samples is None else samples, crowd)
        rows = [
            {**row, "by": by, **evaluate.with_interval(x, task.held_out_truth)} for by, x in outcome.rebuilt.items()
        ]
        keep_pictures(outcome, samples, task, file.with_suffix(".safetensors"))
        write_json(file, {"rows": rows, "task": task.about, **provenance()})
        yield file


def result_file(folder: Path, method: str, seed: int) -> Path:
    """Where the rows of a method are kept; its pictures lie beside."""
    return folder / f"seed-{seed}" / f"{method}.json"


def keep_pictures(outcome: Outcome, samples: Tensor | None, task: Task, path: Path) -> None:
    """Writes the first pictures of everything, for the figure."""
    shown = {"truth": task.held_out_truth, **outcome.rebuilt} | ({} if samples is None else {"samples": samples})
    with whole(path) as part:
        save_file({name: x[:SHOWN].detach().cpu().contiguous() for name, x in shown.items()}, part)


def gather(experiment: Experiment, name: str, folder: Path, out: Path) -> list[str]:
    """Writes all rows that there are to one recorded run, and the pictures of the first seed beside it.

    Returns:
        What has no file yet.
    """
    parts, missing, shown = [], [], {}
    for seed in experiment.seeds:
        for method in experiment.methods:
            file = result_file(folder, method, seed)
            if not file.is_file():
                missing.append(f"{method} (seed {seed})")
                continue
            parts.append(json.loads(file.read_text()))
            if seed == experiment.seeds[0]:
                pictures = load_file(file.with_suffix(".safetensors"))
                shown |= {"truth": pictures.pop("truth"), **{f"{method}: {by}": x for by, x in pictures.items()}}
    if not parts:
        return missing
    rows = [row for part in parts for row in part["rows"]]
    seconds = sum(part["rows"][0]["seconds"] for part in parts)
    task = {key: value for key, value in parts[0]["task"].items() if key != "seed"}
    settings = {**asdict(experiment), **task, "commits": sorted({part["commit"] for part in parts}), "missing": missing}
    write_result(out, name, settings, rows, seconds)
    save_grid({key: x for key, x in shown.items() if torch.isfinite(x).all()}, out.with_suffix(".png"))
    return missing


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The words that ``emlib experiment`` takes."""
    sub.add_argument("name", help="an experiment in experiments/, or the path of a JSON file like them")
    sub.add_argument(
        "--data",
        default=os.environ.get("EMLIB_PICTURES"),
        help="other data than the preset's: a folder of pictures, say (default: EMLIB_PICTURES)",
    )
    sub.add_argument("--preset", help="other sizes than the experiment's")
    sub.add_argument("--methods", nargs="+", help=f"only these of {', '.join(CONTENDERS)} (default: all it lists)")
    sub.add_argument("--seeds", nargs="+", type=int, help="only these (default: all it lists)")
    sub.add_argument("--folder", type=Path, help="where the methods' files are kept (default: runs/NAME)")
    sub.add_argument("--out", type=Path, help="the gathered table (default: data/results/NAME.json)")

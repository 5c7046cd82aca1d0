"""Whether a run of EM can start, found out in seconds and without reading a picture: one check a line."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from emlib.data.datasets import FEWEST, data_dir, part_sizes
from emlib.data.decode import datasets_dir, pictures_below
from emlib.data.faces import PEOPLE, by_people, face_files
from emlib.data.sources import celeba_files, cifar10_absent
from emlib.em.checkpoint import RunFolder
from emlib.em.loop import free_to_change
from emlib.metrics import alexnet
from emlib.planning.cost import Stage
from emlib.planning.memory import disk_need, gigabytes, memory_needs
from emlib.runs.job import STARTS, Job, check_names
from emlib.runs.outputs import try_result
from emlib.runtime.distributed import as_the_first, ranks
from emlib.runtime.locks import FolderInUse, held_elsewhere
from emlib.runtime.places import existing, try_folder

KNOWN = {"embedded": 10_000, "cifar10": 50_000}
"""Pictures of the data sets that are known by name."""
FEATURES = 256
"""Numbers of a picture that FD-AlexNet compares crowds by; a crowd has to be larger."""
FACES = [len(rows) for rows in by_people(list(range(PEOPLE)))]
"""Pictures of the three parts of the faces, which are not cut by their number."""


@dataclass(frozen=True)
class Check:
    """One thing that a run needs.

    Attributes:
        name: what it is.
        ok: whether it is there.
        said: what was found, or the remedy.
        without: what a run does without it: "stops", "fetches" it, which takes a network, or "goes on".
    """

    name: str
    ok: bool
    said: str
    without: str = "stops"

    def line(self) -> str:
        """The check as text."""
        return f"{'ok' if self.ok else 'missing':8} {self.name}: {self.said}"


def checks(job: Job, stages: list[Stage], device: str) -> Iterator[Check]:
    """All that a run needs, from what costs least to find out.

    Args:
        job: the run.
        stages: of :func:`emlib.planning.cost.plan` at any rate; their memory counts.
        device: "cpu" or "cuda".
    """
    yield _tried("task, sampler, scale and start", lambda: _names(job), f"{job.operator}, {job.sampler}")
    yield _shared_out(job)
    yield _data(job)
    yield _run_folder(job)
    yield _outputs(job)
    yield _disk(job, stages)
    yield from _memory(job, stages, device)
    yield from _packages(job, device)
    missing = alexnet.alexnet_missing()
    yield Check("AlexNet", not missing, missing or f"in {alexnet.alexnet_path()}", without="goes on")
    if Path(job.data).is_dir() and (real := part_sizes(len(pictures_below(Path(job.data))))[1]) <= FEATURES:
        said = f"{real} real pictures are too few for its {FEATURES} features, so it is left out"
        yield Check("FD-AlexNet", False, said, without="goes on")


def refuse(found: Iterator[Check]) -> None:
    """Refuses a run that lacks what it cannot do without.

    Raises:
        ValueError: naming all that is missing.
    """
    lacking = [check.said for check in found if not check.ok and check.without == "stops"]
    if as_the_first(float(bool(lacking))) or lacking:
        raise ValueError("; ".join(lacking) or "the first process cannot start")


def _tried(name: str, work: Callable[[], object], said: str) -> Check:
    """A check that another part of the library makes, by raising ValueError or not."""
    try:
        work()
    except (ValueError, OSError) as error:
        return Check(name, False, str(error))
    return Check(name, True, said)


def _names(job: Job) -> None:
    """Refuses names that mean nothing, and a folder to start from that holds too few pictures to be read as a set."""
    check_names(job)
    if job.start not in STARTS and (count := len(pictures_below(Path(job.start)))) < FEWEST:
        raise ValueError(f"--start {job.start} holds {count} pictures; name a folder of at least {FEWEST}")


def _shared_out(job: Job) -> Check:
    batch, world = job.settings.train_batch, ranks().world
    if batch % world:
        near = batch // world * world
        said = f"a batch of {batch} pictures does not divide among {world} processes; take another number of them"
        return Check("processes", False, f"{said}, or --train-batch {near or world}, which is another run")
    return Check("processes", True, f"{world}, each trains on {batch // world} of {batch} pictures of a batch")


def _data(job: Job) -> Check:
    """Whether the files are there; nothing is opened."""
    name = job.data
    if name == "embedded":
        return _tried("data", lambda: _enough(data_dir(), part_sizes(KNOWN[name]), job), "the project's own")
    root = datasets_dir()
    if name == "celeba":
        return _tried("data", lambda: _enough(root, part_sizes(len(celeba_files(root)[1])), job), f"CelebA in {root}")
    if name == "faces":
        absent = _tried("data", lambda: face_files(root), "")
        return absent if not absent.ok else _tried("data", lambda: _enough(root, FACES, job), f"ORL's faces in {root}")
    if name == "cifar10":
        if gone := cifar10_absent(root):
            remedy = "set EMLIB_DATASETS to where it is; otherwise em fetches it (170 MB) first, which takes a network"
            said = f"CIFAR-10 is not in {root}, {gone[0]} first"
            return Check("data", False, f"{said}; {remedy}", without="fetches")
        return _tried("data", lambda: _enough(root, part_sizes(KNOWN[name]), job), f"CIFAR-10 in {root}")
    root = Path(name)
    if not root.is_dir():
        said = f"unknown data {name!r}; take embedded, cifar10, celeba, faces or the path of a folder of pictures"
        return Check("data", False, said)
    count = len(pictures_below(root))
    return _tried("data", lambda: _enough(root, part_sizes(count), job), f"{count} pictures in {root}")


def _enough(root: Path, parts: Sequence[int], job: Job) -> None:
    """Refuses fewer pictures than the preset takes of the clean, the corrupted and the held-out part."""
    p, there = job.preset, dict(zip(("clean", "corrupted", "held_out"), parts, strict=True))
    wanted = {"clean": p.clean, "corrupted": p.observations, "held_out": p.held_out}
    if short := [f"{wanted[part]} {part} and has {there[part]}" for part in wanted if there[part] < wanted[part]]:
        raise ValueError(f"preset {p.name} needs of {root} {', '.join(short)}; take a smaller preset or more pictures")


def _run_folder(job: Job) -> Check:
    keep = RunFolder(job.folder)
    try:
        try_places(lambda: try_folder(job.folder, "name another --folder"))
        keep.refuse_others(job.known(), free_to_change(job.settings))
        done = keep.finished()
        if ranks().world == 1 and held_elsewhere(job.folder):  # several processes would see each other
            return Check("run folder", False, str(FolderInUse(job.folder, "another run")))
        if ranks().first:  # gigabytes, which one process reads for all
            keep.check_whole()
    except ValueError as error:
        return Check("run folder", False, str(error))
    if not keep.settings():
        return Check("run folder", True, f"{job.folder} is free")
    last = f"EM iteration {done[-1]}" if done else "its first training"
    return Check("run folder", True, f"{job.folder} holds this run, which goes on after {last}")


def _outputs(job: Job) -> Check:
    """Whether all that is written beside the run folder can be."""

    def tried() -> None:
        try_result(job.out, "em", ".png")
        if job.board is not None:
            try_folder(job.board, "name another --tensorboard")

    return _tried("places to write", lambda: try_places(tried), f"{job.out}, with its picture beside it")


def try_places(work: Callable[[], None]) -> None:
    """Has the first process alone try them, as several would find each other's trials."""
    if ranks().first:
        work()


def _disk(job: Job, stages: list[Stage]) -> Check:
    there = sum(file.stat().st_size for file in job.folder.rglob("*") if file.is_file())
    need, free = max(0, disk_need(job, stages) - there), shutil.disk_usage(existing(job.folder)).free
    said = f"{gigabytes(need)} needed in {job.folder}, {gigabytes(free)} free"
    return Check("disk", need <= free, said + ("" if need <= free else "; name a --folder on a larger disk"))


def _memory(job: Job, stages: list[Stage], device: str) -> Iterator[Check]:
    for need in memory_needs(job, stages, device):
        said = f"{gigabytes(need.bytes)} needed, {gigabytes(need.free)} free"
        fits = need.bytes <= need.free
        yield Check(need.name, fits, said if fits else f"{said}; {need.remedy()}")


def _packages(job: Job, device: str) -> Iterator[Check]:
    if job.board is not None:
        there = importlib.util.find_spec("tensorboard") is not None
        remedy = "the package tensorboard is missing: install it with pip, or leave out --tensorboard"
        yield Check("TensorBoard", there, f"log in {job.board}" if there else remedy)
    if job.settings.speed.compile or job.settings.sampling.compile:
        compiler = next(filter(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "gcc", "cc")), None)
        triton = device == "cpu" or importlib.util.find_spec("triton") is not None
        said = f"by {compiler}" if compiler and triton else "torch.compile needs a C++ compiler, and triton on a GPU"
        yield Check("compilation", bool(compiler and triton), said)
    if device == "cuda" and "bfloat16" in (job.settings.speed.precision, job.settings.sampling.precision):
        there = torch.cuda.get_device_capability() >= (8, 0)
        said = "in hardware" if there else f"{torch.cuda.get_device_name()} has none in hardware, so it will be slow"
        yield Check("bfloat16", there, said, without="goes on")

r"""``emlib restore``: from a folder of broken pictures to repaired ones, a prior and a verdict.

As a generator, like EM itself: it yields what EM yields, and at the end :class:`Done`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emlib.diffusion import Eps, draw
from emlib.em.checkpoint import RunFolder
from emlib.em.events import Iteration, Progress
from emlib.em.initial import fit_gaussian
from emlib.em.loop import run_em
from emlib.operators import Measurements
from emlib.own import plan as planning
from emlib.own.crops import cut, windows
from emlib.own.filters import methods
from emlib.own.order import Found, Order, find
from emlib.own.plan import JUDGED, SHOWN, OwnPlan
from emlib.own.repair import FINER, draws, measurements, solver
from emlib.own.withheld import Judgement, judge_filters, mend, questions, tells
from emlib.planning.plan import keep_plan
from emlib.posterior import mmps
from emlib.runs.presets import Preset
from emlib.runs.progress import until
from emlib.runtime.device import pick_device
from emlib.runtime.precision import quick
from emlib.runtime.tensors import checksum, load_tensors, read_notes, usable, write_tensors
from emlib.schedule import Schedule, linear_schedule
from emlib.unet import UNet

BEYOND = 3.0
"""Standard deviations of the noise by which a value beyond the scale is no noise."""
FILTERED = 200
"""Pictures that a filter mends for EM to begin with, at most."""


@dataclass
class Done:
    """All that a report tells of.

    Attributes:
        order, found, plan: what was asked, read and planned.
        prior: the last one.
        clean: clean squares that EM began with.
        progress: (EM iteration, mean squared error at withheld pixels of its E-step's draws, on [-1, 1]).
        judgement: who mends best.
        samples: squares drawn from the prior, [N, C, side, side].
        copies: how near they are to clean squares, as a share of how near repaired ones are; nan without clean ones.
        stopped: whether the clock stopped training before the last M-step.
        ended: updates of the last M-step if the clock ended it; otherwise None.
        repairs: number of a picture -> its draws' mean, standard deviation, and one draw, [3, C, H, W]; on disk.
        mended: number of a picture -> what the best filter made of it, as far as somebody has asked.
    """

    order: Order
    found: Found
    plan: OwnPlan
    prior: UNet
    clean: int
    progress: list[tuple[int, float]]
    judgement: Judgement
    samples: Tensor
    copies: float
    stopped: bool
    ended: int | None = None
    repairs: dict[int, Path] = field(default_factory=dict)
    mended: dict[int, Tensor] = field(default_factory=dict)

    def repaired(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, standard deviation and one draw of a picture, [C, H, W] each on [-1, 1] but for what :meth:`stays`."""
        kept, _ = load_tensors(self.repairs[i], "delete it, and the same command draws it again")
        stays = self.stays(i)
        mean, draw = (torch.where(stays, self.found.y[i], kept[name]) for name in ("mean", "draw"))
        return mean, kept["std"].masked_fill(stays, 0), draw

    def filtered(self, i: int) -> Tensor:
        """A picture by the best filter, [C, H, W] on [-1, 1] but for what :meth:`stays`."""
        if i not in self.mended:  # files, scores and report ask for the same
            name, f = self.judgement.filter, self.found
            mended = mend(name, f.y[i], f.seen[i], f.noise_std, self.judgement.strengths[name], f.frame)
            self.mended[i] = torch.where(self.stays(i), f.y[i], mended)
        return self.mended[i]

    def stays(self, i: int) -> Tensor:
        """What of a picture is kept as it was measured, bool [C, H, W].

        All that was seen without noise and blur; with noise what lies far beyond the scale, such as a star, where no
        repair reaches; nothing of a blurred picture.
        """
        f = self.found
        there = f.seen[i].expand_as(f.y[i]) if f.frame.kernel is None else torch.zeros_like(f.y[i], dtype=torch.bool)
        return there & (f.y[i].abs() > 1 + BEYOND * f.noise_std) if f.noise_std else there


def restore(order: Order) -> Iterator[Progress | Iteration | Done]:
    """Repairs the pictures of an order; the same order again goes on where it was.

    Raises:
        ValueError: at once, if the order, its pictures or its folder will not do.
        FileNotFoundError: if a folder is missing.
    """
    begin, device = time.perf_counter(), pick_device()
    found, folder = find(order), order.out / "run"
    keep, about = RunFolder(folder), {**order.about(), "pictures": [p.name for p in found.pictures]}
    keep.refuse_others({**dict.fromkeys(keep.settings()), **about})
    _judges(found, order.seed)  # or all would be done before somebody asks how well
    before = planning.kept(folder)
    plan = before or planning.make_plan(order, found, device, begin)  # which may find the time too short
    plan = replace(plan, draws=order.draws or plan.draws)
    keep.hold()
    keep.claim(about)
    if before is None:
        keep_plan(plan, folder)
    return _restore(order, found, plan, keep, device, begin)


def _restore(
    order: Order, found: Found, plan: OwnPlan, keep: RunFolder, device: str, begin: float
) -> Iterator[Progress | Iteration | Done]:
    folder = order.out / "run"  # held by `keep` until the end
    schedule, p = linear_schedule().to(device), plan.sizes(found.y[0].shape[0])
    y, kept, asked = _squares(found, plan, order.seed)
    m = measurements(list(y), list(kept), found.noise_std, range(len(y)), found.frame).on(device)
    ends = begin + 60 * order.minutes - plan.em.seconds["scores"]
    (start, good), progress, last = _start(order, found, plan, m, schedule), [], None
    settings = replace(p.em, seed=order.seed)
    calls, steps = solver(found.frame, found.noise_std, p.e_steps)
    sampler = partial(mmps, steps=calls, cg_steps=steps)
    loop = run_em(m, start, p.unet, schedule, lambda prior, k: sampler, settings, folder / "em")
    for event in until(loop, ends, p.em.iterations, plan.em.least):
        if isinstance(event, Iteration):
            last = event
            if event.iteration:
                progress.append((event.iteration, _withheld_error(event.reconstructions, y, asked, found)))
        yield event
    if last is None or not isinstance(last.prior, UNet):
        raise ValueError(f"no prior was finished in {order.minutes:g} minutes; the same command goes on, with more")
    prior = quick(last.prior, p.em.sampling)
    judgement = yield from _judged(order, found, plan, p, prior, schedule)
    samples = _samples(prior, schedule, found, plan, device)
    done = Done(
        order,
        found,
        plan,
        last.prior,
        len(good),
        progress,
        judgement,
        samples,
        float("nan"),
        last.iteration < p.em.iterations,
        last.updates,
    )
    if len(good) and progress:
        done.copies = nearness(samples, good) / nearness(last.reconstructions[:SHOWN], good)
    yield from _repaired(order, found, plan, p, prior, schedule, folder, done)
    yield done


def _squares(found: Found, plan: OwnPlan, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Squares of the broken pictures: y, what EM may look at, and what is withheld.

    A square of the picture is larger than its measurement by the kernel; that of a long kernel is no square.
    """
    height, width = (plan.side - n for n in found.frame.border)
    where = windows(found.sizes, max(height, width), plan.em.observations, seed)[: plan.em.observations]
    parts = ([x.float() for x in part] for part in (found.y, found.kept, found.asked))
    y, kept, asked = (cut(part, where, max(height, width))[..., :height, :width] for part in parts)
    return y.contiguous(), kept.bool(), asked.bool()


def _start(
    order: Order, found: Found, plan: OwnPlan, m: Measurements, schedule: Schedule
) -> tuple[Tensor | Eps, Tensor]:
    """What EM begins with, squares that a filter mended and clean ones, or a Gaussian; and the clean ones among them.

    Filtered pictures are not good, but there are many, and nearer to the truth than what a prior of a few dozen clean
    ones would draw.
    """
    if order.start == "gaussian":
        return fit_gaussian(m, schedule), torch.empty(0)
    filtered = [
        mend(methods(found.noise_std, found.frame)[-1].name, y, seen, found.noise_std, 1.0, found.frame)
        for y, seen in islice(zip(found.y, found.kept, strict=True), FILTERED)
    ]
    squares = _cut(filtered, plan.side, plan.em.observations, order.seed + 2)
    if order.start != "clean":
        return squares, torch.empty(0)
    good = _cut(found.clean, plan.side, plan.clean, order.seed + 1)  # small pictures have fewer than were planned
    return torch.cat([good, squares]), good


def _cut(pictures: Sequence[Tensor], side: int, count: int, seed: int) -> Tensor:
    """Squares of whole pictures."""
    sizes = [(x.shape[-2], x.shape[-1]) for x in pictures]
    return cut(pictures, windows(sizes, side, count, seed)[:count], side)


def _withheld_error(x: Tensor, y: Tensor, asked: Tensor, found: Found) -> float:
    """Mean squared error at the withheld pixels of squares, less the noise's."""
    mean = found.frame.operator(torch.ones_like(asked, dtype=x.dtype))(x.contiguous())
    where = asked.expand_as(y)
    return float((mean - y)[where].square().mean()) - found.noise_std**2


def _judged(
    order: Order, found: Found, plan: OwnPlan, p: Preset, prior: Eps, schedule: Schedule
) -> Generator[Progress, None, Judgement]:
    """Means, draws and filters, on pictures of which some pixels are withheld."""
    asked = questions(found.y, found.seen, found.asked, found.frame, found.noise_std, order.seed)
    some = _judges(found, order.seed)
    y, seen, noise_std = [q.y for q in asked], [q.seen for q in asked], asked[0].noise_std
    mean, one = {}, {}
    yield Progress(p.em.iterations + 1, "judging", 0, len(some))
    for i, x in draws(prior, schedule, y, seen, some, *_how(order, found, plan, p, noise_std, "judge")):
        mean[i], one[i] = (asked[i].error(z) for z in (x.mean(0), x[0]))
        yield Progress(p.em.iterations + 1, "judging", len(mean), len(some))
    errors, strengths = judge_filters([asked[i] for i in some])
    ours = {name: tuple(found_[i] for i in some) for name, found_ in (("mean", mean), ("draw", one))}
    return Judgement({**ours, **errors}, strengths)


def _judges(found: Found, seed: int) -> list[int]:
    """Numbers of some pictures of which it can be told how well they are mended.

    Raises:
        ValueError: if there are none.
    """
    drawn = torch.randperm(len(found.y), generator=torch.Generator().manual_seed(seed)).tolist()
    told = (i for i in drawn if tells(found.seen[i], found.asked[i], found.frame, found.noise_std))
    if not (some := sorted(islice(told, JUDGED))):
        raise ValueError("the blur leaves too little of such small pictures to judge a repair by; name larger ones")
    return some


def _how(order: Order, found: Found, plan: OwnPlan, p: Preset, noise_std: float, purpose: str) -> tuple[Any, ...]:
    """What :func:`emlib.own.repair.draws` is told, from ``frame`` on: judges and repairs are drawn alike."""
    steps = FINER * p.e_steps
    return found.frame, noise_std, plan.side, p.unet.stride, steps, plan.draws, order.seed, purpose, p.em.e_batch


def whole(file: Path, shape: tuple[int, ...], made: dict[str, str]) -> bool:
    """Whether the draws of a picture of this shape are there; damaged ones, or another's, are drawn again.

    ``made``: notes that say by what; a run that the clock stopped goes on to another prior, whose repairs are others.
    """
    kept = usable(file, "so its picture is repaired again")
    if kept.keys() != {"mean", "std", "draw"} or not made.items() <= read_notes(file).items():
        return False
    return all(x.shape == shape and x.dtype == torch.float32 and bool(x.isfinite().all()) for x in kept.values())


def _samples(prior: Eps, schedule: Schedule, found: Found, plan: OwnPlan, device: str) -> Tensor:
    shape = (found.y[0].shape[0], plan.side, plan.side)
    return torch.cat([x.cpu() for x in draw(prior, schedule, shape, SHOWN, 25, eta=1.0, device=device)])


def nearness(x: Tensor, clean: Tensor) -> float:
    """Median distance of pictures to the nearest clean one, as root mean square of a pixel."""
    apart = torch.cdist(x.flatten(1), clean.flatten(1).to(x)) / x[0].numel() ** 0.5
    return float(apart.amin(1).median())


def _repaired(
    order: Order, found: Found, plan: OwnPlan, p: Preset, prior: Eps, schedule: Schedule, folder: Path, done: Done
) -> Iterator[Progress]:
    """Draws of every picture, with all that was seen; what is on disk already is not drawn again."""
    done.repairs = {i: folder / "repaired" / f"{i:05d}.safetensors" for i in range(len(found.y))}
    made = {"prior": checksum(done.prior.state_dict(), {}), "draws": str(plan.draws)}
    left = [i for i, file in done.repairs.items() if not whole(file, tuple(found.y[i].shape), made)]
    ready = len(found.y) - len(left)
    yield Progress(p.em.iterations + 1, "repairs", ready, len(found.y))
    how = _how(order, found, plan, p, found.noise_std, "repair")
    for i, x in draws(prior, schedule, found.y, found.seen, left, *how):
        # partners lie on either side of their mean, which costs no degree of freedom
        std = x.std(0, correction=0)
        write_tensors(done.repairs[i], {"mean": x.mean(0), "std": std, "draw": x[0]}, made)
        ready += 1
        yield Progress(p.em.iterations + 1, "repairs", ready, len(found.y))

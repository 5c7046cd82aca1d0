r"""The E-step of an EM iteration: a picture drawn for every measurement, shard by shard, each kept once it is done."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor

from emlib.diffusion import Eps
from emlib.em.checkpoint import RunFolder
from emlib.em.events import Progress
from emlib.em.settings import EMSettings
from emlib.operators import Measurements
from emlib.posterior import Sampler, reconstruct
from emlib.posterior.base import NotFinite
from emlib.runtime import distributed
from emlib.runtime.precision import quick
from emlib.schedule import Schedule

EStep = Callable[[Eps, int], Sampler]
"""(prior, number of the EM iteration) -> the sampler to use; this is where a guidance scale is chosen.

One that searches for the scale may have an attribute ``last``: :func:`run_em` sets it to the scale of each iteration
that is done, so that a resumed run searches as an unbroken one does (:class:`emlib.guidance.search.SearchedDPS`).
"""


def draw_all(
    keep: RunFolder,
    prior: Eps,
    schedule: Schedule,
    measurements: Measurements,
    e_step: EStep,
    settings: EMSettings,
    k: int,
) -> Generator[Progress, None, tuple[Tensor, float | None]]:
    """x_i ~ p_theta(x | y_i) for every measurement, shard by shard, and the scale they were drawn with.

    What the folder holds is not drawn again; with several processes each draws its shards.
    """
    if (done := keep.reconstructions(k)) is None:
        prior = quick(prior, settings.sampling)
        yield from _shards(keep, prior, schedule, measurements, _agreed(e_step(prior, k)), settings, k)
        done = keep.reconstructions(k)
        assert done is not None, "the shards were joined"
    x, about = done
    return x, about.get("scale")


def _agreed(sampler: Sampler) -> Sampler:
    """The sampler with the scale that the first process found; all looked for it on the same pictures."""
    if not isinstance(sampler, functools.partial) or "scale" not in sampler.keywords:
        return sampler
    scale = distributed.as_the_first(sampler.keywords["scale"])
    return functools.partial(sampler.func, *sampler.args, **{**sampler.keywords, "scale": scale})


def _scale_of(sampler: Sampler) -> float | None:
    """The guidance scale of a sampler that is a functools.partial with one."""
    return getattr(sampler, "keywords", {}).get("scale")


def _shards(
    keep: RunFolder,
    prior: Eps,
    schedule: Schedule,
    measurements: Measurements,
    sampler: Sampler,
    settings: EMSettings,
    k: int,
) -> Generator[Progress, None, None]:
    """The shards of this process, those from before left as they are; the first process joins all."""
    total, count = len(measurements), -(-len(measurements) // settings.shard)
    parts = {
        i: range(i * settings.shard, min(total, (i + 1) * settings.shard)) for i in distributed.ranks().share(count)
    }
    mine = sum(map(len, parts.values()))
    left = {i: rows for i, rows in parts.items() if not keep.has_shard(k, i, len(rows))}
    ready = mine - sum(map(len, left.values()))
    world = distributed.ranks().world  # the others get on as fast
    yield Progress(k, "E-step", ready, mine, images=world)
    for i, rows in left.items():
        drawn = []
        for x in _finite(sampler, prior, schedule, measurements.select(rows), settings, k):
            drawn.append(x.cpu())
            if sum(map(len, drawn)) == len(rows):  # kept before anyone hears of it
                keep.save_shard(k, i, torch.cat(drawn))
            ready += len(x)
            if ready < mine:
                yield Progress(k, "E-step", ready, mine, images=world)
    distributed.wait_for_all()
    if distributed.ranks().first:
        scale = _scale_of(sampler)
        keep.join_shards(k, count, total, {"scale": scale, "pictures": total})
    distributed.wait_for_all()
    yield Progress(k, "E-step", mine, mine, images=world)


def _finite(
    sampler: Sampler, prior: Eps, schedule: Schedule, part: Measurements, settings: EMSettings, k: int
) -> Iterator[Tensor]:
    """Batches of an E-step; NaN ends it before it is kept, or a resumed run would read it."""
    try:
        yield from reconstruct(sampler, prior, schedule, part, settings.seed, f"e-step {k}", settings.e_batch)
    except NotFinite as error:
        scale = _scale_of(sampler)
        causes = ["take float32 or bfloat16 for E-steps"] if settings.sampling.precision == "float16" else []
        causes += [] if scale is None else [f"a guidance scale below {scale:g}"]
        raise ValueError(
            f"E-step {k} drew pictures that are no numbers (NaN) with the network in {settings.sampling.precision}; "
            f"{', or '.join([*causes, 'look at the prior'])}"
        ) from error

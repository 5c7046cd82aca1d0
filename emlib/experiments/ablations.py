r"""Figures 5a and 5b of EMDiffusion: what EM starts from, and how many clean pictures a prior is worth.

Each entry is a method of :mod:`emlib.cli.experiment`, like those in :mod:`emlib.experiments.methods`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from emlib.em.initial import fit_gaussian, preprocessed
from emlib.experiments.base import Outcome, Setting, posterior, trained_on


def start(pictures: Callable[[Setting], Tensor]) -> Callable[[Setting], Outcome]:
    """The first E-step after a first prior trained on these pictures (EMDiffusion, table 4)."""

    def first(s: Setting) -> Outcome:
        images = pictures(s).to(s.task.held_out.y.device)
        return Outcome(posterior(s, trained_on(s, images, s.preset.em.init_updates), "dps", "mmps"))

    return first


def start_gaussian(s: Setting) -> Outcome:
    """The first E-step after a Gaussian fitted to the measurements, as DiEM begins."""
    return Outcome(posterior(s, fit_gaussian(s.task.measurements, s.schedule, seed=s.seed), "dps", "mmps"))


def other_pictures(s: Setting) -> Tensor:
    """The few pictures of another kind ("out of distribution").

    Raises:
        ValueError: if the experiment names none.
    """
    if s.other is None:
        raise ValueError("start-other needs another data set; name it as other in the experiment")
    return s.other


def preprocessed_pictures(s: Setting) -> Tensor:
    """As many of the broken pictures as are clean (all, if they are fewer), made as good as a filter can."""
    m = s.task.measurements
    return preprocessed(m.select(range(min(len(m), s.preset.clean))))


def clean_pictures(count: int) -> Callable[[Setting], Tensor]:
    """The first of the pictures kept apart as clean."""

    def first(s: Setting) -> Tensor:
        return _first(s.task.apart, count, "clean pictures kept apart")

    return first


def worth(count: int) -> Callable[[Setting], Outcome]:
    """A prior that saw so many clean pictures of the set, as long as the ceiling sees all (the lines of figure 5b)."""

    def prior_of(s: Setting) -> Outcome:
        prior = trained_on(s, _first(s.task.real, count, "pictures"), s.preset.prior_updates)
        return Outcome(posterior(s, prior, "mmps"), prior)

    return prior_of


def _first(images: Tensor, count: int, what: str) -> Tensor:
    if len(images) < count:
        raise ValueError(f"the data set has {len(images)} {what}, but the experiment names {count}; name fewer")
    return images[:count]


VARIATIONS: dict[str, Callable[[Setting], Outcome]] = {
    **{f"start-{n}": start(clean_pictures(n)) for n in (10, 50, 100, 500)},
    "start-other": start(other_pictures),
    "start-preprocessed": start(preprocessed_pictures),
    "start-gaussian": start_gaussian,
    **{f"clean-{n}": worth(n) for n in (50, 100, 300, 1000, 3000, 10_000)},
}
"""The variations by name."""

"""Samplers by name, with all that the rest of the library asks of one: a new one is one file and one line here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from emlib.diffusion import SampleStep
from emlib.posterior.base import Sampler
from emlib.posterior.diffpir import diffpir
from emlib.posterior.dps import dps
from emlib.posterior.mmps import mmps, plain
from emlib.posterior.pigdm import pigdm


@dataclass(frozen=True)
class SamplerRecord:
    """A sampler, and what command line, cost model, tables and docs need to know of it.

    Attributes:
        sampler: the function, with the four arguments of :data:`Sampler` first, and then its settings by name.
        steps: field of a preset that gives its ``steps``, the network calls of a picture.
        gradients: gradients by the picture in each call: a number, or the field of a preset that says how many.
        settings: further fields of a preset that it takes as arguments of the same names.
        guided: whether it takes a guidance scale, as ``scale``.
        solver: how it solves for the mean given y, where that is a choice; a run folder of another solver is refused.
    """

    sampler: Callable[..., Iterator[SampleStep]]
    steps: str
    gradients: int | str
    settings: tuple[str, ...] = ()
    guided: bool = False
    solver: str = "plain"

    def cost(self, sizes: Any) -> tuple[int, int]:
        """Network calls of a picture, and gradients by the picture in each beside its one forward evaluation.

        Args:
            sizes: what has the fields: a preset.
        """
        gradients = self.gradients if isinstance(self.gradients, int) else getattr(sizes, self.gradients)
        return getattr(sizes, self.steps), gradients

    def filled_in(self, sizes: Any, scale: float | None = None) -> Sampler:
        """The sampler with the settings of a preset; with a scale, where it is guided.

        Raises:
            ValueError: if a guided sampler is given no scale, or another one is given one.
        """
        if self.guided != (scale is not None):
            name = getattr(self.sampler, "func", self.sampler).__name__
            raise ValueError(f"{name} {'needs a' if self.guided else 'takes no'} guidance scale")
        settings = {name: getattr(sizes, name) for name in self.settings}
        settings |= {"scale": scale} if self.guided else {}
        return functools.partial(self.sampler, steps=getattr(sizes, self.steps), **settings)


mmps_plain = functools.partial(mmps, precondition=plain)
"""MMPS with its authors' own solver, conjugate gradients without a preconditioner."""

SAMPLERS = {
    "mmps": SamplerRecord(mmps, "e_steps", "cg_steps", settings=("cg_steps",), solver="preconditioned"),
    "mmps-plain": SamplerRecord(mmps_plain, "e_steps", "cg_steps", settings=("cg_steps",)),
    "pigdm": SamplerRecord(pigdm, steps="e_steps", gradients=1),
    "diffpir": SamplerRecord(diffpir, steps="dps_steps", gradients=0),
    "dps": SamplerRecord(dps, steps="dps_steps", gradients=1, guided=True),
}
"""The E-step's samplers by name."""


def find_sampler(name: str) -> SamplerRecord:
    """The sampler of this name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; there are {', '.join(SAMPLERS)}")
    return SAMPLERS[name]

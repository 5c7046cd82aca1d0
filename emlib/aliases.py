"""Module paths of the release before this one, for chapters in old tabs: ``from emlib.results import read_result``.

Each old name leads to the modules that have its contents now, with a warning. Next release they go.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

OLD: dict[str, tuple[str, ...]] = {
    "board": ("runs.tensorboard",),
    "card": ("hub.card",),
    "commands": ("runs.build", "viz.figures", "cli.em"),
    "contenders": ("experiments.methods", "experiments.base"),
    "cost": ("planning.cost", "planning.counting", "cli.cost", "posterior"),
    "diffusers_layout": ("hub.diffusers",),
    "display": ("viz.display",),
    "dry_run": ("planning.dry_run",),
    "evaluate": ("metrics.summary", "diffusion", "metrics"),
    "experiment": ("experiments.config", "experiments.run", "experiments.methods", "cli.experiment"),
    "fid": ("metrics.fid",),
    "files": ("runtime.files", "runtime.tensors", "runtime.locks"),
    "folder": ("em.checkpoint", "em.identity"),
    "frechet": ("metrics.frechet",),
    "gathering": ("experiments.table",),
    "images": ("viz.html",),
    "job": ("runs.job",),
    "lost": ("runtime.distributed",),
    "machine": ("runtime.device",),
    "originals": ("data.sources",),
    "pictures": ("data.decode",),
    "placing": ("runtime.device",),
    "preflight": ("planning.checks",),
    "presets": ("runs.presets",),
    "pretrained": ("hub.pretrained",),
    "progress": ("em.events", "runs.progress", "runtime.durations"),
    "ranks": ("runtime.distributed",),
    "reference": ("metrics.reference",),
    "results": ("runs.record",),
    "rng": ("runtime.rng",),
    "room": ("planning.memory",),
    "rules": ("guidance.rules",),
    "sampling": ("runs.samples", "cli.evaluate"),
    "settings": ("em.settings",),
    "sizing": ("planning.memory",),
    "sliders": ("viz.widgets",),
    "speed": ("runtime.precision",),
    "starts": ("em.initial", "operators"),
    "tables": ("experiments.summary", "viz.tables"),
    "tasks": ("runs.task",),
    "variations": ("experiments.ablations",),
}
"""Old module -> where its contents are, the first that has a name wins."""


class _Alias(ModuleType):
    """Looks each name up where it is now."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for place in OLD[self.__name__.removeprefix("emlib.")]:
                found = importlib.import_module(f"emlib.{place}")
                if hasattr(found, name):
                    return getattr(found, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the old names, after Python's own finders have found nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        known = fullname.startswith("emlib.") and fullname.removeprefix("emlib.") in OLD
        return importlib.util.spec_from_loader(fullname, self) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        now = " and ".join(f"emlib.{place}" for place in OLD[spec.name.removeprefix("emlib.")])
        warnings.warn(f"{spec.name} is now {now}; the old name goes with the next release", FutureWarning, stacklevel=3)
        return _Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def install() -> None:
    """Makes the old names known."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())

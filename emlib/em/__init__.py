r"""The EM loop: from a few clean pictures and many broken ones to a prior of clean pictures."""

from emlib.em.checkpoint import RunFolder
from emlib.em.e_step import EStep
from emlib.em.events import Iteration, Progress
from emlib.em.identity import fingerprint
from emlib.em.initial import GaussianPrior, fit_gaussian, preprocessed
from emlib.em.loop import free_to_change, run_em
from emlib.em.settings import EMSettings, Phases, iterations, over, rows_of

__all__ = [
    "EMSettings",
    "EStep",
    "GaussianPrior",
    "Iteration",
    "Phases",
    "Progress",
    "RunFolder",
    "fingerprint",
    "fit_gaussian",
    "free_to_change",
    "iterations",
    "over",
    "preprocessed",
    "rows_of",
    "run_em",
]

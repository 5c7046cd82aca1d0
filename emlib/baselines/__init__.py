r"""Other ways to learn from broken pictures, on the same network, measurements and few clean pictures as EM.

Each of the trained ones is a generator in the manner of :func:`emlib.training.train`: it first trains on the clean
pictures and then on the broken ones.
"""

from emlib.baselines import ambient, classical, noise2self, sure_score
from emlib.baselines.ambient import AmbientPrior, ambient_prior, build_ambient, train_ambient
from emlib.baselines.diem import run_diem
from emlib.baselines.noise2self import train_noise2self
from emlib.baselines.sure_score import train_sure_score

__all__ = [
    "AmbientPrior",
    "ambient",
    "ambient_prior",
    "build_ambient",
    "classical",
    "noise2self",
    "run_diem",
    "sure_score",
    "train_ambient",
    "train_noise2self",
    "train_sure_score",
]

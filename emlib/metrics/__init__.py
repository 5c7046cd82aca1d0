r"""How good are the pictures: PSNR, SSIM and LPIPS against the truth, Fréchet distances between two crowds.

A Fréchet distance means nothing without its features, its sample size and its floor (two crowds of real pictures), so
its name here carries the features: FD-AlexNet. FID is kept for the Inception network.
"""

from emlib.metrics.alexnet import alexnet_features, alexnet_missing, alexnet_path, fd_alexnet, lpips_distance
from emlib.metrics.calibration import coverage, ranks
from emlib.metrics.fid import inception_missing
from emlib.metrics.frechet import frechet_distance
from emlib.metrics.image import alternation, check_pair, psnr, ssim
from emlib.metrics.summary import against_real, against_truth, features_or_none, with_floor, with_interval

__all__ = [
    "against_real",
    "against_truth",
    "alexnet_features",
    "alexnet_missing",
    "alexnet_path",
    "alternation",
    "check_pair",
    "coverage",
    "fd_alexnet",
    "features_or_none",
    "frechet_distance",
    "inception_missing",
    "lpips_distance",
    "psnr",
    "ranks",
    "ssim",
    "with_floor",
    "with_interval",
]

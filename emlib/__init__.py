"""emlib: clean diffusion models from corrupted pictures, by expectation-maximisation.

The modules, from the ground up: ``schedule``, ``unet``, ``diffusion``, ``operators``, ``posterior``,
``guidance``, ``em``, ``data``, ``metrics``, ``presets``, ``tasks``, ``evaluate``, ``results``, ``viz``.
"""

from emlib.data import Split, load
from emlib.diffusion import SampleStep, diffusion_loss, predict_x0, reverse_step, sample, train
from emlib.em import EMSettings, Iteration, Progress, run_em, watch
from emlib.evaluate import against_real, against_truth, draw, features_or_none
from emlib.guidance import discrepancy, least_residual, searched_dps, sweep
from emlib.metrics import alexnet_missing, fd_alexnet, frechet_distance, lpips_distance, psnr
from emlib.operators import GaussianBlur, Identity, Measurements, PixelMask, measure, random_mask
from emlib.posterior import dps, mmps, posterior_mean, reconstruct
from emlib.presets import Preset, preset
from emlib.rng import randn, streams
from emlib.schedule import Schedule, add_noise, linear_schedule, time_grid
from emlib.tasks import Task, make_task
from emlib.unet import UNet, UNetConfig, build_unet, load_unet, save_unet

__all__ = [
    "EMSettings",
    "GaussianBlur",
    "Identity",
    "Iteration",
    "Measurements",
    "PixelMask",
    "Preset",
    "Progress",
    "SampleStep",
    "Schedule",
    "Split",
    "Task",
    "UNet",
    "UNetConfig",
    "add_noise",
    "against_real",
    "against_truth",
    "alexnet_missing",
    "build_unet",
    "diffusion_loss",
    "discrepancy",
    "dps",
    "draw",
    "fd_alexnet",
    "features_or_none",
    "frechet_distance",
    "least_residual",
    "linear_schedule",
    "load",
    "load_unet",
    "lpips_distance",
    "make_task",
    "measure",
    "mmps",
    "posterior_mean",
    "predict_x0",
    "preset",
    "psnr",
    "randn",
    "random_mask",
    "reconstruct",
    "reverse_step",
    "run_em",
    "sample",
    "save_unet",
    "searched_dps",
    "streams",
    "sweep",
    "time_grid",
    "train",
    "watch",
]
__version__ = "0.1.0"

"""emlib: clean diffusion models from corrupted pictures, by expectation-maximisation.

The modules, from the ground up:

``lost``, ``ranks``, ``rng``, ``files``, ``schedule``, ``unet``, ``diffusion``, ``machine``, ``speed``, ``placing``,
``training``, ``mixture``, ``operators``, ``posterior``, ``rules``, ``guidance``, ``starts``, ``settings``, ``folder``,
``progress``, ``em``, ``baselines``, ``pictures``, ``originals``, ``data``, ``frechet``, ``metrics``, ``fid``,
``presets``, ``tasks``, ``evaluate``, ``reference``, ``results``, ``cost``, ``sizing``, ``job``, ``room``,
``preflight``, ``dry_run``, ``board``, ``display``, ``tables``, ``viz``, ``diffusers_layout``, ``card``, ``pretrained``,
``sampling``, ``contenders``, ``variations``, ``experiment``.
"""

from emlib.data import Split, load
from emlib.diffusion import SampleStep, diffusion_loss, predict_x0, reverse_step, sample
from emlib.em import run_em
from emlib.evaluate import against_real, against_truth, draw, features_or_none
from emlib.fid import inception_missing
from emlib.guidance import oracle, search, searched_dps, sweep
from emlib.machine import pick_device
from emlib.metrics import alexnet_missing, fd_alexnet, frechet_distance, lpips_distance, psnr, ssim
from emlib.mixture import GaussianMixture, MixtureStep, mixture_em, mixture_m_step
from emlib.operators import GaussianBlur, Identity, Measurements, PixelMask, measure, random_mask
from emlib.posterior import diffpir, dps, dps_squared, mmps, pigdm, posterior_mean, reconstruct
from emlib.presets import Preset, preset
from emlib.pretrained import load_pretrained, save_pretrained
from emlib.progress import Iteration, Progress, watch
from emlib.rng import randn, streams
from emlib.schedule import Schedule, add_noise, linear_schedule, time_grid
from emlib.settings import EMSettings, Phases
from emlib.speed import Speed, quick
from emlib.starts import fit_gaussian, preprocessed
from emlib.tasks import Task, make_task
from emlib.training import TrainStep, train
from emlib.unet import UNet, UNetConfig, build_unet, load_unet, save_unet

__all__ = [
    "EMSettings",
    "GaussianBlur",
    "GaussianMixture",
    "Identity",
    "Iteration",
    "Measurements",
    "MixtureStep",
    "Phases",
    "PixelMask",
    "Preset",
    "Progress",
    "SampleStep",
    "Schedule",
    "Speed",
    "Split",
    "Task",
    "TrainStep",
    "UNet",
    "UNetConfig",
    "add_noise",
    "against_real",
    "against_truth",
    "alexnet_missing",
    "build_unet",
    "diffpir",
    "diffusion_loss",
    "dps",
    "dps_squared",
    "draw",
    "fd_alexnet",
    "features_or_none",
    "fit_gaussian",
    "frechet_distance",
    "inception_missing",
    "linear_schedule",
    "load",
    "load_pretrained",
    "load_unet",
    "lpips_distance",
    "make_task",
    "measure",
    "mixture_em",
    "mixture_m_step",
    "mmps",
    "oracle",
    "pick_device",
    "pigdm",
    "posterior_mean",
    "predict_x0",
    "preprocessed",
    "preset",
    "psnr",
    "quick",
    "randn",
    "random_mask",
    "reconstruct",
    "reverse_step",
    "run_em",
    "sample",
    "save_pretrained",
    "search",
    "save_unet",
    "searched_dps",
    "ssim",
    "streams",
    "sweep",
    "time_grid",
    "train",
    "watch",
]
__version__ = "0.1.0"

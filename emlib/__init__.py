"""emlib: clean diffusion models from corrupted pictures, by expectation-maximisation.

The ideas, each in a room of its own, from the ground up:

``schedule`` noise levels; ``unet`` the network; ``diffusion`` Tweedie's formula, loss, drawing; ``training`` its loop;
``operators`` how pictures break; ``mixture`` a world where everything is known; ``posterior`` the E-step's samplers;
``guidance`` choosing lambda without a clean picture; ``em`` the loop of the book; ``baselines`` the other methods;
``metrics`` scores; ``data`` pictures; ``testing`` what an operator or a sampler of yours must hold to.

The machinery behind: ``runtime`` streams, files, devices, processes; ``runs`` presets, tasks, records; ``planning``
what a run costs; ``experiments`` tables of methods; ``hub`` networks from elsewhere; ``viz`` figures; ``cli`` the
commands.
"""

from emlib import aliases as _aliases
from emlib.data import Split, load
from emlib.diffusion import SampleStep, diffusion_loss, draw, predict_x0, reverse_step, sample
from emlib.em import EMSettings, Iteration, Phases, Progress, fit_gaussian, preprocessed, run_em
from emlib.guidance import oracle, search, searched_dps, sweep
from emlib.hub import load_pretrained, save_pretrained
from emlib.metrics import (
    against_real,
    against_truth,
    alexnet_missing,
    fd_alexnet,
    features_or_none,
    frechet_distance,
    inception_missing,
    lpips_distance,
    psnr,
    ssim,
)
from emlib.mixture import GaussianMixture, MixtureStep, mixture_em, mixture_m_step
from emlib.operators import GaussianBlur, Identity, Measurements, Operator, PixelMask, measure, random_mask
from emlib.posterior import diffpir, dps, dps_squared, mmps, pigdm, posterior_mean, reconstruct
from emlib.runs import Preset, Task, make_task, preset, watch
from emlib.runtime import Speed, pick_device, quick, randn, streams
from emlib.schedule import Schedule, add_noise, linear_schedule, time_grid
from emlib.training import TrainStep, train
from emlib.unet import UNet, UNetConfig, build_unet, load_unet, save_unet

# fmt: off
# what a reader calls, one idea a line
__all__ = [
    "Split", "load",
    "Schedule", "linear_schedule", "add_noise", "time_grid",
    "UNet", "UNetConfig", "build_unet", "load_unet", "save_unet",
    "predict_x0", "diffusion_loss", "reverse_step", "sample", "SampleStep", "draw",
    "train", "TrainStep",
    "Operator", "PixelMask", "random_mask", "GaussianBlur", "Identity",
    "Measurements", "measure",
    "GaussianMixture", "mixture_em", "mixture_m_step", "MixtureStep",
    "dps", "dps_squared", "pigdm", "diffpir", "mmps", "posterior_mean", "reconstruct",
    "search", "searched_dps", "sweep", "oracle",
    "run_em", "EMSettings", "Phases", "Progress", "Iteration", "watch",
    "fit_gaussian", "preprocessed",
    "psnr", "ssim", "lpips_distance", "fd_alexnet", "frechet_distance",
    "against_truth", "against_real", "features_or_none", "alexnet_missing", "inception_missing",
    "Preset", "preset", "Task", "make_task",
    "Speed", "quick", "pick_device", "randn", "streams",
    "load_pretrained", "save_pretrained",
]
# fmt: on
__version__ = "0.1.0"

_aliases.install()

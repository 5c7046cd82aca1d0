"""The public names of :mod:`emlib`, from the rooms that they live in; :mod:`emlib` brings them in when asked."""

# ruff: noqa: F401, they are for emlib itself

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

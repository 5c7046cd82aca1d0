r"""The E-step's samplers: draw x ~ p(x | y), with a diffusion model as the prior.

They share one interface: each is a generator that yields :class:`emlib.diffusion.SampleStep` and takes
the network, the schedule, the measurements and one random stream a picture. They differ in how they
estimate E[x_0 | x_t, y] or, for DPS, in how they push x_t towards y.
"""

from emlib.posterior.base import BLOCK, GPU_BATCH, GRID_POWER, Sampler, reconstruct, reconstruct_pairs
from emlib.posterior.diffpir import diffpir
from emlib.posterior.dps import dps, dps_squared
from emlib.posterior.mmps import mmps, posterior_mean
from emlib.posterior.pigdm import pigdm
from emlib.posterior.registry import SAMPLERS, SamplerRecord, find_sampler

__all__ = [
    "BLOCK",
    "GPU_BATCH",
    "GRID_POWER",
    "SAMPLERS",
    "Sampler",
    "SamplerRecord",
    "diffpir",
    "dps",
    "dps_squared",
    "find_sampler",
    "mmps",
    "pigdm",
    "posterior_mean",
    "reconstruct",
    "reconstruct_pairs",
]

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

# ruff: noqa: F405, since the names come when they are asked for

import importlib
import sys
from typing import TYPE_CHECKING, Any

from emlib import aliases as _aliases

if TYPE_CHECKING:
    from emlib._names import *  # noqa: F403

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


def __getattr__(name: str) -> Any:
    """A public name or a room, all of which are brought in together by the first that is asked for.

    ``import emlib`` alone is quick, so that the command line can say what a word means without waiting for torch.
    """
    if name.startswith("__") or "emlib._names" in sys.modules:
        raise AttributeError(f"module 'emlib' has no attribute {name!r}")
    names = importlib.import_module("emlib._names")
    globals().update({public: getattr(names, public) for public in __all__})
    if name in globals():
        return globals()[name]
    raise AttributeError(f"module 'emlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

r"""How pictures break: y = A x + n, with every operator A a class of its own behind one contract."""

from emlib.operators.base import STABLE_STD, Operator, Parameter
from emlib.operators.blur import GaussianBlur
from emlib.operators.channel_mask import ChannelMask, bayer_mask
from emlib.operators.checking import check_noise_std
from emlib.operators.composed import Composed
from emlib.operators.convolution import BoxBlur, Convolution, MotionBlur
from emlib.operators.downsample import Downsample
from emlib.operators.fourier import FourierMask
from emlib.operators.grey import Grey
from emlib.operators.identity import Identity
from emlib.operators.kernels import box_kernel, gaussian_kernel, motion_kernel, read_kernel
from emlib.operators.linalg import CUTOFF, conjugate_gradients, dot
from emlib.operators.mask import PixelMask, random_mask
from emlib.operators.measurements import (
    Measurements,
    load_measurements,
    measure,
    save_measurements,
)
from emlib.operators.physics import FromPhysics
from emlib.operators.registry import KINDS, OPERATORS, find_operator, make_operator

__all__ = [
    "CUTOFF",
    "KINDS",
    "OPERATORS",
    "STABLE_STD",
    "BoxBlur",
    "ChannelMask",
    "Composed",
    "Convolution",
    "Downsample",
    "FourierMask",
    "FromPhysics",
    "GaussianBlur",
    "Grey",
    "Identity",
    "Measurements",
    "MotionBlur",
    "Operator",
    "Parameter",
    "PixelMask",
    "bayer_mask",
    "box_kernel",
    "check_noise_std",
    "conjugate_gradients",
    "dot",
    "find_operator",
    "gaussian_kernel",
    "load_measurements",
    "make_operator",
    "measure",
    "motion_kernel",
    "random_mask",
    "read_kernel",
    "save_measurements",
]

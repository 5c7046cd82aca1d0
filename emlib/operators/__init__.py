r"""How pictures break: y = A x + n, with every operator A a class of its own behind one contract."""

from emlib.operators.base import STABLE_STD, Operator, Parameter
from emlib.operators.blur import GaussianBlur
from emlib.operators.identity import Identity
from emlib.operators.linalg import CUTOFF, conjugate_gradients, dot
from emlib.operators.mask import PixelMask, random_mask
from emlib.operators.measurements import (
    Measurements,
    check_noise_std,
    load_measurements,
    measure,
    save_measurements,
)
from emlib.operators.registry import OPERATORS, find_operator, make_operator

__all__ = [
    "CUTOFF",
    "OPERATORS",
    "STABLE_STD",
    "GaussianBlur",
    "Identity",
    "Measurements",
    "Operator",
    "Parameter",
    "PixelMask",
    "check_noise_std",
    "conjugate_gradients",
    "dot",
    "find_operator",
    "load_measurements",
    "make_operator",
    "measure",
    "random_mask",
    "save_measurements",
]

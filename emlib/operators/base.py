r"""The contract of an operator: all that the library ever asks of A in y = A x + n.

The least that a reader writes is a subclass with ``name``, ``__call__``, ``adjoint`` and, where y has another shape
than x, ``image_shape``. All else has a default that needs only these. What hangs on an operator's *kind* is a method
or a field here, so that no other file asks of which kind it is. :func:`emlib.testing.check_operator` holds an operator
to all of it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from emlib.operators.linalg import solve_by_gradients
from emlib.runtime.numbers import is_number

STABLE_STD = 0.01
"""Least noise that a linear system assumes, on the [-1, 1] scale; without any it need not have a solution."""


AnyOperator = TypeVar("AnyOperator", bound="Operator")


@dataclass(frozen=True)
class Parameter:
    """A number that an operator is made with: ``--NAME`` on the command line, a key in a recorded run.

    Attributes:
        default: where it is not given.
        help: what it means, for the command line.
    """

    default: float
    help: str


class Operator(ABC):
    """A linear map from pictures x [B, C, H, W] to measurements y [B, C', H', W'], written A in every formula.

    Attributes:
        name: one word for run folders and recorded runs.
        identity: whether A x = x, so that noise is all that is wrong.
        hides: whether hiding pixels is all that A does.
        rules: rules of lambda that hold for this kind and no other (:mod:`emlib.guidance.rules`).
        classical: the method that mends a picture alone, a key of :data:`emlib.baselines.classical.METHODS`.
        parameters: what :meth:`for_pictures` takes, by name.
        remade: whether :meth:`from_tensors` can make it again; otherwise files are read with the operator at hand.
    """

    name: ClassVar[str]
    identity: ClassVar[bool] = False
    hides: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ()
    classical: ClassVar[str] = "deconvolution"
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    remade: ClassVar[bool] = True

    # ---- what a reader writes ----

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x; differentiable, picture by picture, in the dtype and on the device of x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, with <A x, y> = <x, A^T y>."""

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Shape (C, H, W) of the picture that a measurement of shape (C', H', W') belongs to; the same by default."""
        return y_shape

    # ---- what may be known better than by default ----

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        r"""(a I + b A A^T)^{-1} v; for a = 0 the pseudo-inverse (b A A^T)^+ v.

        By default conjugate gradients, which need A and its adjoint alone; an operator that knows the eigenvalues of
        A A^T does it exactly and at once.

        Args:
            v: such as a residual y - A x, [B, C', H', W'].
            a: variance of the noise or the like, 0 or more; a number or [B, 1, 1, 1].
            b: variance of a pixel or the like, above 0; a number or [B, 1, 1, 1].

        Raises:
            ValueError: if ``a`` or ``b`` is out of range, or v does not fit the operator.
        """
        return solve_by_gradients(lambda p: self(self.adjoint(p)), v, a, b)

    def approximate_solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        r"""About (a I + b A A^T)^{-1} v, at the cost of a product or two: a preconditioner, for use within a sampler.

        By default :meth:`solve` itself. An operator whose ``solve`` takes many steps may have something cheaper here,
        so long as it is linear in v, symmetric and positive: <u, M v> = <M u, v>, and <v, M v> > 0 for v other than 0.

        Args:
            v, b: as for :meth:`solve`.
            a: above 0; a number or [B, 1, 1, 1].

        Raises:
            ValueError: if ``a`` or ``b`` is out of range, or v does not fit the operator.
        """
        return self.solve(v, a, b)

    def gain(self) -> float | None:
        """c, if A A^T y = c y for every y with zeros in its gaps (:meth:`seen`); None where no such c is known."""
        return None

    def select(self, rows: Sequence[int]) -> Operator:
        """The operators of the pictures with these numbers; by default one serves all pictures."""
        return self

    def on(self, device: torch.device | str) -> Operator:
        """The same with the tensors among its attributes on a device, so that a GPU need not be sent them again."""
        return with_tensors(self, {key: x.to(device) for key, x in vars(self).items() if isinstance(x, Tensor)})

    def seen(self, y: Tensor) -> Tensor:
        """1 where y holds a measured number and 0 where it only fills a gap, in the shape of y; by default all 1."""
        return torch.ones_like(y)

    def pixel_mask(self) -> Tensor | None:
        """[N or 1, 1, H, W], 1 where a pixel is seen, if hiding pixels is all that A does; otherwise None."""
        return None

    def view(self, y: Tensor) -> Tensor:
        """y as a picture, for scores and figures: y itself, or the smallest x with A x = y where shapes differ."""
        if self.image_shape(_shape(y)) == _shape(y):
            return y
        # x = A^T (A A^T)^+ y
        return self.adjoint(self.solve(y, 0.0, 1.0))

    def prefiltered(self, y: Tensor, noise_std: float) -> Tensor:
        """Pictures made of y by a filter that knows A and the noise, such as a first prior may be trained on."""
        # argmin |y - A x|^2 + std^2 |x|^2 = A^T (A A^T + std^2 I)^-1 y
        return self.adjoint(self.solve(y, max(noise_std, STABLE_STD) ** 2, 1.0))

    def rule(self, noise_std: float) -> str:
        """The rule of lambda that ``auto`` stands for: "recorrupted" where there is noise, otherwise "bootstrap"."""
        return "recorrupted" if noise_std > 0 else "bootstrap"

    # ---- how it is made, and kept ----

    @classmethod
    def for_pictures(cls, count: int, size: int, seed: int, first: int = 0, **parameters: float) -> Operator:
        """The operator of ``count`` pictures; by default one for all, made of the parameters alone.

        Args:
            count: number of pictures.
            size: their height and width.
            seed: seed of what is drawn for each picture.
            first: index of the first picture, which keys what is drawn.
            parameters: those of :attr:`parameters`.
        """
        return cls(**parameters)

    def tensors(self) -> dict[str, Tensor]:
        """All that tells this operator from others of its kind; goes into fingerprints and files.

        By default its attributes: tensors as they are, numbers in float64.
        """
        numbers = {key: torch.tensor(x, dtype=torch.float64) for key, x in vars(self).items() if is_number(x)}
        return {key: x for key, x in vars(self).items() if isinstance(x, Tensor)} | numbers

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Operator:
        """The operator that :meth:`tensors` describes; by default the class is called with them by name."""
        return cls(**{key: x if x.ndim else _number(x) for key, x in tensors.items()})


def with_tensors(A: AnyOperator, tensors: Mapping[str, Tensor]) -> AnyOperator:
    """The same operator with other tensors, made of its own and so not checked again."""
    made = copy.copy(A)
    made.__dict__.update(tensors)
    return made


def _shape(y: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = y.shape
    return channels, height, width


def _number(x: Tensor) -> float | int:
    """A whole number as int, since it may count something."""
    value = x.item()
    return int(value) if value == int(value) else value

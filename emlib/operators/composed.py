r"""One operator after another: a mask of a blur, a grey picture of few pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator
from emlib.operators.linalg import solve_by_gradients


@dataclass(frozen=True)
class Composed(Operator):
    r"""A x = O (I x), the outer operator O after the inner one I.

    ``Composed(PixelMask(mask), Convolution(kernel))`` is a blur of which some pixels are lost. Three are composed two
    at a time.

    Attributes:
        outer: O, applied last; it takes what I makes.
        inner: I, applied to the picture.
    """

    outer: Operator
    inner: Operator
    name: ClassVar[str] = "composed"

    def __call__(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        # (O I)^T = I^T O^T
        return self.inner.adjoint(self.outer.adjoint(y))

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return self.inner.image_shape(self.outer.image_shape(y_shape))

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        """By conjugate gradients, with :meth:`approximate_solve` as the preconditioner."""
        return solve_by_gradients(lambda p: self(self.adjoint(p)), v, a, b, self.approximate_solve)

    def approximate_solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        r"""By the part that is the harder one to invert, the other counting for a multiple of the identity.

        If O O^T = c I on what O sees, as for masks, means and grey, then with B = I I^T

            (a I + b O B O^T)^{-1} v ~ O (a c I + b c^2 B)^{-1} O^T v, and v / a in the gaps,

        which is exact where B, too, is a multiple of the identity. Else B is taken for one, its gain or 1.
        """
        c = self.outer.gain()
        if c is None:
            gain = self.inner.gain()
            return self.outer.approximate_solve(v, a, b if gain is None else b * gain)
        seen = self.outer.seen(v)
        u = self.outer(self.inner.approximate_solve(self.outer.adjoint(seen * v), a * c, b * c**2))
        return seen * u + (1 - seen) * v / a

    def seen(self, y: Tensor) -> Tensor:
        """What O sees, if I saw anything of it."""
        shape = self.outer.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        g = torch.Generator().manual_seed(0)
        between = (0.5 + torch.rand(shape, generator=g)).to(y).expand(len(y), *shape)
        # sums of random positive numbers are 0 only where nothing is summed
        reached = self.outer(between * self.inner.seen(between)) != 0
        return self.outer.seen(y) * reached.to(y)

    def select(self, rows: Sequence[int]) -> Composed:
        return Composed(self.outer.select(rows), self.inner.select(rows))

    def on(self, device: torch.device | str) -> Composed:
        return Composed(self.outer.on(device), self.inner.on(device))

    def tensors(self) -> dict[str, Tensor]:
        """Those of both, and their names, since a file has to say which operators they belong to."""
        found = {}
        for part, A in (("outer", self.outer), ("inner", self.inner)):
            found[f"{part}.kind"] = torch.tensor(list(A.name.encode()), dtype=torch.uint8)
            found |= {f"{part}.{key}": x for key, x in A.tensors().items()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Composed:
        """The operator that :meth:`tensors` describes.

        Raises:
            ValueError: if it is made of an operator that is none of ours, whose class no file can name.
        """
        return cls(_part(tensors, "outer"), _part(tensors, "inner"))


def _part(tensors: Mapping[str, Tensor], part: str) -> Operator:
    from emlib.operators.registry import KINDS  # which lists this file's operator as well

    own = {key.removeprefix(f"{part}."): x for key, x in tensors.items() if key.startswith(f"{part}.")}
    name = bytes(own.pop("kind").tolist()).decode()
    if name not in KINDS:
        raise ValueError(
            f"a composed operator's {part} part is {name!r}, none of ours ({', '.join(KINDS)}); "
            "compose it again and hand the operator itself to load_measurements"
        )
    return KINDS[name].from_tensors(own)

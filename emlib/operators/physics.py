r"""Operators of DeepInverse: any of its linear physics, as one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from emlib.operators.base import Operator


@dataclass(frozen=True)
class FromPhysics(Operator):
    r"""A x = physics.A(x) and A^T y = physics.A_adjoint(y), for a ``deepinv.physics.LinearPhysics``.

    One physics serves all pictures. Its noise and sensor models are not asked: :func:`emlib.measure` draws the noise.
    DeepInverse need not be installed for this file; it is where the object comes from. The object stays as it is: where
    pictures are of another dtype or on another device, copies of it are made.

    Attributes:
        physics: the object; whatever has ``A``, ``A_adjoint`` and ``clone`` and is a torch.nn.Module.
        shape: (C, H, W) of a picture x.
    """

    physics: Any
    shape: tuple[int, int, int]
    copies: dict[tuple[torch.device, torch.dtype], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    name: ClassVar[str] = "physics"
    remade: ClassVar[bool] = False

    def __post_init__(self) -> None:
        lacks = [word for word in ("A", "A_adjoint", "clone") if not callable(getattr(self.physics, word, None))]
        if lacks:
            raise ValueError(
                f"a {type(self.physics).__name__} has no {' and no '.join(lacks)}; "
                "hand over a deepinv.physics.LinearPhysics"
            )
        if len(self.shape) != 3:
            raise ValueError(f"the shape of a picture is (C, H, W), got {tuple(self.shape)}")

    def __call__(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != tuple(self.shape):
            raise ValueError(f"this physics is for pictures {tuple(self.shape)}, got {tuple(x.shape)}")
        y = self._like(x).A(x)
        if not isinstance(y, Tensor) or y.ndim != 4:
            said = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"measurements must be one tensor [B, C', H', W'], but physics.A gives {said}")
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        return self._like(y).A_adjoint(y)

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return self.shape

    def tensors(self) -> dict[str, Tensor]:
        """The pictures' shape, and the answer to one random picture.

        Two linear maps that agree on it are the same, but for a set of probability zero. It is computed in float64 on
        the CPU, and rounded, so that it is the same everywhere.
        """
        g = torch.Generator().manual_seed(0)
        answer = self(torch.rand(1, *self.shape, generator=g, dtype=torch.float64))
        return {"shape": torch.tensor(self.shape), "answer": answer.float()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FromPhysics:
        """Refused: no file makes an object of another library again."""
        raise ValueError(
            f"a physics for pictures {tensors['shape'].tolist()} isn't made of tensors; "
            "make it as you did, and hand FromPhysics(physics, shape) to load_measurements"
        )

    def _like(self, x: Tensor) -> Any:
        """A copy of the physics with its tensors in the dtype of x and on its device; made once."""
        key = (x.device, x.dtype)
        if key not in self.copies:
            # .to(dtype) would take complex tensors for real ones
            self.copies[key] = self.physics.clone().requires_grad_(False)._apply(lambda part: _cast(part, x))
        return self.copies[key]


def _cast(part: Tensor, like: Tensor) -> Tensor:
    """In the precision of ``like``, on its device; whole numbers stay whole, complex ones complex."""
    if part.is_complex():
        return part.to(like.device, like.dtype.to_complex())
    return part.to(like) if part.is_floating_point() else part.to(like.device)

r"""How pictures break: y = A x + n, and the measurements themselves, drawn once and kept.

Every operator has two directions, ``A(x)`` and ``A.adjoint(y)``, with <A x, y> = <x, A.adjoint(y)>,
``A.solve(v, a, b)`` weighs a residual by its covariance a I + b A A^T, and ``A.select(rows)`` picks the
operators of some pictures, since each may have its own parameters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from emlib.diffusion import check_images
from emlib.files import read_tensors, whole
from emlib.rng import randn, streams

CUTOFF = 1e-4
"""Eigenvalues of A A^T below this share of the largest count as zero in a pseudo-inverse (``solve`` with a = 0).
It lets the error of y grow at most a hundredfold, so that rounding to 32 bits stays below 1e-5."""


class Operator(Protocol):
    """A linear map on pictures [B, C, H, W], written A in every formula."""

    name: str

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        r"""(a I + b A A^T)^{-1} v, exactly; for a = 0 the pseudo-inverse (b A A^T)^+ v (see :data:`CUTOFF`).

        Args:
            v: such as a residual y - A x, [B, C, H, W].
            a: variance of the noise or the like, 0 or more; a number or [B, 1, 1, 1].
            b: variance of a pixel or the like, above 0; a number or [B, 1, 1, 1].

        Raises:
            ValueError: if ``a`` or ``b`` is out of range, or v does not fit the operator.
        """

    def select(self, rows: Sequence[int]) -> Operator:
        """The operators of the pictures with these numbers."""

    def tensors(self) -> dict[str, Tensor]:
        """What :func:`load_measurements` needs to make the operator again."""


@dataclass(frozen=True)
class Identity:
    """A x = x: nothing is lost, only noise is added (denoising)."""

    name: str = "noise"

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        return _divide(v, torch.ones_like(v), a, b)

    def select(self, rows: Sequence[int]) -> Identity:
        return self

    def tensors(self) -> dict[str, Tensor]:
        return {}


@dataclass(frozen=True)
class PixelMask:
    r"""A x = m * x: hidden pixels read 0, which is mid-grey (inpainting; EMDiffusion, section 5.3).

    Attributes:
        mask: [N, 1, H, W], 1 where a pixel is seen, 0 where it is hidden; one mask a picture.
    """

    mask: Tensor
    name: str = "mask"

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.mask.shape[-2:] or len(self.mask) not in (1, len(x)):
            raise ValueError(
                f"{len(self.mask)} masks of {tuple(self.mask.shape[-2:])} do not fit pictures {tuple(x.shape)}; "
                "pick the masks of these pictures with select()"
            )
        return x * self.mask.to(x)

    adjoint = __call__  # a diagonal operator is its own adjoint

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        # A A^T = diag(m^2)
        return _divide(v, self(self(torch.ones_like(v))), a, b)

    def select(self, rows: Sequence[int]) -> PixelMask:
        return self if len(self.mask) == 1 else PixelMask(self.mask[rows])  # one mask may serve all

    def tensors(self) -> dict[str, Tensor]:
        return {"mask": self.mask.to(torch.uint8)}


def random_mask(count: int, size: int, fraction: float, seed: int, first: int = 0) -> PixelMask:
    """Hides exactly round(fraction * size^2) pixels of each picture, drawn by the picture's index.

    Args:
        count: number of masks.
        size: height and width.
        fraction: share of hidden pixels, in (0, 1).
        seed: seed of the experiment.
        first: index of the first picture.

    Raises:
        ValueError: if ``fraction`` is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the hidden fraction must lie in (0, 1), got {fraction}; 0.6 hides 60 % of the pixels")
    mask = torch.ones(count, size * size)
    for row, g in zip(mask, streams(seed, "mask", range(first, first + count)), strict=True):
        row[torch.randperm(size * size, generator=g)[: round(fraction * size * size)]] = 0
    return PixelMask(mask.view(count, 1, size, size))


@dataclass(frozen=True)
class GaussianBlur:
    r"""A x = K_h x K_w^T: Gaussian blur with mirrored borders (EMDiffusion, section 5.1).

    A blur that treats rows and columns apart is one matrix on each side, and its adjoint is their
    transposes. The matrices also hold the borders, where blur is no convolution any more.

    Attributes:
        height, width: size of a picture in pixels, each larger than ``taps // 2``.
        std: standard deviation of the kernel in pixels, above 0.
        taps: length of the kernel, odd; the paper's is 9.
    """

    height: int
    width: int
    std: float = 2.0
    taps: int = 9
    name: str = "blur"

    def __post_init__(self) -> None:
        if not self.std > 0 or self.taps < 1 or self.taps % 2 == 0:
            raise ValueError(f"a blur needs std > 0 and an odd number of taps, got {self.std} and {self.taps}")
        if min(self.height, self.width) <= self.taps // 2:
            raise ValueError(f"{self.taps} taps do not fit pictures of {self.height} x {self.width}; take fewer taps")

    def matrix(self, size: int) -> Tensor:
        """Blur along one axis, [size, size]; each row sums to 1."""
        return _blur_matrix(size, self.std, self.taps)

    def _check(self, x: Tensor) -> None:
        if x.shape[-2:] != (self.height, self.width):
            raise ValueError(f"this blur is for {self.height} x {self.width} pixels, got pictures {tuple(x.shape)}")

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.matrix(self.height).to(x) @ x @ self.matrix(self.width).to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        # A^T y = K_h^T y K_w
        return self.matrix(self.height).to(y).T @ y @ self.matrix(self.width).to(y)

    def solve(self, v: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
        self._check(v)
        u_h, s_h = (part.to(v.device) for part in _blur_svd(self.height, self.std, self.taps))
        u_w, s_w = (part.to(v.device) for part in _blur_svd(self.width, self.std, self.taps))
        # K = U S V^T for each axis, so A A^T turns U_h c U_w^T into U_h (s_h^2 s_w^2^T * c) U_w^T
        c = _divide(u_h.T @ v.double() @ u_w, torch.outer(s_h, s_w).square(), a, b)
        return (u_h @ c @ u_w.T).to(v)

    def select(self, rows: Sequence[int]) -> GaussianBlur:
        return self

    def tensors(self) -> dict[str, Tensor]:
        return {"blur": torch.tensor([self.height, self.width, self.std, self.taps], dtype=torch.float64)}


@cache
def _blur_matrix(size: int, std: float, taps: int) -> Tensor:
    where = torch.arange(taps, dtype=torch.float64) - taps // 2
    kernel = torch.exp(-0.5 * (where / std).square())
    # Column j is what a lone pixel j becomes.
    mirrored = F.pad(torch.eye(size, dtype=torch.float64)[:, None], [taps // 2] * 2, mode="reflect")
    return F.conv1d(mirrored, (kernel / kernel.sum()).view(1, 1, -1))[:, 0].T.float()


@cache
def _blur_svd(size: int, std: float, taps: int) -> tuple[Tensor, Tensor]:
    """Left singular vectors [size, size] and singular values [size] of the blur along one axis, in float64."""
    u, s, _ = torch.linalg.svd(_blur_matrix(size, std, taps).double())
    return u, s


def _divide(v: Tensor, eigenvalue: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
    """(a + b eigenvalue)^{-1} v in the basis where A A^T is diagonal, and 0 where there is nothing to divide by."""
    a, b = (torch.as_tensor(c, dtype=v.dtype, device=v.device) for c in (a, b))
    if not ((a >= 0) & (b > 0)).all():
        raise ValueError(f"solve needs a >= 0 and b > 0, as variances are, got a={a.tolist()} and b={b.tolist()}")
    kept = (a > 0) | (eigenvalue > CUTOFF * eigenvalue.max())
    return torch.where(kept, v / torch.where(kept, a + b * eigenvalue, 1), 0)


@dataclass(frozen=True)
class Measurements:
    r"""All that is known of some pictures: y = A x + n.

    Attributes:
        y: [N, C, H, W], on the scale of the pictures, not clipped.
        operator: A, with the parameters of these N pictures.
        noise_std: standard deviation of n on the [-1, 1] scale.
        index: index of each picture in its data set, length N; keys its random stream.
    """

    y: Tensor
    operator: Operator
    noise_std: float
    index: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.y)

    def select(self, rows: Sequence[int]) -> Measurements:
        """The measurements of the pictures with these numbers."""
        rows = list(rows)
        return Measurements(
            self.y[rows], self.operator.select(rows), self.noise_std, tuple(self.index[row] for row in rows)
        )


def measure(x: Tensor, operator: Operator, noise_std: float, seed: int, first: int = 0) -> Measurements:
    r"""Draws y = A x + n, once; the noise of a picture depends on the seed and its index alone.

    Args:
        x: clean pictures, [N, C, H, W] on [-1, 1].
        operator: A for these N pictures.
        noise_std: standard deviation of n on the [-1, 1] scale, 0 or more (half of it on [0, 1]).
        seed: seed of the experiment.
        first: index of the first picture in its data set.

    Raises:
        ValueError: if ``noise_std`` is negative, the pictures are not on [-1, 1] or the operator does not fit.
    """
    check_noise_std(noise_std)
    check_images(x)
    index = range(first, first + len(x))
    # y = A x + n,   n ~ N(0, noise_std^2 I)
    clean = operator(x)
    noise = randn(streams(seed, "measurement noise", index), tuple(clean.shape[1:]))
    return Measurements(clean + noise_std * noise * measured(operator, clean), operator, noise_std, tuple(index))


def measured(operator: Operator, y: Tensor) -> Tensor:
    """1 where y holds a measured number and 0 where it only fills a gap (hidden pixels), [B, C, H, W]."""
    return operator(torch.ones_like(y)) if isinstance(operator, PixelMask) else torch.ones_like(y)


def check_noise_std(noise_std: float) -> None:
    """Refuses negative noise."""
    if not 0 <= noise_std < float("inf"):
        raise ValueError(f"noise_std must be 0 or more on the [-1, 1] scale, got {noise_std}")


def make_operator(name: str, count: int, size: int, fraction: float, seed: int, first: int = 0) -> Operator:
    """The operator of a task by its name: "mask", "blur" or "noise"; ``fraction`` is for masks only.

    Raises:
        ValueError: if there is no such task.
    """
    if name == "mask":
        return random_mask(count, size, fraction, seed, first)
    if name == "blur":
        return GaussianBlur(size, size)
    if name == "noise":
        return Identity()
    raise ValueError(f"unknown operator {name!r}; there are mask, blur and noise")


def save_measurements(m: Measurements, path: str | Path) -> None:
    """Writes measurements to one safetensors file, whole or not at all."""
    tensors = {"y": m.y, "index": torch.tensor(m.index), **m.operator.tensors()}
    notes = {"measurements": json.dumps({"operator": m.operator.name, "noise_std": m.noise_std})}
    with whole(path) as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part, metadata=notes)


def load_measurements(path: str | Path) -> Measurements:
    """Reads what :func:`save_measurements` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else.
    """
    note, tensors = read_tensors(path, "measurements")
    about = json.loads(note)
    if about["operator"] == "mask":
        operator: Operator = PixelMask(tensors["mask"])  # bytes, left on disk until a picture is asked for
    elif about["operator"] == "blur":
        height, width, std, taps = tensors["blur"].tolist()
        operator = GaussianBlur(int(height), int(width), std, int(taps))
    else:
        operator = Identity()
    return Measurements(tensors["y"], operator, about["noise_std"], tuple(tensors["index"].tolist()))

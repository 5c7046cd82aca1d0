r"""Linear systems with A A^T: in a basis where it is diagonal, or by conjugate gradients where none is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CUTOFF = 1e-4
"""Eigenvalues of A A^T below this share of the largest count as zero in a pseudo-inverse (``solve`` with a = 0).
It lets the error of y grow at most a hundredfold, so that rounding to 32 bits stays below 1e-5."""
STEPS, TOLERANCE = 500, 1e-7
"""Conjugate-gradient steps at most, and the share of v at which the residual of :func:`solve_by_gradients` is done."""


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each picture with its partner, [B, 1, 1, 1]."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


def conjugate_gradients(
    K: Callable[[Tensor], Tensor],
    b: Tensor,
    steps: int,
    tolerance: float | None = None,
    M: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """u with K u = b for each picture, K symmetric and positive, from u = 0 (Hestenes & Stiefel 1952).

    Args:
        K: the matrix, as a function on [B, C, H, W].
        b: right-hand sides, [B, C, H, W].
        steps: at most so many.
        tolerance: done where the residual of every picture is below this share of its b; None takes all steps.
        M: r -> M^{-1} r, a preconditioner, symmetric and positive; the nearer to K's inverse, the fewer steps.
    """
    u, r = torch.zeros_like(b), b
    z = r if M is None else M(r)
    p, rz = z, dot(r, z)
    goal = None if tolerance is None else tolerance**2 * dot(b, b)
    for _ in range(steps):
        if goal is not None and bool(((rz if M is None else dot(r, r)) <= goal).all()):
            break
        Kp = K(p)
        # a = <r, z> / <p, K p>,   u <- u + a p,   r <- r - a K p,   z = M^-1 r
        a = rz / dot(p, Kp).clamp_min(1e-20)
        u, r = u + a * p, r - a * Kp
        z = r if M is None else M(r)
        new = dot(r, z)
        # p <- z + <r, z> / <r_before, z_before> p
        p, rz = z + new / rz.clamp_min(1e-20) * p, new
    return u


def solve_by_gradients(
    AAT: Callable[[Tensor], Tensor],
    v: Tensor,
    a: float | Tensor,
    b: float | Tensor,
    near: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    r"""(a I + b A A^T)^{-1} v with nothing known of A A^T but its products, computed in float64.

    For a = 0 it is a smooth pseudo-inverse: an eigenvalue l counts as (l + c)^2 / l, with c = CUTOFF / 10 of the
    largest, which is l where l is large, and infinite where l is 0.

    Args:
        AAT: u -> A A^T u on [B, C', H', W'].
        v, a, b: as for :meth:`emlib.operators.Operator.solve`.
        near: (r, a, b) -> about (a I + b A A^T)^{-1} r, symmetric and positive, which spares steps
            (:meth:`emlib.operators.Operator.approximate_solve`).

    Raises:
        ValueError: if ``a`` or ``b`` is out of range.
    """
    w = v.double()
    a, b = variances(a, b, w)
    # c I + b A A^T,   c = a, or a share of the largest eigenvalue where a = 0
    exact = bool((a > 0).all())
    c = a if exact else torch.where(a > 0, a, 0.1 * CUTOFF * b * _largest(AAT, w))

    M = None if near is None else lambda r: near(r, c, b)

    def solved(w: Tensor) -> Tensor:
        return conjugate_gradients(lambda p: c * p + b * AAT(p), w, STEPS, TOLERANCE, M)

    u = solved(w)
    if exact:
        return u.to(v)
    # once more on b A A^T u, which has nothing where A A^T has nothing
    return torch.where(a > 0, u, solved(b * AAT(u))).to(v)


def _largest(AAT: Callable[[Tensor], Tensor], like: Tensor, steps: int = 12) -> Tensor:
    """The largest eigenvalue for each picture, [B, 1, 1, 1], by power iteration from a fixed start."""
    start = torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    u = start.to(like.device).expand_as(like)
    for _ in range(steps):
        u = AAT(u / dot(u, u).sqrt().clamp_min(1e-300))
    return dot(u, u).sqrt().clamp_min(1e-300)


def divide(v: Tensor, eigenvalue: Tensor, a: float | Tensor, b: float | Tensor) -> Tensor:
    """(a + b eigenvalue)^{-1} v in the basis where A A^T is diagonal, and 0 where there is nothing to divide by."""
    a, b = variances(a, b, v)
    kept = (a > 0) | (eigenvalue > CUTOFF * eigenvalue.max())
    return torch.where(kept, v / torch.where(kept, a + b * eigenvalue, 1), 0)


def variances(a: float | Tensor, b: float | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Both as tensors in the dtype of ``like``.

    Raises:
        ValueError: if ``a`` is below 0 or ``b`` is not above 0.
    """
    pair = (
        c.to(like) if isinstance(c, Tensor) else torch.full((), c, dtype=like.dtype, device=like.device) for c in (a, b)
    )
    waits = any(isinstance(c, Tensor) and c.is_cuda for c in (a, b))  # as what comes from a time grid; taken on trust
    if not waits and not all(bool(torch.as_tensor(ok).all()) for ok in (a >= 0, b > 0)):
        raise ValueError(f"solve needs a >= 0 and b > 0, as variances are, got a={_said(a)} and b={_said(b)}")
    a, b = pair
    return a, b


def _said(c: float | Tensor) -> float | list[float]:
    return c.tolist() if isinstance(c, Tensor) else c

r"""What an operator must hold to: each check says in one sentence what is wrong and what to do about it."""

from __future__ import annotations

import torch
from torch import Tensor

from emlib.operators import Operator


def check_operator(A: Operator, shape: tuple[int, int, int] = (1, 16, 16), count: int = 3, seed: int = 0) -> None:
    """Holds an operator to the contract of :class:`emlib.operators.Operator`.

    Args:
        A: the operator of ``count`` pictures.
        shape: (C, H, W) of a picture that it takes.
        count: number of pictures.
        seed: seed of the pictures that it is tried on.

    Raises:
        AssertionError: naming the first promise that it does not keep, with the remedy.
    """
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        for dtype in (torch.float64, torch.float32):
            g = torch.Generator().manual_seed(seed)
            x, z = (torch.rand(2, count, *shape, generator=g, dtype=torch.float64) * 2 - 1).to(device, dtype)
            exact = dtype == torch.float64
            for check in (_shapes, _linear, _adjoint, _differentiable, _apart, _gaps, _solve, _near, _pictures):
                check(A, x, z, 1e-9 if exact else 1e-4)
    if A.remade:
        _kept(A, x)


def _say(holds: bool | Tensor, A: Operator, says: str) -> None:
    if not bool(holds):
        raise AssertionError(f"operator {getattr(A, 'name', type(A).__name__)!r}: {says}")


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two agree up to a share of the larger one's greatest number."""
    scale = max(a.abs().max().item(), b.abs().max().item(), 1e-30)
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance * scale)


def _shapes(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    y = A(x)
    _say(isinstance(getattr(A, "name", None), str) and A.name != "", A, "it needs a name, one word")
    _say(y.ndim == 4 and len(y) == len(x), A, f"A(x) must be [B, C', H', W'] for B pictures, got {tuple(y.shape)}")
    found, wanted = tuple(A.image_shape((y.shape[1], y.shape[2], y.shape[3]))), tuple(x.shape[1:])
    _say(
        found == wanted,
        A,
        f"measurements {tuple(y.shape[1:])} belong to pictures {wanted}, but image_shape says {found}; write it",
    )
    back = A.adjoint(y)
    _say(
        back.shape == x.shape,
        A,
        f"A.adjoint(y) must have the pictures' shape {tuple(x.shape)}, got {tuple(back.shape)}",
    )
    for name, part in (("A(x)", y), ("A.adjoint(y)", back)):
        _say(part.dtype == x.dtype, A, f"{name} must keep the dtype {x.dtype}, got {part.dtype}; use .to(x)")
        _say(part.device == x.device, A, f"{name} must stay on {x.device}, got {part.device}; use .to(x)")


def _linear(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    # A (2 x - 3 z) = 2 A x - 3 A z
    _say(
        _close(A(2 * x - 3 * z), 2 * A(x) - 3 * A(z), tolerance),
        A,
        "A is not linear; what it adds belongs to the noise",
    )


def _adjoint(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    y = A(z)
    # <A x, y> = <x, A^T y>, picture by picture
    a, b = (A(x) * y).flatten(1).sum(1), (x * A.adjoint(y)).flatten(1).sum(1)
    size = (A(x).flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)).clamp_min(1e-30)
    _say(((a - b).abs() <= tolerance * size).all(), A, "adjoint is not that of A: <A x, y> is not <x, A^T y>")


def _differentiable(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    y = A(z).detach()
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        out = A(leaf)
        _say(out.requires_grad, A, "A must be differentiable, since DPS needs its gradient; compute it by torch alone")
        # the gradient of <A x, y> by x is A^T y
        (g,) = torch.autograd.grad((out * y).sum(), leaf)
    _say(_close(g, A.adjoint(y), tolerance), A, "the gradient of <A x, y> by x is not A^T y")


def _apart(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    y = A(x)
    for i in range(len(x)):
        one = A.select([i])
        _say(
            _close(one(x[i : i + 1]), y[i : i + 1], tolerance),
            A,
            f"A.select([{i}]) measures picture {i} otherwise than A; pick that picture's own parameters",
        )


def _gaps(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    y = A(x)
    seen = A.seen(y)
    _say(seen.shape == y.shape, A, f"A.seen(y) must have the shape of y, {tuple(y.shape)}, got {tuple(seen.shape)}")
    _say(((seen == 0) | (seen == 1)).all(), A, "A.seen(y) must be 0 or 1 everywhere")
    _say(_close(seen * y, y, tolerance), A, "A(x) must be 0 where A.seen(y) says that nothing was measured")


def _solve(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    v, loose = A(z), max(1e-5, 100 * tolerance)  # a solver of steps ends somewhere
    each = torch.linspace(0.5, 2.0, len(v), dtype=v.dtype, device=v.device).view(-1, 1, 1, 1)
    for a, b in ((0.3, 2.0), (each, 1.0), (1e-2, each)):
        u = A.solve(v, a, b)
        _say(u.shape == v.shape and u.dtype == v.dtype, A, "A.solve(v, a, b) must have the shape and the dtype of v")
        # (a I + b A A^T) u = v
        _say(_close(a * u + b * A(A.adjoint(u)), v, loose), A, "A.solve(v, a, b) does not solve (a I + b A A^T) u = v")
    # b A A^T u = v for a = 0, up to directions that A all but loses: so only twice measured, A A^T v, is asked for
    w = A(A.adjoint(v))
    u = A.solve(w, 0.0, 2.0)
    _say(u.isfinite().all(), A, "A.solve(v, 0, b) must be the pseudo-inverse, and finite")
    _say(_close(2 * A(A.adjoint(u)), w, 0.02), A, "A.solve(v, 0, b) is not the pseudo-inverse of b A A^T")


def _near(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    u, v, loose = A(x), A(z), max(1e-5, 100 * tolerance)
    Mu, Mv = A.approximate_solve(u, 0.3, 2.0), A.approximate_solve(v, 0.3, 2.0)
    _say(Mv.shape == v.shape and Mv.dtype == v.dtype, A, "A.approximate_solve must have the shape and the dtype of v")
    # <u, M v> = <M u, v> and <v, M v> > 0, picture by picture
    a, b, square = ((p * q).flatten(1).sum(1) for p, q in ((u, Mv), (Mu, v), (v, Mv)))
    size = (u.flatten(1).norm(dim=1) * Mv.flatten(1).norm(dim=1)).clamp_min(1e-30)
    _say(((a - b).abs() <= loose * size).all(), A, "A.approximate_solve(v, a, b) is not symmetric in v")
    _say(((square > 0) | ~v.flatten(1).any(1)).all(), A, "A.approximate_solve(v, a, b) is not positive")
    if (c := A.gain()) is not None:
        # A A^T v = c v
        _say(_close(A(A.adjoint(v)), c * v, tolerance), A, f"A.gain() says {c}, but A A^T v is not {c} v; return None")


def _pictures(A: Operator, x: Tensor, z: Tensor, tolerance: float) -> None:
    y = A(x)
    for name, made in (("view(y)", A.view(y)), ("prefiltered(y, 0.1)", A.prefiltered(y, 0.1))):
        _say(
            made.shape == x.shape,
            A,
            f"A.{name} must have the pictures' shape {tuple(x.shape)}, got {tuple(made.shape)}",
        )
        _say(made.isfinite().all(), A, f"A.{name} must be finite")


def _kept(A: Operator, x: Tensor) -> None:
    """What is written to files makes the same operator again."""
    tensors = A.tensors()
    _say(all(isinstance(t, Tensor) for t in tensors.values()), A, "A.tensors() must be tensors by name")
    try:
        again = type(A).from_tensors(tensors)
    except TypeError as error:
        raise AssertionError(
            f"operator {A.name!r} cannot be made again of A.tensors() ({error}); write tensors and from_tensors"
        ) from error
    _say(_close(again(x), A(x), 1e-6), A, "from_tensors(A.tensors()) is another operator; write the two")

r"""What was there before networks: an interpolation, a filter or a deconvolution, from one picture alone.

Total variation and BM3D are left out: each would take a package of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from emlib.em.initial import preprocessed
from emlib.operators import Measurements
from emlib.runtime.rng import randn, streams

WEIGHTS = tuple(10.0 ** (k / 2) for k in range(-18, 0))
"""Tikhonov weights that :func:`deconvolved` chooses from; below the first, float32 has no digits left."""


def classical(measurements: Measurements) -> Tensor:
    """The measurements made good by the method of their kind, [N, C, H, W] on [-1, 1].

    Masks are interpolated, noise is smoothed by the Wiener filter of :func:`emlib.preprocessed`, which is told the
    noise's variance, and blur, like all else, is undone by :func:`deconvolved`.
    """
    return METHODS[measurements.operator.classical](measurements)


def interpolated(measurements: Measurements) -> Tensor:
    """Thin-plate splines through the seen pixels: the smoothest surface that meets them all (scipy), for masks.

    Raises:
        ValueError: if the operator does more, or else, than hide pixels.
    """
    masks = measurements.operator.pixel_mask()
    if masks is None:
        raise ValueError(f"splines are for masks, but the operator is {measurements.operator.name!r}")
    masks = masks.expand(len(measurements), -1, -1, -1)
    everywhere = np.argwhere(np.ones(measurements.y.shape[-2:]))
    pictures = []
    for y, mask in zip(measurements.y.cpu(), masks[:, 0].cpu().bool(), strict=True):
        spline = RBFInterpolator(mask.nonzero().numpy(), y[:, mask].T.numpy())
        pictures.append(torch.from_numpy(spline(everywhere)).T.reshape(y.shape).to(y))
    return torch.stack(pictures).clamp(-1, 1)


def deconvolved(measurements: Measurements) -> tuple[Tensor, float]:
    r"""Tikhonov's deconvolution, its weight chosen by generalised cross-validation (Golub, Heath & Wahba 1979).

    Returns:
        The pictures, [N, C, H, W] on [-1, 1], and the weight a: no clean picture was needed for it.
    """
    y, A = measurements.y, measurements.operator
    z = randn(streams(0, "cross-validation", measurements.index), tuple(y.shape[1:]), y.device)

    def score(a: float) -> float:
        # residual y - A x = a (a I + A A^T)^-1 y;   score = mean residual^2 / (trace / m)^2, the trace by probes z
        trace = (z * a * A.solve(z, a, 1.0)).mean()
        return float((a * A.solve(y, a, 1.0)).square().mean() / trace.square())

    a = min(WEIGHTS, key=score)
    # argmin |y - A x|^2 + a |x|^2 = A^T (a I + A A^T)^-1 y
    return A.adjoint(A.solve(y, a, 1.0)).clamp(-1, 1), a


METHODS: dict[str, Callable[[Measurements], Tensor]] = {
    "interpolation": interpolated,
    "filter": preprocessed,
    "deconvolution": lambda measurements: deconvolved(measurements)[0],
}
"""By the name that an operator's ``classical`` has."""

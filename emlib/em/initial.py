r"""First priors other than a few clean pictures: a Gaussian fitted to the measurements, or the measurements made good.

Pictures from elsewhere ("out of distribution") need nothing from here: hand them to :func:`emlib.run_em` in place of
the clean ones (EMDiffusion, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from emlib.operators import STABLE_STD, Measurements, conjugate_gradients
from emlib.runtime.rng import randn, streams
from emlib.schedule import Schedule


@dataclass(frozen=True)
class GaussianPrior:
    r"""x_0 ~ N(mean, Q diag(variance) Q^T): a prior whose eps(x_t, t) is known exactly.

    Attributes:
        mean: [D], D = C H W.
        basis: Q, [D, D], one direction a column.
        variance: [D], along these directions, 0 or more.
        schedule: the noise levels.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """eps(x_t, t), [B, C, H, W]; differentiable."""
        a, s = self.schedule.alpha(t).view(-1, 1), self.schedule.sigma(t).view(-1, 1)
        # eps = sigma_t (alpha_t^2 S + sigma_t^2 I)^-1 (x_t - alpha_t mean)
        along = (x_t.flatten(1) - a * self.mean) @ self.basis
        return (s * (along / (a.square() * self.variance + s.square())) @ self.basis.T).view_as(x_t)


def fit_gaussian(
    measurements: Measurements,
    schedule: Schedule,
    iterations: int = 16,
    seed: int = 0,
    cg_steps: int = 32,
    batch: int = 1000,
) -> GaussianPrior:
    r"""Fits a Gaussian to broken pictures by EM, with no clean picture at all (Rozet et al. 2024, section 4).

    The same loop as the book's, with a prior so simple that both steps are textbook: the E-step draws from the
    exact posterior, up to the solver's error, and the M-step takes mean and covariance of what was drawn.

    Args:
        measurements: of N pictures; N in the hundreds at least, since a covariance is wanted.
        schedule: the noise levels of the prior to return.
        iterations: EM iterations, at least 1.
        seed: seed of the draws.
        cg_steps: steps of the linear solver.
        batch: pictures at a time.

    Raises:
        ValueError: if there are too few measurements or iterations.
    """
    if len(measurements) < 2 or iterations < 1:
        raise ValueError(
            "a Gaussian fit needs at least two measurements and one iteration, "
            f"got {len(measurements)} and {iterations}"
        )
    device, size, measured = measurements.y.device, prod(measurements.image_shape), measurements.y[0].numel()
    mean, root = torch.zeros(size, device=device), torch.eye(size, device=device)
    for k in range(1, iterations + 1):
        drawn = []
        for first in range(0, len(measurements), batch):
            part = measurements.select(range(first, min(first + batch, len(measurements))))
            normal = randn(streams(seed, f"gaussian fit {k}", part.index), (size + measured,), device)
            drawn.append(_conditioned(part, mean, root, normal, cg_steps).flatten(1))
        x = torch.cat(drawn)
        # mean <- mean of x_i,   S <- covariance of x_i = Q diag(variance) Q^T
        mean = x.mean(0)
        variance, basis = torch.linalg.eigh(torch.cov(x.T))
        variance = variance.clamp_min(0)
        root = basis * variance.sqrt()
    return GaussianPrior(mean, basis, variance, schedule)


def _conditioned(m: Measurements, mean: Tensor, root: Tensor, normal: Tensor, cg_steps: int) -> Tensor:
    """Draws x ~ N(mean, S) given y, S = root root^T, by correcting a draw that knows nothing of y.

    ``normal`` has a number for each of x and then for each of y, [B, C H W + C' H' W'].
    """
    std, size = max(m.noise_std, STABLE_STD), prod(m.image_shape)

    def S(v: Tensor) -> Tensor:
        return (v.flatten(1) @ root @ root.T).view_as(v)

    # x ~ N(mean, S),   n ~ N(0, std^2 I)
    x = (mean + normal[:, :size] @ root.T).view(len(m), *m.image_shape)
    n = std * normal[:, size:].view_as(m.y)
    # x + S A^T (A S A^T + std^2 I)^-1 (y - A x - n)
    A = m.operator
    u = conjugate_gradients(lambda p: std**2 * p + A(S(A.adjoint(p))), m.y - A(x) - n, cg_steps)
    return x + S(A.adjoint(u))


def preprocessed(measurements: Measurements) -> Tensor:
    """The measurements made as good as a simple filter can, to train a first prior on, [N, C, H, W] on [-1, 1].

    The paper takes BM3D for noise, total variation for blur and masked pictures as they are (appendix B). Here it is
    what the operator says (:meth:`emlib.operators.Operator.prefiltered`): a Wiener filter for noise, masked pictures
    as they are, regularised least squares for blur and all else.
    """
    return measurements.operator.prefiltered(measurements.y, measurements.noise_std).clamp(-1, 1)

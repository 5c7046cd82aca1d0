r"""A crowd of pictures as the mean and covariance of its features, and how far two crowds are apart.

That is all a Fréchet distance looks at, so that 50,000 pictures pass through a batch at a time, and 2048 features of
them leave 32 MB behind instead of 800.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """What is kept of ``n`` vectors of D features, in float64.

    Attributes:
        n: how many.
        mean: [D].
        scatter: [D, D], the sum of (x - mean) (x - mean)^T; added up it is exact, unlike the covariance.
    """

    n: int
    mean: Tensor
    scatter: Tensor

    @property
    def cov(self) -> Tensor:
        """Covariance [D, D], unbiased; at least two vectors needed."""
        return self.scatter / (self.n - 1)


def statistics(batches: Iterable[Tensor]) -> Statistics:
    """Mean and covariance of features that come in batches [B, D], in any order and on any device.

    Raises:
        ValueError: if a batch has another form or another D, or there are fewer than two vectors.
    """
    total: Statistics | None = None
    for x in batches:
        if x.ndim != 2 or len(x) == 0 or (total and x.shape[1] != len(total.mean)):
            before = f" after [B, {len(total.mean)}]" if total else ""
            raise ValueError(f"features must be [B, D] with B > 0 and one D, got {tuple(x.shape)}{before}")
        x = x.double()
        apart = x - x.mean(0)
        part = Statistics(len(x), x.mean(0), apart.T @ apart)
        total = part if total is None else merged(total, part)
    if total is None or total.n < 2:
        raise ValueError(f"a covariance needs at least two pictures, got {total.n if total else 0}")
    return Statistics(total.n, total.mean.cpu(), total.scatter.cpu())


def merged(a: Statistics, b: Statistics) -> Statistics:
    """Statistics of two crowds together (Chan, Golub & LeVeque 1983, eq. 2.1); nothing large is ever subtracted."""
    n, shift = a.n + b.n, b.mean - a.mean
    # m = m_a + (n_b / n) (m_b - m_a),   M = M_a + M_b + (n_a n_b / n) (m_b - m_a) (m_b - m_a)^T
    scatter = a.scatter + b.scatter + (a.n * b.n / n) * torch.outer(shift, shift)
    return Statistics(n, a.mean + (b.n / n) * shift, scatter)


def distance(a: Statistics, b: Statistics) -> float:
    r"""Fréchet distance of the Gaussians with these means and covariances (Heusel et al. 2017, eq. 6).

    Raises:
        ValueError: if the two have other features.
    """
    from scipy import linalg  # takes its time, and nothing else here needs it

    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features must be the same, got {len(a.mean)} and {len(b.mean)} of them")
    mean_a, mean_b, cov_a, cov_b = a.mean.numpy(), b.mean.numpy(), a.cov.numpy(), b.cov.numpy()
    # |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))
    # The trace of the root is the sum of the roots of the eigenvalues, also where a feature never varies.
    root = np.sqrt(linalg.eigvals(cov_a @ cov_b).real.clip(min=0)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b) - 2 * root)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""Fréchet distance of two Gaussians fitted to two crowds of features (Heusel et al. 2017, eq. 6).

    Args:
        a, b: features, [N, D] and [M, D], both with more rows than D so that the covariances have full rank.

    Raises:
        ValueError: if the features do not match or the crowds are too small.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], got {tuple(a.shape)} and {tuple(b.shape)}")
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(f"{len(a)} and {len(b)} pictures are too few for {a.shape[1]} features; take more than that")
    return distance(statistics([a]), statistics([b]))

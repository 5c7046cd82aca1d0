r"""DiffPIR: denoise, move to a picture that fits y, noise again; no backward pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator

from emlib.diffusion import Eps, SampleStep, predict_x0
from emlib.operators import Measurements
from emlib.posterior.base import GRID_POWER
from emlib.runtime.rng import randn
from emlib.schedule import Schedule, time_grid


@torch.no_grad()
def diffpir(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    weight: float = 7.0,
    zeta: float = 1.0,
) -> Iterator[SampleStep]:
    r"""Diffusion models for plug-and-play image restoration (Zhu et al. 2023, algorithm 1).

    Both noise levels of rho_t are on the [-1, 1] scale. The authors' code mixes noise_std on [0, 1] with sigma_t on
    [-1, 1], so its lambda is 4 times our weight. Without noise rho_t is 0 and the proximal step goes to
    the picture nearest to the estimate among all that y allows (the pseudo-inverse of ``Operator.solve``); the
    authors' code takes a noise of 0.001 on [0, 1] instead, which lets the last estimate miss y.

    Args:
        model: eps_theta; needs no gradient.
        schedule: the noise levels.
        measurements: y, A and the noise's standard deviation; B pictures.
        generators: one random stream for each picture.
        steps: network calls, 1 to T.
        weight: how far the estimate is trusted against y, the paper's lambda, above 0; counts where there is noise.
        zeta: share of fresh noise in variance, 0 (none) to 1 (all).

    Raises:
        ValueError: if a number is out of range.
    """
    if not 0 < weight < float("inf"):
        raise ValueError(f"the weight of the estimate must be above 0, got weight={weight}; 1 to 10 are usual")
    if not 0 <= zeta <= 1:
        raise ValueError(f"zeta mixes old noise (0) and fresh noise (1), got zeta={zeta}")
    y, A, variance = measurements.y, measurements.operator, measurements.noise_std**2
    grid = time_grid(schedule, steps, GRID_POWER)
    shape = measurements.image_shape
    x = randn(generators, shape, y.device)
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        # x0 = E[x_0 | x_t]
        x0 = predict_x0(model(x, torch.full((len(x),), t, device=x.device)), schedule, x, t).clamp(-1, 1)
        # rho_t = lambda noise_std^2 / (sigma_t / alpha_t)^2
        rho = weight * variance * (schedule.alpha(t) / schedule.sigma(t)).square()
        # x0_hat = argmin_x || y - A x ||^2 + rho_t || x - x0 ||^2 = x0 + A^T (rho_t I + A A^T)^-1 (y - A x0)
        x0_hat = x0 + A.adjoint(A.solve(y - A(x0), rho, 1.0))
        # eps = (x_t - alpha_t x0_hat) / sigma_t
        eps = (x - schedule.alpha(t) * x0_hat) / schedule.sigma(t)
        noise = randn(generators, shape, y.device)
        # x_s = alpha_s x0_hat + sigma_s (sqrt(1 - zeta) eps + sqrt(zeta) z)
        x = schedule.alpha(s) * x0_hat + schedule.sigma(s) * ((1 - zeta) ** 0.5 * eps + zeta**0.5 * noise)
        yield SampleStep(s, x, x0_hat)

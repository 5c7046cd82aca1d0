r"""DPS: a step of the prior, then a push towards the measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

import torch
from torch import Generator, Tensor

from emlib.diffusion import Eps, SampleStep, check_eta, predict_x0, reverse_step
from emlib.operators import Measurements
from emlib.posterior.base import GRID_POWER
from emlib.runtime.rng import randn
from emlib.schedule import Schedule, time_grid


def dps(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    scale: float,
    eta: float = 1.0,
) -> Iterator[SampleStep]:
    r"""Diffusion posterior sampling with a push along the gradient of a norm (Chung et al. 2023, algorithm 1).

    One step of the prior's sampler, then a push downhill on the distance between y and what the
    estimate would measure. It differs from EMDiffusion's eq. 11, which :func:`dps_squared` computes: as in the
    authors' code the distance is a plain norm, not a square over 2 noise_std^2. Unlike there, it is a norm of each
    picture, so that the batch does not change the result.

    Args:
        model: eps_theta, differentiable.
        schedule: the noise levels.
        measurements: y, A and the noise's standard deviation; B pictures.
        generators: one random stream for each picture.
        steps: network calls, 1 to T.
        scale: factor of the push, lambda in the book, 0 or more.
        eta: share of fresh noise, 1 for ancestral sampling as in the paper.

    Raises:
        ValueError: if a number is out of range.
    """
    # r = || y - A x0_hat ||, one for each picture
    return _pushed(model, schedule, measurements, generators, steps, scale, eta, lambda gap: gap.flatten(1).norm(dim=1))


def dps_squared(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    scale: float,
    eta: float = 1.0,
) -> Iterator[SampleStep]:
    r"""DPS by the squared distance (EMDiffusion, eq. 11; Chung et al. 2023, algorithm 1), with one step for all times.

    Eq. 11 has lambda / (2 noise_std^2) before the gradient, for which ``scale`` stands, since a task without noise
    leaves it undefined. The push is 2 || y - A x0_hat || times that of :func:`dps` with the same scale: long where
    the estimate is far from y, and vanishing where it fits.

    Args:
        model: eps_theta, differentiable.
        schedule: the noise levels.
        measurements: y, A and the noise's standard deviation; B pictures.
        generators: one random stream for each picture.
        steps: network calls, 1 to T.
        scale: factor of the gradient, zeta_i in the paper, 0 or more; useful values are below those of dps.
        eta: share of fresh noise, 1 for ancestral sampling as in the paper.

    Raises:
        ValueError: if a number is out of range.
    """
    # r = || y - A x0_hat ||^2, one for each picture
    return _pushed(
        model, schedule, measurements, generators, steps, scale, eta, lambda gap: gap.flatten(1).square().sum(dim=1)
    )


def _pushed(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    scale: float,
    eta: float,
    distance: Callable[[Tensor], Tensor],
) -> Iterator[SampleStep]:
    """The loop of both, where ``distance`` makes one number per picture [B] of y - A x0_hat."""
    check_eta(eta)
    if not 0 <= scale < inf:
        raise ValueError(f"the guidance scale must be 0 or more, and finite, got {scale}")
    y, A = measurements.y, measurements.operator
    grid = time_grid(schedule, steps, GRID_POWER)
    shape = measurements.image_shape
    x = randn(generators, shape, y.device)
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        with torch.enable_grad():
            x_t = x.detach().requires_grad_()
            # x0_hat = E[x_0 | x_t]
            x0_hat = predict_x0(model(x_t, torch.full((len(x),), t, device=x.device)), schedule, x_t, t).clamp(-1, 1)
            # r = distance of y and A x0_hat
            r = distance(y - A(x0_hat))
            # g = d r / d x_t, through the network
            (g,) = torch.autograd.grad(r.sum(), x_t)
        x0_hat = x0_hat.detach()
        noise = randn(generators, shape, y.device)
        # x_s = step of the prior - lambda g
        x = reverse_step(schedule, x, x0_hat, t, s, eta, noise) - scale * g
        yield SampleStep(s, x, x0_hat)

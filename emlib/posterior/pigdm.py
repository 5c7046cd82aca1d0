r"""PiGDM: the guess that one would make knowing y, were all pixels equally uncertain."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from emlib.diffusion import Eps, SampleStep, check_eta, predict_x0, reverse_step
from emlib.operators import Measurements
from emlib.posterior.base import GRID_POWER
from emlib.runtime.rng import randn
from emlib.schedule import Schedule, time_grid


def pigdm(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    eta: float = 1.0,
) -> Iterator[SampleStep]:
    r"""Pseudoinverse-guided diffusion (Song et al. 2023, section 3): no scale to choose, one backward pass per step.

    Replaces E[x_0 | x_t] by E[x_0 | x_t, y] in the prior's sampler, as MMPS does (see :func:`pigdm_mean`). The
    paper's algorithm 1 differs: it steps with the prior's own estimate and adds the gradient times alpha_t, which
    amounts to an adaptive weight r_t^2 on the guidance.

    Args:
        model: eps_theta, differentiable.
        schedule: the noise levels.
        measurements: y, A and the noise's standard deviation; B pictures.
        generators: one random stream for each picture.
        steps: network calls, 1 to T.
        eta: share of fresh noise, 1 for ancestral sampling.

    Raises:
        ValueError: if a number is out of range.
    """
    check_eta(eta)
    y = measurements.y
    grid = time_grid(schedule, steps, GRID_POWER)
    shape = measurements.image_shape
    x = randn(generators, shape, y.device)
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        x0_hat = pigdm_mean(model, schedule, measurements, x, t).clamp(-1, 1)
        noise = randn(generators, shape, y.device)
        x = reverse_step(schedule, x, x0_hat, t, s, eta, noise)
        yield SampleStep(s, x, x0_hat)


def pigdm_mean(model: Eps, schedule: Schedule, measurements: Measurements, x: Tensor, t: int) -> Tensor:
    r"""E[x_0 | x_t, y] with p(x_0 | x_t) = N(x0_hat, r_t^2 I) in the likelihood of y (Song et al. 2023, eq. 7).

    r_t^2 is the variance of x_0 given x_t for data of unit variance, the paper's choice: sigma_t^2 on our schedule.
    Exact where that holds, [B, C, H, W]. Without noise the inverse is the pseudo-inverse of ``Operator.solve``.
    """
    y, A, variance = measurements.y, measurements.operator, measurements.noise_std**2
    with torch.enable_grad():
        x_t = x.detach().requires_grad_()
        x0_hat = predict_x0(model(x_t, torch.full((len(x),), t, device=x.device)), schedule, x_t, t)
    mean = x0_hat.detach()
    # r_t^2 = sigma_t^2
    r2 = schedule.sigma(t).square()
    # u = (noise_std^2 I + r_t^2 A A^T)^-1 (y - A x0_hat)
    u = A.solve(y - A(mean), variance, r2)
    # J^T A^T u,   J = d x0_hat / d x_t
    (JTATu,) = torch.autograd.grad(x0_hat, x_t, A.adjoint(u))
    # E[x_0 | x_t, y] = x0_hat + sigma_t^2 / alpha_t  J^T A^T u
    return mean + schedule.sigma(t).square() / schedule.alpha(t) * JTATu

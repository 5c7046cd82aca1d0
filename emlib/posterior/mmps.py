r"""MMPS: the guess that one would make knowing y, with the network's own covariance."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from emlib.diffusion import Eps, SampleStep, check_eta, predict_x0, reverse_step
from emlib.operators import Measurements, dot
from emlib.posterior.base import GRID_POWER
from emlib.runtime.rng import randn
from emlib.schedule import Schedule, time_grid


def mmps(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    cg_steps: int = 1,
    eta: float = 1.0,
) -> Iterator[SampleStep]:
    r"""Moment matching posterior sampling (Rozet et al. 2024, section 4.2): no scale to choose.

    Replaces E[x_0 | x_t] by E[x_0 | x_t, y] in the prior's sampler, taking p(x_0 | x_t) for a Gaussian
    with the mean and covariance that the network itself implies (see :func:`posterior_mean`).

    Args:
        model: eps_theta, differentiable.
        schedule: the noise levels.
        measurements: y, A and the noise's standard deviation; B pictures.
        generators: one random stream a picture.
        steps: network calls, 1 to T.
        cg_steps: conjugate-gradient steps in each of them, one backward pass each, at least 1.
        eta: share of fresh noise, 1 for ancestral sampling.

    Raises:
        ValueError: if a number is out of range.
    """
    check_eta(eta)
    if cg_steps < 1:
        raise ValueError(f"mmps needs at least one conjugate-gradient step, got cg_steps={cg_steps}")
    y = measurements.y
    grid = time_grid(schedule, steps, GRID_POWER)
    shape = measurements.image_shape
    x = randn(generators, shape, y.device)
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        x0_hat = posterior_mean(model, schedule, measurements, x, t, cg_steps).clamp(-1, 1)
        noise = randn(generators, shape, y.device)
        x = reverse_step(schedule, x, x0_hat, t, s, eta, noise)
        yield SampleStep(s, x, x0_hat)


def posterior_mean(
    model: Eps, schedule: Schedule, measurements: Measurements, x: Tensor, t: int, cg_steps: int
) -> Tensor:
    r"""E[x_0 | x_t, y] by moment matching (Rozet et al. 2024, eq. 16 and 17), [B, C, H, W].

    With p(x_0 | x_t) = N(x0_hat, V) the mean given y is x0_hat + V A^T u, where u solves
    (noise_std^2 I + A V A^T) u = y - A x0_hat. V = sigma_t^2 / alpha_t d x0_hat / d x_t is never
    formed: a product with V is one backward pass. Conjugate gradients ask for V A^T p in each step, and
    since u is a sum of such p, the products already made add up to V A^T u at no further cost.

    Conjugate gradients need a symmetric, positive V. The exact denoiser's is; a trained network's is only nearly so,
    a poor one's not always. Then few steps are safest: the authors take one to three, and advise GMRES for more.
    """
    y, A, variance = measurements.y, measurements.operator, measurements.noise_std**2
    with torch.enable_grad():
        x_t = x.detach().requires_grad_()
        x0_hat = predict_x0(model(x_t, torch.full((len(x),), t, device=x.device)), schedule, x_t, t)
    # V = sigma_t^2 / alpha_t  d x0_hat / d x_t, symmetric for the exact denoiser
    weight = schedule.sigma(t).square() / schedule.alpha(t)

    def V(v: Tensor, last: bool) -> Tensor:
        (product,) = torch.autograd.grad(x0_hat, x_t, v, retain_graph=not last)
        return weight * product

    mean = x0_hat.detach().clone()
    # r = y - A x0_hat,   p = r
    r = y - A(mean)
    p, rr = r, dot(r, r)
    for step in range(cg_steps):
        # K p = noise_std^2 p + A V A^T p
        VAp = V(A.adjoint(p), last=step == cg_steps - 1)
        Kp = variance * p + A(VAp)
        # a = <r, r> / <p, K p>; a network whose K is not positive along p gets no further step
        pKp = dot(p, Kp)
        a = torch.where(pKp > 0, rr / pKp.clamp_min(1e-20), 0)
        # u <- u + a p, hence V A^T u <- V A^T u + a V A^T p
        mean = mean + a * VAp
        r = r - a * Kp
        new = dot(r, r)
        p, rr = r + torch.where(rr > 0, new / rr.clamp_min(1e-20), 0) * p, new
    return mean

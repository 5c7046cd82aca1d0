r"""MMPS: the guess that one would make knowing y, with the network's own covariance."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from emlib.diffusion import Eps, SampleStep, check_eta, predict_x0, reverse_step
from emlib.operators import Measurements, dot
from emlib.posterior.base import GRID_POWER
from emlib.runtime.rng import randn
from emlib.schedule import Schedule, time_grid

Preconditioner = Callable[[Tensor], Tensor]
"""r -> M^{-1} r, an approximate solution of K u = r that costs no network call; both in the shape of y."""

PIXEL_VARIANCE = 0.3
"""Variance of a pixel on the [-1, 1] scale: 0.33 in the book's clothes, 0.26 in CIFAR-10's photographs. With noise it
says how far y is trusted along directions that the blur hardly passes; from 0.1 up the result is much the same."""
FLOOR = 1e-5
"""Least noise that a preconditioner assumes, as a share of that variance: about what rounding to eight bits adds,
(2 / 255)^2 / 12 = 5e-6. Without, directions that the operator does not pass at all would be divided by zero."""


def by_operator(measurements: Measurements, schedule: Schedule, t: int) -> Preconditioner:
    r"""M^{-1} r = (a I + b A A^T)^{-1} r, up to a factor: K, had V = b I.

    b is the variance of a pixel given x_t, were all independent; a that of the noise, at least :data:`FLOOR` b. For
    masks and plain noise A A^T is 0 and 1, and this changes nothing. An operator without a cheap inverse may answer
    with something near it (:meth:`emlib.operators.Operator.approximate_solve`).
    """
    # b = (1 / PIXEL_VARIANCE + alpha_t^2 / sigma_t^2)^-1
    b = 1 / (1 / PIXEL_VARIANCE + schedule.alpha(t).square() / schedule.sigma(t).square())
    a = (measurements.noise_std**2 / b).clamp_min(FLOOR)
    return lambda r: measurements.operator.approximate_solve(r, a, 1.0)


def plain(measurements: Measurements, schedule: Schedule, t: int) -> Preconditioner:
    """No preconditioner, M = I."""
    return lambda r: r


def mmps(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    generators: list[Generator],
    steps: int,
    cg_steps: int = 1,
    eta: float = 1.0,
    precondition: Callable[[Measurements, Schedule, int], Preconditioner] = by_operator,
) -> Iterator[SampleStep]:
    r"""Moment matching posterior sampling (Rozet et al. 2024, section 4.2): no scale to choose.

    Replaces E[x_0 | x_t] by E[x_0 | x_t, y] in the prior's sampler, taking p(x_0 | x_t) for a Gaussian
    with the mean and covariance that the network itself implies (see :func:`posterior_mean`). The authors solve by
    plain conjugate gradients, which is ``precondition=plain``.

    Args:
        model: eps_theta, differentiable.
        schedule: the noise levels.
        measurements: y, A and the noise's standard deviation; B pictures.
        generators: one random stream for each picture.
        steps: network calls, 1 to T.
        cg_steps: conjugate-gradient steps in each of them, one backward pass each, at least 1.
        eta: share of fresh noise, 1 for ancestral sampling.
        precondition: (measurements, schedule, t) -> the preconditioner of the solver at time t.

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
        x0_hat = posterior_mean(model, schedule, measurements, x, t, cg_steps, precondition).clamp(-1, 1)
        noise = randn(generators, shape, y.device)
        x = reverse_step(schedule, x, x0_hat, t, s, eta, noise)
        yield SampleStep(s, x, x0_hat)


def posterior_mean(
    model: Eps,
    schedule: Schedule,
    measurements: Measurements,
    x: Tensor,
    t: int,
    cg_steps: int,
    precondition: Callable[[Measurements, Schedule, int], Preconditioner] = by_operator,
) -> Tensor:
    r"""E[x_0 | x_t, y] by moment matching (Rozet et al. 2024, section 4.2), [B, C, H, W].

    With p(x_0 | x_t) = N(x0_hat, V) the mean given y is x0_hat + V A^T u, where u solves K u = y - A x0_hat with
    K = noise_std^2 I + A V A^T. V = sigma_t^2 / alpha_t d x0_hat / d x_t is never formed: a product with V is one
    backward pass. Conjugate gradients ask for V A^T p in each step, and since u is a sum of such p, the products
    already made add up to V A^T u at no further cost.

    How many steps they need depends on how unlike K's eigenvalues are. A blur's A A^T spreads them over a factor of
    10^4 and more, and plain conjugate gradients come nowhere; so each residual is first divided by the K that there
    would be were V a multiple of the identity, which operators know how to solve (:func:`by_operator`). One step is
    then better than eight were. The first step of all is PiGDM's, but for its length.

    Conjugate gradients need a symmetric, positive V. The exact denoiser's is; a trained network's is only nearly so,
    and on masks more than three steps do harm. GMRES, which the authors advise for more, was tried: it does none, but
    is not as good in one step, and one step is what the time allows.

    Args:
        precondition: as for :func:`mmps`.
    """
    y, A, variance = measurements.y, measurements.operator, measurements.noise_std**2
    M = precondition(measurements, schedule, t)
    with torch.enable_grad():
        x_t = x.detach().requires_grad_()
        x0_hat = predict_x0(model(x_t, torch.full((len(x),), t, device=x.device)), schedule, x_t, t)
    # V = sigma_t^2 / alpha_t  d x0_hat / d x_t, symmetric for the exact denoiser
    weight = schedule.sigma(t).square() / schedule.alpha(t)

    def V(v: Tensor, last: bool) -> Tensor:
        (product,) = torch.autograd.grad(x0_hat, x_t, v, retain_graph=not last)
        return weight * product

    mean = x0_hat.detach().clone()
    # r = y - A x0_hat,   z = M^-1 r,   p = z
    r = y - A(mean)
    z = M(r)
    p, rz = z, dot(r, z)
    for step in range(cg_steps):
        # K p = noise_std^2 p + A V A^T p
        last = step == cg_steps - 1
        VAp = V(A.adjoint(p), last)
        Kp = variance * p + A(VAp)
        # a = <r, z> / <p, K p>; no step along a p for which a network's K is not positive
        pKp = dot(p, Kp)
        a = torch.where(pKp > 0, rz / pKp.clamp_min(1e-20), 0)
        # u <- u + a p, hence V A^T u <- V A^T u + a V A^T p
        mean = mean + a * VAp
        if last:
            break
        r = r - a * Kp
        z = M(r)
        new = dot(r, z)
        p, rz = z + torch.where(rz > 0, new / rz.clamp_min(1e-20), 0) * p, new
    return mean

r"""What a posterior sampler must hold to, tried in a world whose prior is known exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from emlib.diffusion import SampleStep
from emlib.operators import Measurements, Operator
from emlib.posterior import Sampler
from emlib.runtime.rng import streams
from emlib.schedule import linear_schedule


def check_sampler(
    sampler: Callable[..., Iterator[SampleStep]], steps: int = 6, noise_std: float = 0.1, seed: int = 0
) -> None:
    """Holds a posterior sampler to what :data:`emlib.posterior.Sampler` promises, on a world with an exact prior.

    Args:
        sampler: takes (eps_theta, schedule, measurements, generators, steps=...), all else filled in.
        steps: network calls to try it with.
        noise_std: noise of the measurements.
        seed: seed of pictures and random streams.

    Raises:
        AssertionError: naming the first promise that it does not keep.
    """
    world = _World(seed)
    name = getattr(sampler, "__name__", getattr(getattr(sampler, "func", None), "__name__", "sampler"))
    run = functools.partial(sampler, steps=steps)
    for A in (_Rows(), _Halves()):
        m = Measurements(A(world.x) + noise_std * world.noise(A), A, noise_std, tuple(range(len(world.x))))
        for check in (_path, _batches_apart, _deterministic, _fits):
            if says := check(run, world, m, steps):
                raise AssertionError(f"sampler {name!r} on {A.name}: {says}")


class _Rows(Operator):
    """Every other row is seen."""

    name = "rows"

    def __call__(self, x: Tensor) -> Tensor:
        keep = torch.arange(x.shape[-2], device=x.device) % 2 == 0
        return x * keep[:, None].to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)


class _Halves(Operator):
    """The mean of each two neighbours in a row: y is half as wide as x."""

    name = "halves"

    def __call__(self, x: Tensor) -> Tensor:
        return (x[..., ::2] + x[..., 1::2]) / 2

    def adjoint(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(2, dim=-1) / 2

    def image_shape(self, y_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, height, width = y_shape
        return channels, height, 2 * width


class _World:
    """x_0 ~ N(0, 0.3^2 I), whose eps is known exactly: eps(x_t, t) = sigma_t x_t / (0.3^2 alpha_t^2 + sigma_t^2)."""

    def __init__(self, seed: int, count: int = 16) -> None:
        self.schedule = linear_schedule()
        self.generator = torch.Generator().manual_seed(seed)
        self.x = 0.3 * torch.randn(count, 1, 8, 8, generator=self.generator)

    def noise(self, A: Operator) -> Tensor:
        y = A(self.x)
        return torch.randn(y.shape, generator=self.generator) * A.seen(y)

    def eps(self, x_t: Tensor, t: Tensor) -> Tensor:
        a, s = self.schedule.alpha(t), self.schedule.sigma(t)
        return s * x_t / (0.09 * a.square() + s.square())


def _drawn(run: Sampler, world: _World, m: Measurements) -> list[SampleStep]:
    return list(run(world.eps, world.schedule, m, streams(0, "check", m.index)))


def _path(run: Sampler, world: _World, m: Measurements, steps: int) -> str:
    path = _drawn(run, world, m)
    if len(path) != steps:
        return f"it must yield one SampleStep a network call, {steps}, but yields {len(path)}"
    if [step.t for step in path] != sorted({step.t for step in path}, reverse=True) or path[-1].t != -1:
        return f"times must fall and end at -1, the picture, got {[step.t for step in path]}"
    for step in path:
        for part in (step.x_t, step.x0_hat):
            if tuple(part.shape) != (len(m), *m.image_shape):
                return f"x_t and x0_hat must be pictures {(len(m), *m.image_shape)}, got {tuple(part.shape)}"
            if part.requires_grad or not part.isfinite().all() or part.dtype != torch.float32:
                return "x_t and x0_hat must be finite float32 without a gradient"
    return ""


def _batches_apart(run: Sampler, world: _World, m: Measurements, steps: int) -> str:
    whole = _drawn(run, world, m)[-1].x_t
    part = _drawn(run, world, m.select([5, 2]))[-1].x_t
    far = (whole[[5, 2]] - part).abs().max().item()
    return "" if far < 1e-3 else f"a picture must not depend on its batch, but moves by {far:.2g}; sum over no batch"


def _deterministic(run: Sampler, world: _World, m: Measurements, steps: int) -> str:
    y, state = m.y.clone(), torch.get_rng_state()
    first, again = (_drawn(run, world, m)[-1].x_t for _ in range(2))
    if not torch.equal(first, again) or not torch.equal(state, torch.get_rng_state()):
        return "all random numbers must come from the generators, one a picture"
    other = list(run(world.eps, world.schedule, m, streams(1, "check", m.index)))[-1].x_t
    if torch.equal(first, other):
        return "other generators must give other pictures"
    return "" if torch.equal(y, m.y) else "it must not change the measurements"


def _fits(run: Sampler, world: _World, m: Measurements, steps: int) -> str:
    # x = 0 is the mean of the prior, and fits y better than any draw that knows nothing of y
    drawn = _drawn(run, world, m)[-1].x_t
    gap, least = (m.y - m.operator(drawn)).square().mean().item(), m.y.square().mean().item()
    return (
        "" if gap < 0.97 * least else f"what it draws fits y no better ({gap:.3g}) than grey pictures do ({least:.3g})"
    )

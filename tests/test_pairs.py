"""Draws with opposite noise, against the exact posterior of a Gaussian."""

from functools import partial

import pytest
import torch

import emlib
from emlib.posterior import reconstruct_pairs
from emlib.runtime.rng import opposite, randn, streams

SCHEDULE = emlib.linear_schedule()
MEAN, STD, NOISE = 0.2, 0.3, 0.2


def eps(x_t, t):
    """Of pixels from N(MEAN, STD^2), exactly."""
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    x0_hat = MEAN + a * STD**2 / (a**2 * STD**2 + s**2) * (x_t - a * MEAN)
    return (x_t - a * x0_hat) / s


@pytest.fixture
def m():
    truth = (MEAN + STD * torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(3))).clamp(-1, 1)
    return emlib.measure(truth, emlib.random_mask(40, 8, 0.5, 0), NOISE, 0)


def test_opposite_streams_go_on_with_the_same_numbers():
    a = streams(0, "test", range(3))
    randn(a, (2, 2))  # somewhere on the way
    b = opposite(a)
    for _ in range(3):
        assert torch.equal(randn(a, (2, 5)), -randn(b, (2, 5)))


def test_each_of_a_pair_is_a_draw_and_their_mean_is_the_posteriors(m):
    """The posterior is Gaussian, so a draw is affine in its noise and the pair's mean is exact."""
    sampler = partial(emlib.mmps, steps=200)
    pairs = list(reconstruct_pairs(sampler, eps, SCHEDULE, m, 0, "test", 16))
    first, second = (torch.cat(x) for x in zip(*pairs, strict=True))
    seen = m.operator.mask
    var = 1 / (1 / STD**2 + seen / NOISE**2)
    mean = var * (MEAN / STD**2 + seen * m.y / NOISE**2)
    inside = (mean - 4 * var.sqrt()).abs().max() > 1  # some draws are clamped, which is no matter for most
    assert bool(inside)
    assert (((first + second) / 2 - mean).abs() < 0.02).float().mean() > 0.95
    for one in (first, second):
        z = (one - mean) / var.sqrt()
        assert abs(float(z.mean())) < 0.1
        assert abs(float(z.std()) - 1) < 0.1


def test_the_first_of_a_pair_is_what_reconstruct_draws(m):
    sampler = partial(emlib.mmps, steps=5)
    firsts = torch.cat([a for a, _ in reconstruct_pairs(sampler, eps, SCHEDULE, m, 0, "test", 7)])
    assert torch.equal(firsts, torch.cat(list(emlib.reconstruct(sampler, eps, SCHEDULE, m, 0, "test", 40))))

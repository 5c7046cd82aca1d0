"""The cheat sheet's lines, run as they stand on the page, against the library and against closed forms."""

from __future__ import annotations

import re

import pytest
import torch
from heads import ROOT

import emlib

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "book/cheat_sheet.md").read_text(encoding="utf-8"), re.M | re.S)
T, NOISE = 400, 0.1


@pytest.fixture(scope="module")
def sheet():
    names = {"torch": torch, "solve": conjugate_gradients}
    for block in BLOCKS:
        exec(block, names)
    return names


@pytest.fixture(scope="module")
def world():
    """One Gaussian cloud of points as pictures [B, 1, 1, 2], in float64: everything is known."""
    deviation = torch.tensor([[0.3, 0.0], [0.2, 0.1]], dtype=torch.float64)
    covariance = deviation @ deviation.T
    mean = torch.tensor([0.1, -0.2], dtype=torch.float64)
    schedule = emlib.linear_schedule()
    rng = torch.Generator().manual_seed(0)
    x_t = torch.randn(5, 1, 1, 2, generator=rng, dtype=torch.float64)

    def eps(x, t):
        a, s = (f(int(t[0])).item() for f in (schedule.alpha, schedule.sigma))
        noisy = a**2 * covariance + s**2 * torch.eye(2, dtype=torch.float64)
        return s * torch.linalg.solve(noisy, (x.flatten(1) - a * mean).T).T.view_as(x)

    return schedule, eps, x_t, mean, covariance


def conjugate_gradients(K, b, steps):
    """u with K u = b, for each picture of a batch."""
    u, r = torch.zeros_like(b), b
    p = r
    for _ in range(steps):
        Kp = K(p)
        rr = r.flatten(1).square().sum(1).view(-1, 1, 1, 1)
        step = rr / (p * Kp).flatten(1).sum(1).view(-1, 1, 1, 1).clamp_min(1e-300)
        u, r = u + step * p, r - step * Kp
        p = r + r.flatten(1).square().sum(1).view(-1, 1, 1, 1) / rr.clamp_min(1e-300) * p
    return u


def test_each_piece_has_five_lines_at_most():
    assert len(BLOCKS) == 4
    assert all(len(block.strip().splitlines()) <= 6 for block in BLOCKS)  # with the line that names it


def test_tweedie_is_the_librarys(sheet, world):
    schedule, eps, x_t, *_ = world
    ours = emlib.predict_x0(eps(x_t, torch.full((5,), T)), schedule, x_t, T)
    assert torch.allclose(sheet["tweedie"](eps, schedule, x_t, T), ours)


def test_the_push_of_dps_goes_downhill_as_far_as_the_slope_says(sheet, world):
    schedule, eps, x_t, *_ = world
    A = emlib.PixelMask(torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2))
    y = A(torch.full_like(x_t, 0.4))

    def misfit(x):
        return (y - A(sheet["tweedie"](eps, schedule, x, T))).flatten(1).norm(dim=1)

    push, small = sheet["dps_push"](eps, schedule, x_t, T, y, A, 2.0), 1e-6
    slope = push.flatten(1).square().sum(1) / 2.0
    fall = (misfit(x_t) - misfit(x_t + small * push)) / small
    assert torch.allclose(fall, slope, rtol=1e-4)
    assert (slope > 0).all()


def test_mmps_is_the_posterior_mean_where_all_is_gaussian(sheet, world):
    schedule, eps, x_t, mean, covariance = world
    A = emlib.PixelMask(torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2))
    y = A(torch.full_like(x_t, 0.4))
    found = sheet["mmps_guess"](eps, schedule, x_t, T, y, A, NOISE, 2).flatten(1)
    # both x_t = alpha x_0 + sigma eps and y = M x_0 + n are linear in x_0, so its precision and mean add up
    a, s = (f(T).item() for f in (schedule.alpha, schedule.sigma))
    M = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    precision = torch.linalg.inv(covariance) + a**2 / s**2 * torch.eye(2, dtype=torch.float64) + M / NOISE**2
    pull = torch.linalg.solve(covariance, mean) + a / s**2 * x_t.flatten(1) + y.flatten(1) @ M / NOISE**2
    assert torch.allclose(found, torch.linalg.solve(precision, pull.T).T, atol=1e-5)


def test_em_repairs_with_the_last_prior_and_learns_from_what_was_repaired(sheet):
    def draw(prior, schedule, measurements, k):
        return [prior, *measurements, k]

    def train(prior, schedule, x, k):
        return prior + 1

    steps = list(sheet["em"](0, ["y"], None, 3, draw, train))
    assert steps == [(1, [0, "y", 0]), (2, [1, "y", 1]), (3, [2, "y", 2])]

"""Coverage of a posterior's intervals: exact where draws are exact, and MMPS's in a Gaussian world."""

from functools import partial

import pytest
import torch

import emlib
from emlib.em.initial import GaussianPrior
from emlib.metrics import coverage, ranks


def test_draws_from_the_truths_own_distribution_are_calibrated():
    g = torch.Generator().manual_seed(0)
    draws, truth = torch.randn(9, 20_000, generator=g), torch.randn(20_000, generator=g)
    share = ranks(draws, truth)
    assert share.sum().item() == pytest.approx(1)
    # each share has a standard deviation of sqrt(0.1 * 0.9 / 20,000)
    assert (share - 0.1).abs().max() < 4 * (0.1 * 0.9 / 20_000) ** 0.5
    found = coverage(draws, truth)
    assert list(found) == pytest.approx([0.8, 0.6, 0.4, 0.2])
    for nominal, share in found.items():
        assert share == pytest.approx(nominal, abs=0.015)


@pytest.mark.parametrize(("std", "surer"), [(0.5, True), (2.0, False)])
def test_draws_that_are_too_sure_or_not_sure_enough_are_found_out(std, surer):
    g = torch.Generator().manual_seed(0)
    found = coverage(std * torch.randn(9, 5000, generator=g), torch.randn(5000, generator=g))
    assert all((share < nominal - 0.05) == surer for nominal, share in found.items() if nominal > 0.3)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 4\) and \(5,\)"):
        ranks(torch.zeros(3, 4), torch.zeros(5))
    with pytest.raises(ValueError, match="at least two draws, got 1"):
        coverage(torch.zeros(1, 4), torch.zeros(4))


@pytest.mark.parametrize("task", ["mask", "noise"])
def test_mmps_is_calibrated_in_a_gaussian_world(schedule, task):
    """64 pictures of 64 pixels from a Gaussian that is known: 19 draws each, on the pixels that y leaves open."""
    g = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(64, 64, generator=g))
    variance = 0.2 * torch.logspace(0, -3, 64)
    prior = GaussianPrior(torch.zeros(64), basis, variance, schedule)
    x = ((basis * variance.sqrt()) @ torch.randn(64, 64, generator=g)).T.reshape(64, 1, 8, 8).clamp(-1, 1)
    A = emlib.random_mask(64, 8, 0.5, 0) if task == "mask" else emlib.Identity()
    m = emlib.measure(x, A, 0.1, 0)
    sampler = partial(emlib.mmps, steps=100, cg_steps=5)
    draws = torch.stack([next(emlib.reconstruct(sampler, prior, schedule, m, 0, f"draw {d}", 64)) for d in range(19)])
    # the rank is one a direction, as neighbouring pixels say the same: those along which y leaves much open
    open_ = basis[:, :16]
    along = draws.flatten(2) @ open_, x.flatten(1) @ open_
    for nominal, share in coverage(*along).items():
        assert share == pytest.approx(nominal, abs=4 * (nominal * (1 - nominal) / along[1].numel()) ** 0.5 + 0.02)


def test_ties_share_their_ranks():
    draws, truth = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([0.0, 1.0])
    # the first ties with two draws (ranks 0, 1, 2), the second with two after one (ranks 1, 2, 3)
    torch.testing.assert_close(ranks(draws, truth), torch.tensor([1, 2, 2, 1]) / 6)


def test_what_is_clamped_for_all_stays_calibrated():
    g = torch.Generator().manual_seed(0)
    everything = torch.randn(10, 40_000, generator=g).clamp(-0.5, 0.5)
    found = ranks(everything[1:], everything[0])
    assert (found - 0.1).abs().max() < 0.006

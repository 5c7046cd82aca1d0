from functools import partial

import pytest
import torch

import emlib
from emlib.guidance import SCALES, Trial, searched_dps

NOISE = 0.2


def trials_of(reconstructions, probe):
    table = dict(zip((1.0, 2.0, 4.0), reconstructions))
    return list(emlib.sweep(table.__getitem__, probe, table))


def probe_of(n=3, A=None):
    return emlib.measure(torch.rand(n, 1, 6, 6) - 0.5, A or emlib.Identity(), NOISE, seed=0)


def test_a_sweep_measures_the_residual_of_every_scale():
    probe = probe_of(A=emlib.random_mask(3, 6, 0.5, 0))
    x = torch.randn(3, 3, 1, 6, 6)
    trials = trials_of(x, probe)
    assert [trial.scale for trial in trials] == [1.0, 2.0, 4.0]
    for trial, tried in zip(trials, x):
        assert torch.equal(trial.x, tried)
        for i in range(3):
            seen = probe.operator.mask[i, 0].bool()
            expected = sum((a - b) ** 2 for a, b in zip(probe.y[i, 0][seen].tolist(), tried[i, 0][seen].tolist()))
            assert trial.residual[i].item() == pytest.approx(expected**0.5, rel=1e-5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("A", [emlib.Identity(), emlib.random_mask(3, 6, 0.5, 0)], ids=["noise", "mask"])
def test_both_rules_choose_what_brute_force_does(order, A):
    probe = probe_of(A=A)
    seen = torch.ones(3, 1, 6, 6, dtype=torch.bool) if A.name == "noise" else A.mask.bool()
    # errors on seen pixels with standard deviations well below, at and above the noise
    errors = torch.randn(3, 3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    x = [probe.y + (0.01, 0.2, 0.3)[k] * errors[i] for i, k in enumerate(order)]
    trials = trials_of(x, probe)
    squares = [((probe.y - tried)[seen] ** 2).mean().item() for tried in x]
    assert emlib.least_residual(trials) == (1.0, 2.0, 4.0)[squares.index(min(squares))]
    nearest = min(squares, key=lambda square: max(square / NOISE**2, NOISE**2 / square))
    assert emlib.discrepancy(trials, probe) == (1.0, 2.0, 4.0)[squares.index(nearest)]
    assert emlib.least_residual(trials) != emlib.discrepancy(trials, probe)


def test_the_least_residual_is_a_mean_of_squares_so_one_bad_picture_counts():
    even, uneven = torch.full((2,), 3.0), torch.tensor([0.0, 5.0])
    x = torch.zeros(2, 1, 6, 6)
    assert emlib.least_residual([Trial(1.0, uneven, x), Trial(2.0, even, x)]) == 2.0


def test_on_noise_the_least_residual_copies_the_noise_and_discrepancy_does_not(gaussian, schedule):
    """DPS on a Gaussian prior whose denoiser is exact: the residual falls with the scale until y is copied."""
    truth = gaussian.draw(64, seed=5)
    probe = emlib.measure(truth, emlib.Identity(), NOISE, seed=0)

    def run(scale):
        *_, final = emlib.dps(gaussian, schedule, probe, emlib.streams(0, "probe", range(64)), 30, scale)
        return final.x_t

    trials = list(emlib.sweep(run, probe, (0.05, 0.1, 0.2, 0.4, 0.8)))
    sizes = {trial.scale: trial.residual.square().mean().item() / 16 for trial in trials}
    least, chosen = emlib.least_residual(trials), emlib.discrepancy(trials, probe)
    assert sizes[least] == min(sizes.values()) < 0.5 * NOISE**2
    assert 0.6 * NOISE**2 < sizes[chosen] < 1.6 * NOISE**2
    error = {trial.scale: (trial.x - truth).square().mean().item() for trial in trials}
    assert chosen < least
    assert error[chosen] < error[least]


def test_a_searched_e_step_uses_the_scale_that_its_rule_chooses(net, schedule):
    probe = emlib.measure(torch.rand(3, 1, 8, 8) - 0.5, emlib.Identity(), NOISE, seed=0)
    for rule, choose in (("residual", emlib.least_residual), ("discrepancy", partial(emlib.discrepancy, probe=probe))):
        sampler = searched_dps(rule, probe, schedule, 3, seed=0, scales=(0.1, 1.0, 5.0))(net, 1)
        chosen = sampler.keywords["scale"]
        assert sampler.keywords["steps"] == 3
        trials = []
        for scale in (0.1, 1.0, 5.0):
            streams = emlib.streams(0, "elsewhere", probe.index)
            *_, final = emlib.dps(net, schedule, probe, streams, 3, scale)
            trials.append(Trial(scale, (probe.y - final.x_t).flatten(1).norm(dim=1), final.x_t))
        assert chosen == choose(trials)


def test_discrepancy_without_noise_is_refused_before_any_work(schedule):
    probe = emlib.measure(torch.zeros(2, 1, 6, 6), emlib.Identity(), 0.0, seed=0)
    with pytest.raises(ValueError, match="noise_std is 0; use least_residual"):
        emlib.discrepancy([], probe)
    with pytest.raises(ValueError, match="noise_std is 0; use least_residual"):
        searched_dps("discrepancy", probe, schedule, 3, seed=0)


def test_unknown_rules_are_refused(schedule):
    with pytest.raises(ValueError, match="'guess' .* residual and discrepancy"):
        searched_dps("guess", probe_of(), schedule, 3, seed=0)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-2.0,), (float("nan"),)])
def test_scales_that_are_not_above_0_are_refused_before_any_work(scales):
    def run(scale):
        pytest.fail("work was started")

    with pytest.raises(ValueError, match="above 0, got"):
        next(emlib.sweep(run, probe_of(), scales))


def test_the_default_scales_double_over_the_range_of_the_design():
    assert SCALES[0] == 0.25
    assert all(b == 2 * a for a, b in zip(SCALES[:-1], SCALES[1:]))
    assert {2.0, 4.0} < set(SCALES)

from inspect import signature

import pytest
import torch

import emlib
from emlib import guidance
from emlib.guidance import rules
from emlib.guidance.search import CALLS, PROBE, RULES, SCALES, search, searched_dps
from emlib.guidance.sweep import Trial, oracle
from emlib.runs.build import choose_e_step

NOISE = 0.2


def trials_of(reconstructions, probe):
    table = dict(zip((1.0, 2.0, 4.0), reconstructions))
    return list(emlib.sweep(table.__getitem__, probe, table))


def best(x, probe, rule):
    """Number of the reconstructions with the least score."""
    scores = [rule(lambda scale, measurements, sample, x=tried: x, probe, 0, 1.0) for tried in x]
    return scores.index(min(scores))


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
    squares = [((probe.y - tried)[seen] ** 2).mean().item() for tried in x]
    nearest = min(squares, key=lambda square: max(square / NOISE**2, NOISE**2 / square))
    least, chosen = best(x, probe, rules.residual), best(x, probe, rules.discrepancy)
    assert least == squares.index(min(squares))
    assert chosen == squares.index(nearest)
    assert least != chosen


def test_the_least_residual_is_a_mean_of_squares_so_one_bad_picture_counts():
    probe = emlib.measure(torch.zeros(2, 1, 6, 6), emlib.Identity(), 0.0, seed=0)
    even, uneven = (torch.tensor(sizes).view(2, 1, 1, 1).expand(2, 1, 6, 6) for sizes in ([3.0, 3.0], [0.0, 5.0]))
    assert best([uneven, even], probe, rules.residual) == 1


def test_on_noise_the_least_residual_copies_the_noise_and_discrepancy_does_not(gaussian, schedule):
    """DPS on a Gaussian prior whose denoiser is exact: the residual falls with the scale until y is copied."""
    truth = gaussian.draw(64, seed=5)
    probe = emlib.measure(truth, emlib.Identity(), NOISE, seed=0)

    def run(scale):
        *_, final = emlib.dps(gaussian, schedule, probe, emlib.streams(0, "probe", range(64)), 30, scale)
        return final.x_t

    trials = list(emlib.sweep(run, probe, (0.05, 0.1, 0.2, 0.4, 0.8)))
    sizes = {trial.scale: trial.residual.square().mean().item() / 16 for trial in trials}
    scales = list(sizes)
    least, chosen = (scales[best([t.x for t in trials], probe, rule)] for rule in (rules.residual, rules.discrepancy))
    assert sizes[least] == min(sizes.values()) < 0.5 * NOISE**2
    assert 0.6 * NOISE**2 < sizes[chosen] < 1.6 * NOISE**2
    error = {trial.scale: (trial.x - truth).square().mean().item() for trial in trials}
    assert chosen < least
    assert error[chosen] < error[least]


def test_the_oracle_takes_the_best_psnr():
    truth = torch.zeros(2, 1, 4, 4)
    trials = [Trial(scale, torch.zeros(2), truth + error) for scale, error in ((1.0, 0.3), (2.0, 0.1), (4.0, 0.2))]
    assert oracle(trials, truth) == 2.0


# --- the scores, on a sampler whose error is known: x = scale * (y + what the sample's number adds)


def shrink(scale, measurements, sample):
    g = torch.Generator().manual_seed(sample)
    return scale * (measurements.y + 0.1 * torch.randn(measurements.y.shape, generator=g))


@pytest.fixture
def crowd(gaussian):
    """4,000 pictures, so that a mean over them is its expectation within a few thousandths of the noise."""
    truth = gaussian.draw(4000, seed=3)
    return truth, emlib.measure(truth, emlib.Identity(), NOISE, seed=0)


@pytest.mark.parametrize("scale", [0.2, 0.6, 1.0])
def test_recorrupted_is_the_error_at_a_little_more_noise_with_no_constant(crowd, scale):
    truth, probe = crowd
    # E || c (x + n1 + 0.1 z) - x ||^2,   Var n1 = noise_std^2 (1 + a^2)
    error = (1 - scale) ** 2 * truth.square().mean() + scale**2 * (NOISE**2 * (1 + rules.STRENGTH**2) + 0.01)
    found = rules.recorrupted_error(shrink, probe, 0, scale)
    assert found.shape == (4000,)
    assert found.mean().item() == pytest.approx(float(error), abs=0.004)


def test_recorrupted_is_a_mean_of_decibels_so_one_bad_picture_does_not_rule():
    truth = torch.zeros(4, 1, 64, 64)
    probe = emlib.measure(truth, emlib.Identity(), NOISE, seed=0)

    def run(scale, measurements, sample):
        errors = torch.tensor([0.2, 0.2, 0.2, 0.6] if scale == 1 else [0.25, 0.25, 0.25, 0.4])
        return truth + errors[:, None, None, None]

    assert RULES["recorrupted"](run, probe, 0, 1.0) < RULES["recorrupted"](run, probe, 0, 2.0)
    # 20 log10 of the errors, whose estimates are off by a few percent on 4,096 numbers
    db = 20 * torch.tensor([0.2, 0.2, 0.2, 0.6]).log10().mean().item()
    assert RULES["recorrupted"](run, probe, 0, 1.0) == pytest.approx(db, abs=0.7)
    # a perfect picture has an estimate around 0, negative too, and is still a number
    assert RULES["recorrupted"](lambda *_: truth, probe, 0, 1.0) < -20


def test_the_two_noises_of_a_recorruption_are_independent_and_its_noise_std_is_true(crowd):
    truth, probe = crowd
    first, second = rules.recorrupt(probe, 0)
    n1, n2 = first.y - truth, second - truth
    assert n1.std().item() == pytest.approx(first.noise_std, rel=0.02)
    assert n2.std().item() == pytest.approx(NOISE * (1 + 1 / rules.STRENGTH**2) ** 0.5, rel=0.02)
    assert abs((n1 * n2).mean().item()) < 5 * first.noise_std * n2.std().item() / n1.numel() ** 0.5


@pytest.mark.parametrize("scale", [0.2, 0.6, 1.0])
def test_sure_is_the_error_with_no_constant_although_the_sampler_is_random(crowd, scale):
    truth, probe = crowd
    error = (1 - scale) ** 2 * truth.square().mean() + scale**2 * (NOISE**2 + 0.01)
    assert RULES["sure"](shrink, probe, 0, scale) == pytest.approx(float(error), abs=0.002)


def smooth(scale, measurements, sample):
    """The mean of a picture's numbers for each of its pixels: scale times it, and a spread."""
    g = torch.Generator().manual_seed(sample)
    mean = measurements.y.mean(dim=(1, 2, 3), keepdim=True).expand_as(measurements.y)
    return scale * mean + 0.3 * torch.randn(mean.shape, generator=g)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_held_out_is_the_error_of_the_mean_of_samples_where_nothing_was_seen(crowd, scale):
    truth, probe = crowd
    part, keep = rules.withhold(probe, 0)
    assert keep.mean().item() == pytest.approx(1 - rules.SHARE, abs=0.01)
    exact = scale * part.y.mean(dim=(1, 2, 3), keepdim=True)
    spread = 0.3**2 / rules.SAMPLES
    error = (exact - truth).square()[keep == 0].mean() + spread + NOISE**2
    assert RULES["held_out"](smooth, probe, 0, scale) == pytest.approx(float(error), abs=0.012)


@pytest.mark.parametrize("noise", [0.0, NOISE])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_whole_is_the_error_of_hidden_and_seen_pixels_by_their_share(gaussian, scale, noise):
    truth = (
        gaussian.draw(4000, seed=3).clamp(-0.7, 0.7) + 0.3
    )  # hidden pixels, read as 0, are then worse than seen ones
    probe = emlib.measure(truth, emlib.random_mask(4000, 4, 0.5, 0), noise, seed=0)
    seen = {}

    def run(scale, measurements, sample):
        seen["x"] = shrink(scale, measurements, sample)
        return seen["x"]

    found = rules.whole_error(run, probe, 0, scale).mean().item()
    part, keep = rules.withhold(probe, 0)
    error = (seen["x"] - truth).square()
    hidden = error[keep == 0].mean()  # withheld pixels stand for the hidden ones
    assert found == pytest.approx(float(0.5 * hidden + 0.5 * error[keep == 1].mean()), abs=0.006)
    assert abs(hidden - error[keep == 1].mean()) > 0.05  # so that wrong shares would show


@pytest.mark.parametrize("rule", ["held_out", "whole"])
def test_what_is_withheld_never_reaches_the_sampler(rule):
    probe = emlib.measure(torch.rand(8, 3, 6, 6) - 0.5, emlib.random_mask(8, 6, 0.5, 0), 0.0, seed=0)
    keep = rules.withhold(probe, 0)[1]
    assert torch.equal(keep, keep[:, :1].expand_as(keep))  # colours of a pixel would tell of each other
    withheld = probe.operator.seen(probe.y) * (1 - keep)
    other = emlib.Measurements(probe.y + 2 * withheld, probe.operator, 0.0, probe.index)
    got = []

    def run(scale, measurements, sample):
        got.append(torch.cat([measurements.y, measurements.operator(torch.ones_like(measurements.y))]))
        return torch.zeros_like(measurements.y)

    scores = [RULES[rule](run, m, 0, 1.0) for m in (probe, other)]
    half = len(got) // 2
    assert all(torch.equal(a, b) for a, b in zip(got[:half], got[half:]))
    assert scores[0] != scores[1]


def test_bootstrap_is_the_error_at_its_own_stand_ins(crowd):
    truth, probe = crowd
    pilot = shrink(rules.PILOT, probe, 0)
    for scale in (0.3, 0.8):
        # E || c (x' + n' + 0.1 z) - x' ||^2
        error = (1 - scale) ** 2 * pilot.square().mean() + scale**2 * (NOISE**2 + 0.01)
        assert RULES["bootstrap"](shrink, probe, 0, scale) == pytest.approx(float(error), abs=0.002)


def test_a_kept_operator_has_its_adjoint_and_its_rows():
    A = rules.Kept(emlib.GaussianBlur(6, 6, 1.0, 3), (torch.rand(4, 1, 6, 6) > 0.3).float())
    x, y = torch.randn(2, 4, 1, 6, 6)
    assert (A(x) * y).sum().item() == pytest.approx((x * A.adjoint(y)).sum().item(), abs=1e-4)
    assert torch.equal(A.select([2, 0])(x[[2, 0]]), A(x)[[2, 0]])


def test_auto_picks_by_the_measurements_and_no_rule_is_given_the_truth():
    x = torch.rand(3, 1, 12, 12) - 0.5
    mask, blur = emlib.random_mask(3, 12, 0.6, 0), emlib.GaussianBlur(12, 12)
    cases = [(mask, 0.0), (mask, 0.1), (emlib.Identity(), 0.2), (blur, 0.1), (blur, 0.0)]
    picked = [rules.pick(emlib.measure(x, A, noise, seed=0)) for A, noise in cases]
    assert picked == ["whole", "whole", "recorrupted", "recorrupted", "bootstrap"]
    for rule in RULES.values():
        assert list(signature(rule).parameters) == ["run", "probe", "seed", "scale"]
    for A, noise in cases:
        probe = emlib.measure(x, A, noise, seed=0)
        assert RULES["auto"](shrink, probe, 0, 0.7) == RULES[rules.pick(probe)](shrink, probe, 0, 0.7)


TASKS = {
    "mask": (lambda: emlib.random_mask(64, 4, 0.5, 0), 0.0),
    "noisy mask": (lambda: emlib.random_mask(64, 4, 0.5, 0), 0.1),
    "noise": (emlib.Identity, NOISE),
    "blur": (lambda: emlib.GaussianBlur(4, 4, 1.0, 3), 0.0),
}


@pytest.mark.parametrize("task", TASKS)
def test_auto_comes_near_the_oracle_on_a_prior_that_is_exact(gaussian, schedule, task):
    A, noise = TASKS[task]
    truth = gaussian.draw(64, seed=5)
    probe = emlib.measure(truth, A(), noise, seed=0)
    scales = [0.025 * 2**i for i in range(6)]
    chosen = searched_dps("auto", probe, schedule, 30, seed=0, scales=scales)(gaussian, 1).keywords["scale"]

    def quality(scale):
        *_, final = emlib.dps(gaussian, schedule, probe, emlib.streams(0, "other", range(64)), 30, scale)
        return emlib.psnr(final.x_t, truth).mean().item()

    found = {scale: quality(scale) for scale in [0.025 * 2 ** (i / 2) for i in range(11)]}
    assert max(found.values()) - quality(chosen) < 0.3
    assert max(found.values()) - min(found.values()) > 1  # so that not every scale would do


# --- the search


def valley(at):
    return lambda scale: abs(torch.tensor(scale / at).log2().item())


@pytest.mark.parametrize("at", [0.1, 0.25, 0.5, 1, 1.41, 2, 3.0, 4, 6.0, 8, 20])
def test_a_search_finds_the_valley_to_half_an_octave_in_few_calls(at):
    tried = list(search(valley(at)))
    assert len(tried) <= CALLS
    best = min(tried, key=lambda t: t.score).scale
    inside = min(max(at, SCALES[0]), SCALES[-1])
    assert valley(inside)(best) <= 0.5 + 1e-6


@pytest.mark.parametrize("at", [0.3, 0.5, 1.3, 2, 5.0])
def test_with_calls_enough_every_start_ends_at_the_same_scale(at):
    ends = {min(search(valley(at), start=start, calls=20), key=lambda t: t.score).scale for start in (0.2, 0.7, 1.5, 9)}
    assert len(ends) == 1


def test_a_search_stops_when_the_score_rises_and_starts_where_it_is_told():
    tried = [t.scale for t in search(valley(2.0), start=2.2)]
    assert tried[:3] == [2.0, 1.0, 4.0]
    assert len(tried) == 5
    assert 1.0 <= min(tried) <= max(tried) <= 4.0
    assert [t.scale for t in search(valley(0.1))][:3] == [1.0, 0.5, 0.25]


def test_no_call_is_made_twice_nor_more_than_allowed():
    for calls in range(1, 9):
        tried = [t.scale for t in search(valley(0.3), start=8.0, calls=calls)]
        assert len(tried) == len(set(tried)) <= calls


def test_a_scale_that_leads_astray_never_wins():
    assert min(search(lambda s: float("nan") if s > 1 else -s), key=lambda t: t.score).scale == 1.0
    far = search(lambda s: float("nan") if s > 0.4 else -s, calls=8)  # neither the start nor its neighbours are numbers
    assert min(far, key=lambda t: t.score).scale == pytest.approx(2**-1.5)


@pytest.mark.parametrize(("more", "said"), [({"calls": 0}, "calls=0"), ({"start": -1.0}, "above 0, got")])
def test_a_search_refuses_bad_numbers_before_any_work(more, said):
    with pytest.raises(ValueError, match=said):
        next(search(lambda scale: pytest.fail("work was started"), **more))


# --- the E-step


def test_a_searched_e_step_uses_the_scale_that_its_rule_chooses(net, schedule):
    probe = emlib.measure(torch.rand(3, 1, 8, 8) - 0.5, emlib.Identity(), NOISE, seed=0)
    for rule in ("residual", "discrepancy"):
        e_step = searched_dps(rule, probe, schedule, 3, seed=0, scales=(0.1, 1.0, 5.0))
        sampler = e_step(net, 1)
        assert sampler.keywords["steps"] == 3
        drawn = []
        for tried in e_step.tried:
            streams = emlib.streams(0, "probe 1 sample 0", probe.index)
            *_, final = emlib.dps(net, schedule, probe, streams, 3, tried.scale)
            drawn.append(final.x_t.clamp(-1, 1))
        assert len(drawn) >= 3
        chosen = e_step.tried[best(drawn, probe, getattr(rules, rule))].scale
        assert sampler.keywords["scale"] == chosen == e_step.last


def test_a_search_goes_on_from_the_last_iteration_and_a_resumed_run_finds_the_same(net, schedule, monkeypatch):
    asked = []
    bottom = {1: 4.0, 2: 2.0, 3: 1.5}

    def fake(run, probe, seed, scale):
        asked.append(scale)
        return valley(bottom[k])(scale)

    monkeypatch.setitem(RULES, "residual", fake)
    e_step, chosen = searched_dps("residual", probe_of(), schedule, 3, seed=0), {}
    for k in bottom:
        asked.clear()
        chosen[k] = e_step(net, k).keywords["scale"]
        assert asked[0] == {1: 1.0, 2: 4.0, 3: 2.0}[k]
    resumed = searched_dps("residual", probe_of(), schedule, 3, seed=0)  # at k = 3, without the earlier ones
    assert resumed(net, 3).keywords["scale"] == chosen[3]


@pytest.mark.parametrize("rule", list(RULES))
def test_a_search_costs_less_than_a_fifth_of_an_e_step_of_1000(net, schedule, rule):
    A = emlib.random_mask(PROBE, 8, 0.5, 0) if rule == "whole" else emlib.Identity()
    probe = emlib.measure(torch.rand(PROBE, 1, 8, 8) - 0.5, A, NOISE, seed=0)
    calls = 0

    def model(x, t):
        nonlocal calls
        calls += len(x)
        return net(x, t)

    steps, e_step = 2, searched_dps(rule, probe, schedule, 2, seed=0)
    for k in (1, 2, 3):
        before = calls
        e_step(model, k)
        assert 0 < calls - before < 1000 * steps / 5
    assert e_step.network_calls == calls


def test_a_prior_that_gives_no_number_is_named(schedule):
    e_step = searched_dps("residual", probe_of(), schedule, 2, seed=0)
    with pytest.raises(ValueError, match="no finite picture .* EM iteration 4; try smaller"):
        e_step(lambda x, t: x * float("nan"), 4)


def test_rules_that_the_measurements_cannot_feed_are_refused_before_any_work(schedule):
    x = torch.zeros(2, 1, 6, 6)
    clean = emlib.measure(x, emlib.Identity(), 0.0, seed=0)
    masked = emlib.measure(x, emlib.random_mask(2, 6, 0.5, 0), NOISE, seed=0)
    for rule in ("discrepancy", "recorrupted", "sure"):
        with pytest.raises(ValueError, match=f"{rule!r} .* noise_std is 0; use residual or auto"):
            searched_dps(rule, clean, schedule, 3, seed=0)
    for rule, probe, said in (
        ("sure", masked, "operator is 'mask'; use auto"),
        ("whole", clean, "operator is 'noise'; use auto"),
        ("guess", clean, "'guess' .* auto, residual"),
        ("auto", clean.select([]), "probe has 0"),
    ):
        with pytest.raises(ValueError, match=said):
            searched_dps(rule, probe, schedule, 3, seed=0)
    with pytest.raises(ValueError, match="above 0, got"):
        searched_dps("auto", clean, schedule, 3, seed=0, scales=(1.0, -1.0))
    tiny = emlib.measure(torch.zeros(1, 1, 1, 1), emlib.Identity(), 0.0, seed=0)
    with pytest.raises(ValueError, match="1 measured numbers; take more pictures"):
        rules.withhold(tiny, 0)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-2.0,), (float("nan"),), (float("inf"),)])
def test_scales_that_are_not_above_0_are_refused_before_any_work(scales):
    def run(scale):
        pytest.fail("work was started")

    with pytest.raises(ValueError, match="above 0, got"):
        next(emlib.sweep(run, probe_of(), scales))
    with pytest.raises(ValueError, match="above 0, got"):
        next(search(run, scales))


def test_the_default_scales_double_over_the_range_of_the_design():
    assert SCALES[0] == 0.25
    assert all(b == 2 * a for a, b in zip(SCALES[:-1], SCALES[1:]))
    assert {2.0, 4.0} < set(SCALES)
    assert guidance.PROBE * CALLS < 1000 / 5


def test_the_command_lines_search_hands_its_last_scale_to_em_and_says_what_it_found(net, schedule, capsys):
    p = emlib.preset("smoke")
    probe = emlib.measure(torch.rand(3, 1, 8, 8) - 0.5, emlib.Identity(), NOISE, seed=0)
    e_step = choose_e_step("dps", "residual", 0, p, schedule, probe)
    assert e_step.last is None
    e_step.last = 4.0
    chosen = e_step(net, 3).keywords["scale"]
    assert e_step.tried[0].scale == 4.0
    assert f"E-step 3: guidance scale {chosen:g} by residual" in capsys.readouterr().out

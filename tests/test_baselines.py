"""Baselines against closed forms: true risks, exact conditional means of a Gaussian, and what a network may not see."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import emlib
from emlib.baselines import ambient, noise2self, run_diem, sure_score
from emlib.baselines.classical import WEIGHTS, classical, deconvolved, interpolated
from emlib.em.initial import fit_gaussian


def lowest(loss, step=0.2):
    """Where the parabola through loss(-step), loss(0) and loss(step) is lowest, and whether it opens upwards."""
    low, mid, high = loss(-step), loss(0.0), loss(step)
    bend = high + low - 2 * mid
    return float(-step * (high - low) / (2 * bend)), float(bend) > 0


# ---- SURE-Score ----


def test_sure_is_the_true_risk_of_a_linear_denoiser():
    g = torch.Generator().manual_seed(1)
    std, n, x = 0.3, 40_000, torch.rand(1, 1, 3, 4, generator=g).double() * 2 - 1
    W = 0.3 * torch.randn(12, 12, generator=g).double() + 0.5 * torch.eye(12).double()

    def D(y):
        return (y.flatten(1) @ W.T).view(y.shape)

    y = x + std * torch.randn(n, 1, 3, 4, generator=g).double()
    found = sure_score.sure_loss(D, D(y), y, std, torch.randn(y.shape, generator=g).double())
    # E |W y - x|^2 = |(W - I) x|^2 + std^2 |W|^2
    risk = ((D(x) - x).square().sum() + std**2 * W.square().sum()) / 12
    assert found.item() == pytest.approx(risk.item(), rel=0.02)
    assert (D(y) - x).square().mean().item() == pytest.approx(risk.item(), rel=0.02)


def test_the_divergence_is_the_trace_of_a_linear_map():
    W, std = torch.randn(12, 12).double(), 0.3
    y = torch.randn(1, 1, 3, 4).double().expand(12, -1, -1, -1)

    def D(y):
        return (y.flatten(1) @ W.T).view(y.shape)

    # one probe along each axis makes the mean over probes exact
    probes = 12**0.5 * torch.eye(12).double().view(12, 1, 3, 4)
    found = sure_score.sure_loss(D, D(y), y, std, probes)
    exact = (D(y) - y).square().mean() - std**2 + 2 * std**2 * W.trace() / 12
    assert found.item() == pytest.approx(exact.item(), rel=1e-9)


def test_the_denoiser_is_the_mean_of_the_clean_pictures_given_the_noisy_one(gaussian, schedule):
    y = gaussian.draw(5) + 0.2 * torch.randn(5, 1, 4, 4)
    t = sure_score.noise_time(schedule, 0.2)
    std = float(schedule.sigma(t) / schedule.alpha(t))
    assert std == pytest.approx(0.2, rel=0.02)
    mean, _ = gaussian.given(torch.eye(16).double(), y.flatten(1).double(), std)
    told = sure_score.denoiser(gaussian, schedule, 0.2)(y).flatten(1)
    torch.testing.assert_close(told, mean.float(), rtol=0, atol=1e-5)


def test_the_first_noise_level_serves_pictures_without_noise(schedule):
    assert sure_score.noise_time(schedule, sure_score.ASSUMED_STD) == 0


@pytest.mark.parametrize("direction", ["scale", "shift"])
def test_sure_and_score_matching_are_least_for_the_exact_score(gaussian, schedule, direction):
    x = gaussian.draw(20_000)
    t = sure_score.noise_time(schedule, 0.2)
    std = float(schedule.sigma(t) / schedule.alpha(t))
    y, probe, eps = x + std * torch.randn_like(x), torch.randn_like(x), torch.randn_like(x)

    def off(a):
        return lambda x_t, t: gaussian(x_t, t) * (1 + a * (direction == "scale")) + a * (direction == "shift")

    def sure(a):
        D = sure_score.denoiser(off(a), schedule, std)
        return sure_score.sure_loss(D, D(y), y, std, probe)

    def dsm(a):
        return emlib.diffusion_loss(off(a), schedule, x, torch.full((len(x),), 100), eps)

    for loss in (sure, dsm):
        where, upwards = lowest(loss)
        assert upwards
        assert where == pytest.approx(0, abs=0.03)


def test_sure_score_learns_to_denoise_without_a_clean_picture(tiny, schedule, gaussian):
    x = gaussian.draw(300)
    m = emlib.measure(x.clamp(-1, 1), emlib.Identity(), 0.3, seed=0)
    model = emlib.build_unet(replace(tiny, patch=1), 0)
    for now in sure_score.train_sure_score(model, schedule, m, x[:0], 0, 60, 32, 1e-2, 0, 0.8):
        pass
    assert emlib.psnr(sure_score.denoise(now.ema, schedule, m), x).mean() > emlib.psnr(m.y, x).mean() + 2


def test_the_prior_counts_more_and_more(tiny, schedule, monkeypatch):
    asked = []
    monkeypatch.setattr(sure_score, "sure_loss", lambda D, Dy, *rest: Dy.sum() * 0)
    monkeypatch.setattr(sure_score, "diffusion_loss", lambda net, schedule, x, t, eps: x.sum() * 0 + 1)
    m = emlib.measure(torch.zeros(4, 1, 8, 8), emlib.Identity(), 0.2, seed=0)
    loop = sure_score.train_sure_score(emlib.build_unet(tiny, 0), schedule, m, m.y, 0, 4, 2, 1e-3, 0, weight=8.0)
    asked = [now.loss for now in loop]
    assert asked == pytest.approx([0, 2, 4, 6])


def test_the_estimate_on_many_pictures_does_not_depend_on_how_many_are_taken_at_a_time(gaussian, schedule):
    y, probe = gaussian.draw(10), torch.randn(10, *gaussian.draw(1).shape[1:])
    D = sure_score.denoiser(gaussian, schedule, 0.2)
    whole = sure_score.sure_loss(D, D(y), y, 0.2, probe).item()
    for batch in (3, 10, 11):
        assert sure_score.estimate(D, y, 0.2, probe, batch) == pytest.approx(whole, abs=1e-5)


def test_the_training_is_stopped_where_sure_on_other_pictures_is_least(gaussian, schedule):
    x = gaussian.draw(4000)
    t = sure_score.noise_time(schedule, 0.2)
    y = x + schedule.sigma(t) / schedule.alpha(t) * torch.randn_like(x)
    aside = replace(emlib.measure(x.clamp(-1, 1), emlib.Identity(), 0.2, seed=0), y=y)

    class Off:
        def __init__(self, a):
            self.a = a

        def __call__(self, x_t, t):
            return gaussian(x_t, t) * (1 + self.a)

    offs = [0.8, 0.4, 0.0, 0.3, -0.5]
    loop = [SimpleNamespace(step=i, ema=Off(a)) for i, a in enumerate(offs)]
    assert sure_score.stopped(loop, schedule, aside, every=1).a == 0
    # looked at after the first, the second and the fourth
    assert sure_score.stopped(loop, schedule, aside, every=2).a == 0.3
    with pytest.raises(ValueError, match="got every=0"):
        sure_score.stopped(loop, schedule, aside, every=0)
    with pytest.raises(ValueError, match="no update to stop after"):
        sure_score.stopped([], schedule, aside)


def test_stopping_keeps_a_network_that_goes_on_changing(tiny, schedule, gaussian):
    x = gaussian.draw(60)
    m = emlib.measure(x.clamp(-1, 1), emlib.Identity(), 0.3, seed=0)
    seen, aside = m.select(range(20)), m.select(range(20, 60))
    model = emlib.build_unet(replace(tiny, patch=1), 0)
    last = []

    def watched():
        for now in sure_score.train_sure_score(model, schedule, seen, x[:0], 0, 60, 20, 1e-2, 0, 0.8):
            last[:] = [now.ema]
            yield now

    best = sure_score.stopped(watched(), schedule, aside, every=10)

    def error(net):
        return (sure_score.denoise(net, schedule, aside) - x[20:]).square().mean()

    assert error(best) < error(last[0])


# ---- Ambient Diffusion ----


def exact_h(gaussian, t):
    """A network whose h is E[x_0 | A, A x_t] of the Gaussian at one time; the mask is its last channel."""
    a, s = gaussian.levels(t)
    cov, mean = gaussian.cov.float(), gaussian.mean.float()

    def net(packed, times):
        seen, M = packed[:, 0].flatten(1), packed[:, 1].flatten(1)
        # mean + a S M (a^2 M S M + s^2 I)^-1 M (x_t - a mean)
        K = a**2 * M[:, :, None] * cov * M[:, None] + s**2 * torch.eye(16)
        u = torch.linalg.solve(K, seen - a * M * mean)
        x0 = mean + a * (M * u) @ cov
        return torch.cat([(x0 - a * seen).view(-1, 1, 4, 4), torch.zeros(len(M), 1, 4, 4)], dim=1)

    return net


@pytest.mark.parametrize("direction", ["scale", "shift", "hidden"])
def test_ambients_loss_is_least_for_the_exact_mean_also_where_all_is_hidden(gaussian, schedule, direction):
    n, t = 30_000, 60
    x, eps = gaussian.draw(n), torch.randn(n, 1, 4, 4)
    mask, further = (torch.rand(2, n, 1, 4, 4) < torch.tensor([0.5, 0.7]).view(2, 1, 1, 1, 1)).float()
    exact = exact_h(gaussian, t)

    def off(a):
        def net(packed, times):
            answer, shown = exact(packed, times), packed[:, 1:]
            by = {"scale": answer[:, :1], "shift": 0.3, "hidden": 0.3 * (1 - shown)}[direction]
            return torch.cat([answer[:, :1] + a * by, answer[:, 1:]], dim=1)

        return net

    def loss(a):
        return ambient.ambient_loss(off(a), schedule, mask * x, mask, further, torch.full((n,), t), eps)

    where, upwards = lowest(loss)
    assert upwards
    assert where == pytest.approx(0, abs=0.03)


def test_without_further_hiding_nothing_is_learnt_of_hidden_pixels(schedule):
    x0, mask, t = torch.rand(3, 1, 4, 4), (torch.rand(3, 1, 4, 4) < 0.5).float(), torch.tensor([5, 50, 500])

    def loss(answer_where_hidden, further):
        def net(packed, times):
            return answer_where_hidden * (1 - packed[:, 1:]).expand(-1, 2, -1, -1)

        return ambient.ambient_loss(net, schedule, mask * x0, mask, further, t, torch.ones_like(x0))

    assert loss(0.0, torch.ones_like(mask)) == loss(9.0, torch.ones_like(mask))
    assert loss(0.0, torch.zeros_like(mask)) != loss(9.0, torch.zeros_like(mask))


def test_ambient_never_looks_at_what_its_mask_hides(tiny, schedule, wake):
    model = wake(ambient.build_ambient(tiny, 0))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([10, 700])
    mask = (torch.rand(2, 1, 8, 8) < 0.4).float()
    answer = ambient.h(model, schedule, x, mask, t)
    assert torch.equal(answer, ambient.h(model, schedule, torch.where(mask.bool(), x, 9.0), mask, t))
    assert not torch.equal(answer, ambient.h(model, schedule, x + 0.1, mask, t))


@pytest.mark.parametrize("channels", [1, 3])
def test_ambient_trains_draws_and_restores(tiny, schedule, channels):
    x = torch.rand(6, channels, 8, 8) * 2 - 1
    m = emlib.measure(x, emlib.random_mask(6, 8, 0.6, 0), 0.0, seed=0)
    model = ambient.build_ambient(replace(tiny, in_channels=channels), 0)
    losses = [now.loss for now in ambient.train_ambient(model, schedule, m, x[:2], 2, 3, 4, 1e-3, 0)]
    assert len(losses) == 5
    assert all(0 < loss < 9 for loss in losses)
    prior = ambient.ambient_prior(model.eval(), schedule, m, seed=0)
    # as many pixels as in training, which hides a tenth of the 40 % that are seen
    assert prior.mask.mean().item() == pytest.approx(0.36, abs=0.01)
    x_t, t = torch.randn(2, channels, 8, 8), torch.tensor([3, 3])
    told = emlib.predict_x0(prior(x_t, t), schedule, x_t, t)
    torch.testing.assert_close(
        told, ambient.h(model, schedule, x_t, prior.mask.expand(2, -1, -1, -1), t), rtol=0, atol=1e-4
    )
    assert torch.cat(list(emlib.draw(prior, schedule, (channels, 8, 8), 3, 2))).shape == (3, channels, 8, 8)
    restored = ambient.restore(model, schedule, m, batch=4)
    assert restored.shape == x.shape
    seen = m.operator.mask.expand_as(x).bool()
    assert torch.equal(restored[seen], m.y[seen])
    guided = emlib.reconstruct(partial(emlib.dps, steps=2, scale=1.0), prior, schedule, m, 0, "test", 6)
    assert torch.cat(list(guided)).isfinite().all()


def test_ambient_takes_one_mask_for_all_pictures(tiny, schedule):
    x = torch.rand(4, 1, 8, 8) * 2 - 1
    m = emlib.measure(x, emlib.random_mask(1, 8, 0.6, 0), 0.0, seed=0)
    for _ in ambient.train_ambient(ambient.build_ambient(tiny, 0), schedule, m, x[:2], 1, 1, 2, 1e-3, 0):
        pass


# ---- Noise2Self ----


def test_the_grids_share_out_the_picture():
    y = torch.zeros(1, 3, 28, 32)
    assert torch.equal(sum(noise2self.grid_of(i, y) for i in range(noise2self.WIDTH**2)), torch.ones(1, 1, 28, 32))


@pytest.mark.parametrize("i", [0, 6, 15])
def test_what_is_told_of_a_pixel_does_not_depend_on_it(net, i):
    y = torch.randn(2, 1, 8, 8)
    J = noise2self.grid_of(i, y)
    changed = torch.where(J.bool(), y + torch.randn_like(y), y)
    told, again = (noise2self.f(net, part, J) for part in (y, changed))
    assert torch.equal(told, again)  # and so in J
    assert not torch.equal(told, noise2self.f(net, y + 0.1, J))


def test_the_denoised_picture_is_blind_to_each_of_its_pixels(net):
    m = emlib.measure(torch.zeros(1, 1, 8, 8), emlib.Identity(), 0.2, seed=0)
    before = noise2self.denoise(net, m)
    for row, column in ((0, 0), (3, 5), (7, 7)):
        y = m.y.clone()
        y[..., row, column] += 1
        after = noise2self.denoise(net, replace(m, y=y))
        assert after[..., row, column] == before[..., row, column]
        assert (after - before).abs().max() > 1e-3


def test_the_loss_is_the_true_error_and_the_noises_variance():
    x = (torch.rand(1, 1, 8, 8) * 2 - 1).expand(4000, -1, -1, -1)
    y, J = x + 0.5 * torch.randn(x.shape), noise2self.grid_of(5, x)

    def still(y, t):
        return torch.zeros_like(y)

    noisy, true = (noise2self.noise2self_loss(still, y, target, J).item() for target in (y, x))
    assert noisy == pytest.approx(true + 0.25, rel=0.02)


def test_noise2self_learns_from_noisy_pictures_alone(tiny, schedule):
    x = torch.linspace(-0.8, 0.8, 8).expand(60, 1, 8, 8) * torch.rand(60, 1, 1, 1)
    m = emlib.measure(x, emlib.Identity(), 0.3, seed=0)
    loop = noise2self.train_noise2self(emlib.build_unet(tiny, 0), schedule, m, x[:0], 0, 50, 16, 1e-2, 0, 0.8)
    for now in loop:
        pass
    assert emlib.psnr(noise2self.denoise(now.ema, m), x).mean() > emlib.psnr(m.y, x).mean() + 2


# ---- classical ----


def test_splines_know_a_slope_from_a_few_of_its_pixels():
    x = (torch.linspace(-0.5, 0.5, 8)[:, None] + torch.linspace(-0.3, 0.3, 8)).expand(2, 3, 8, 8)
    m = emlib.measure(x, emlib.random_mask(2, 8, 0.6, 0), 0.0, seed=0)
    torch.testing.assert_close(interpolated(m), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_weight_of_a_deconvolution_is_found_without_the_truth(noise):
    x = emlib.load("embedded").held_out[:20]
    m = emlib.measure(x, emlib.GaussianBlur(28, 28), noise, seed=0)
    found, a = deconvolved(m)
    A, best = m.operator, {}
    for weight in WEIGHTS:
        best[weight] = emlib.psnr(A.adjoint(A.solve(m.y, weight, 1.0)).clamp(-1, 1), x).mean().item()
    assert emlib.psnr(found, x).mean().item() == pytest.approx(best[a])
    assert best[a] > max(best.values()) - 1  # dB


@pytest.mark.parametrize("operator", ["mask", "blur", "noise"])
def test_the_classical_method_of_each_task_gains(operator):
    p = replace(emlib.preset("smoke"), held_out=20)
    task = emlib.make_task(p, operator, noise_std=0.2 if operator == "noise" else 0.0)
    found = classical(task.held_out)
    assert found.abs().max() <= 1
    gain = emlib.psnr(found, task.held_out_truth) - emlib.psnr(task.held_out.y, task.held_out_truth)
    assert gain.mean() > 3


# ---- DiEM ----


def test_diem_is_em_from_a_gaussian_with_mmps(tiny, schedule, gaussian):
    m = emlib.measure(gaussian.draw(20), emlib.random_mask(20, 4, 0.6, 0), 0.1, seed=0)
    settings = replace(emlib.preset("smoke").em, iterations=1, init_updates=2, m_updates=2, train_batch=4, seed=3)
    run = [event for event in run_diem(m, tiny, schedule, settings, 3, 1) if isinstance(event, emlib.Iteration)]
    assert [event.iteration for event in run] == [0, 1]
    first = fit_gaussian(m, schedule, seed=3)
    assert torch.equal(run[0].prior.mean, first.mean)
    by_hand = emlib.reconstruct(partial(emlib.mmps, steps=3, cg_steps=1), first, schedule, m, 3, "e-step 1", 20)
    torch.testing.assert_close(run[1].reconstructions, torch.cat(list(by_hand)), rtol=0, atol=1e-6)


# ---- all of them ----


@pytest.mark.parametrize("module", [sure_score, ambient, noise2self], ids=lambda module: module.__name__)
def test_a_seed_gives_the_same_training_and_leaves_the_callers_numbers_alone(tiny, schedule, module):
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    masks = module is ambient
    operator = emlib.random_mask(6, 8, 0.6, 0) if masks else emlib.Identity()
    m = emlib.measure(x, operator, 0.0 if masks else 0.2, seed=0)
    method = getattr(module, "train_" + module.__name__.split(".")[-1])

    def losses(seed):
        model = ambient.build_ambient(tiny, 0) if masks else emlib.build_unet(tiny, 0)
        return [now.loss for now in method(model, schedule, m, x[:3], 2, 3, 4, 1e-2, seed)]

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = losses(1)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert losses(1) == first != losses(2)


@pytest.mark.parametrize(
    ("method", "operator", "noise", "says"),
    [
        (ambient.train_ambient, emlib.Identity(), 0.2, "masks without noise, got operator 'noise'"),
        (ambient.train_ambient, emlib.GaussianBlur(8, 8), 0.0, "got operator 'blur'"),
        (ambient.train_ambient, emlib.random_mask(4, 8, 0.6, 0), 0.1, r"noise_std 0\.1"),
        (noise2self.train_noise2self, emlib.random_mask(4, 8, 0.6, 0), 0.1, "got operator 'mask'"),
        (noise2self.train_noise2self, emlib.GaussianBlur(8, 8), 0.1, "got operator 'blur'"),
        (noise2self.train_noise2self, emlib.Identity(), 0.0, r"noise_std 0\.0"),
    ],
)
def test_what_a_method_is_not_for_is_refused(tiny, schedule, method, operator, noise, says):
    m = emlib.measure(torch.zeros(4, 1, 8, 8), operator, noise, seed=0)
    with pytest.raises(ValueError, match=says):
        next(method(emlib.build_unet(tiny, 0), schedule, m, m.y, 1, 1, 2, 1e-3, 0))


@pytest.mark.parametrize("hide", [0.0, 1.0])
def test_ambient_must_hide_some_and_not_all(tiny, schedule, hide):
    m = emlib.measure(torch.zeros(4, 1, 8, 8), emlib.random_mask(4, 8, 0.6, 0), 0.0, seed=0)
    with pytest.raises(ValueError, match=f"hide={hide}"):
        next(ambient.train_ambient(emlib.build_unet(tiny, 0), schedule, m, m.y, 1, 1, 2, 1e-3, 0, hide=hide))

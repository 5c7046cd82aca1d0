"""PiGDM, DiffPIR and DPS by the squared norm: against closed forms, and all samplers against deepinv."""

import importlib
from functools import partial

import deepinv
import pytest
import torch
from torch import nn

import emlib
from emlib.data.datasets import data_dir
from emlib.posterior.diffpir import diffpir
from emlib.posterior.dps import dps, dps_squared
from emlib.posterior.mmps import mmps, posterior_mean
from emlib.posterior.pigdm import pigdm, pigdm_mean

# operator on 4 x 4 pictures and noise
TASKS = {
    "mask without noise": (emlib.random_mask(1, 4, 0.6, 0), 0.0),
    "mask with noise 0.1": (emlib.random_mask(1, 4, 0.6, 0), 0.1),
    "blur without noise": (emlib.GaussianBlur(4, 4, 0.5, 3), 0.0),  # so mild that every direction is measured
    "blur with noise 0.1": (emlib.GaussianBlur(4, 4, 1.0, 3), 0.1),
    "noise 0.2": (emlib.Identity(), 0.2),
}
tasks = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
I16 = torch.eye(16, dtype=torch.float64)


def matrix(A):
    """A as a matrix on flattened 4 x 4 pictures, [16, 16] in float64."""
    return A(I16.view(16, 1, 4, 4)).flatten(1).T


def noisy(gaussian, schedule, A, noise_std, t, n=6):
    """Pictures at time t and measurements of what they were."""
    x0 = gaussian.draw(n, seed=2)
    x_t = emlib.add_noise(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(t)))
    y = A(x0) + noise_std * A(torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)))
    return x_t, emlib.Measurements(y, A, noise_std, tuple(range(n)))  # x0 may lie off [-1, 1]


def in64(m):
    return emlib.Measurements(m.y.double(), m.operator, m.noise_std, m.index)


def jacobian(gaussian, t):
    """J = d E[x_0 | x_t] / d x_t = a S (a^2 S + s^2 I)^-1."""
    a, s = gaussian.levels(t)
    return a * gaussian.cov @ torch.linalg.inv(a**2 * gaussian.cov + s**2 * I16)


@tasks
@pytest.mark.parametrize("t", [999, 700, 300, 50, 1])
def test_pigdm_computes_its_own_formula(gaussian, schedule, task, t):
    A, noise_std = task
    x_t, m = noisy(gaussian, schedule, A, noise_std, t)
    mean, _ = gaussian.denoised(x_t, t)
    a, s = gaussian.levels(t)
    M = matrix(A)
    inverse = torch.linalg.pinv(noise_std**2 * I16 + s**2 * M @ M.T, rtol=1e-4, hermitian=True)
    shift = (m.y.flatten(1).double() - mean @ M.T) @ inverse @ M @ jacobian(gaussian, t)
    found = pigdm_mean(gaussian, schedule, in64(m), x_t.double(), t)
    torch.testing.assert_close(found.flatten(1), mean + s**2 / a * shift, rtol=0, atol=1e-4)
    assert (s**2 / a * shift).abs().max() > 1e-3


@tasks
@pytest.mark.parametrize("t", [999, 700, 300, 50, 1])
def test_pigdm_and_mmps_are_both_exact_on_a_prior_of_unit_variance_and_only_mmps_elsewhere(gaussian, schedule, task, t):
    """Unit variance makes Var[x_0 | x_t] = sigma_t^2 I: what PiGDM assumes and MMPS finds out."""
    A, noise_std = task
    M = matrix(A)
    rows = M.abs().sum(1) > 0

    def means():
        x_t, m = noisy(gaussian, schedule, A, noise_std, t)
        known, cov = gaussian.denoised(x_t, t)
        exact, _ = gaussian.given(M[rows], m.y.flatten(1).double()[:, rows], noise_std, known, cov)
        ours = pigdm_mean(gaussian, schedule, in64(m), x_t.double(), t).flatten(1)
        theirs = posterior_mean(gaussian, schedule, in64(m), x_t.double(), t, cg_steps=40).flatten(1)
        return exact, ours, theirs

    gaussian.cov = I16.clone()
    exact, ours, theirs = means()
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(theirs, exact, rtol=0, atol=1e-4)
    gaussian.cov = 0.04 * I16
    exact, ours, theirs = means()
    torch.testing.assert_close(theirs, exact, rtol=0, atol=1e-4)
    if t in (300, 700):  # at 999 nothing is known, at 1 everything
        assert (ours - exact).abs().max() > 0.05


def test_so_their_pictures_are_the_same_there(gaussian, schedule):
    """Whole runs of 8 steps, clamps and noise included."""
    gaussian.cov = I16.clone()
    for A, noise_std in TASKS.values():
        m = emlib.measure(gaussian.draw(5).clamp(-1, 1), A, noise_std, seed=0)
        runs = [
            list(sampler(gaussian, schedule, m, emlib.streams(0, "x", range(5))))
            for sampler in (partial(pigdm, steps=8, eta=0.7), partial(mmps, steps=8, cg_steps=16, eta=0.7))
        ]
        for ours, theirs in zip(*runs, strict=True):
            torch.testing.assert_close(ours.x0_hat, theirs.x0_hat, rtol=0, atol=0.02 if ours.t > 700 else 2e-3)
        torch.testing.assert_close(runs[0][-1].x_t, runs[1][-1].x_t, rtol=0, atol=1e-3)


@tasks
def test_diffpir_takes_its_first_step_as_worked_out_by_hand(gaussian, schedule, task):
    """The proximal step by dense linear algebra, then the new noise."""
    A, noise_std = task
    weight, zeta = 3.0, 0.4
    m = emlib.measure(gaussian.draw(3), A, noise_std, seed=0)
    generators = emlib.streams(0, "x", range(3))
    x, z = (emlib.randn(generators, (1, 4, 4)).flatten(1).double() for _ in range(2))
    first, second, third = diffpir(gaussian, schedule, m, emlib.streams(0, "x", range(3)), 3, weight, zeta)
    M, y = matrix(A), m.y.flatten(1).double()

    def near(x_t, t, tolerance, found):
        x0 = gaussian.denoised(x_t, t)[0].clamp(-1, 1)
        a, s = gaussian.levels(t)
        rho = weight * noise_std**2 * a**2 / s**2
        # || y - M x ||^2 + rho || x - x0 ||^2 is least at (M^T M + rho I)^-1 (M^T y + rho x0)
        if noise_std > 0:
            best = (y @ M + rho * x0) @ torch.linalg.inv(M.T @ M + rho * I16)
        else:
            best = x0 + (y - x0 @ M.T) @ torch.linalg.pinv(M, rtol=1e-2).T
        torch.testing.assert_close(found.flatten(1).double(), best, rtol=0, atol=tolerance)
        return best

    t, s = 999, first.t
    best = near(x.float().view(3, 1, 4, 4), t, 2e-2 if noise_std else 1e-3, first.x0_hat)
    (a_t, s_t), (a_s, s_s) = gaussian.levels(t), gaussian.levels(s)
    assert (first.x0_hat.flatten(1) - gaussian.denoised(x.view(3, 1, 4, 4), t)[0]).abs().max() > 0.05
    x_s = a_s * best + s_s * ((1 - zeta) ** 0.5 * (x - a_t * best) / s_t + zeta**0.5 * z)
    torch.testing.assert_close(first.x_t.flatten(1).double(), x_s, rtol=0, atol=2e-2 if noise_std else 1e-3)
    near(first.x_t, s, 1e-3, second.x0_hat)
    near(second.x_t, second.t, 1e-4, third.x0_hat)
    assert torch.equal(third.x_t, third.x0_hat)


def test_without_measurements_diffpir_without_fresh_noise_is_ddim(net):
    schedule = emlib.linear_schedule(6)  # all its times, so that both walk the same grid
    m = emlib.measure(torch.zeros(2, 1, 8, 8), emlib.GaussianBlur(8, 8), 1e6, seed=0)  # y says nothing
    m = emlib.Measurements(torch.zeros_like(m.y), m.operator, m.noise_std, m.index)
    *_, free = emlib.sample(net, schedule, (1, 8, 8), emlib.streams(0, "x", range(2)), 6, eta=0.0)
    *_, bound = diffpir(net, schedule, m, emlib.streams(0, "x", range(2)), 6, zeta=0.0)
    torch.testing.assert_close(bound.x_t, free.x_t, rtol=0, atol=1e-5)
    *_, other = diffpir(net, schedule, m, emlib.streams(0, "x", range(2)), 6, zeta=0.5)
    assert (other.x_t - free.x_t).abs().max() > 0.01


def test_pixels_seen_without_noise_are_met(net, gaussian, schedule):
    """DiffPIR's last estimate has them exactly; PiGDM's up to what the network leaves open at t = 0."""
    x0 = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m = emlib.measure(x0, emlib.random_mask(4, 8, 0.6, 0), 0.0, seed=0)
    *_, end = diffpir(net, schedule, m, emlib.streams(0, "x", range(4)), 5)
    torch.testing.assert_close(m.operator(end.x0_hat), m.y, rtol=0, atol=1e-6)
    torch.testing.assert_close(m.operator(end.x_t), m.y, rtol=0, atol=1e-6)
    m = emlib.measure(gaussian.draw(4), emlib.random_mask(4, 4, 0.6, 0), 0.0, seed=0)
    before, end = list(pigdm(gaussian, schedule, m, emlib.streams(0, "x", range(4)), 20))[-2:]
    assert (m.y - m.operator(end.x_t)).abs().max() < 2e-3
    assert (m.y - m.operator(before.x_t)).abs().max() > 1e-2  # still noisy at t = 0


def test_the_squared_norm_pushes_down_its_own_slope(gaussian):
    """One step to clean, against the gradient worked out by hand for a linear denoiser.

    On a schedule that ends early, where the Jacobian is large enough to be seen in 32 bits.
    """
    gaussian.schedule = schedule = emlib.linear_schedule(30)
    A, scale = TASKS["blur with noise 0.1"][0], 0.7
    m = emlib.measure(gaussian.draw(3), A, 0.1, seed=0)
    start = emlib.randn(emlib.streams(0, "x", range(3)), (1, 4, 4))

    def end(sampler, scale):
        *_, last = sampler(gaussian, schedule, m, emlib.streams(0, "x", range(3)), 1, scale)
        return last.x_t.flatten(1).double()

    mean, _ = gaussian.denoised(start, 29)
    M = matrix(A)
    r = m.y.flatten(1).double() - mean @ M.T
    slope = -2 * r @ M @ jacobian(gaussian, 29)
    torch.testing.assert_close(end(dps_squared, scale), mean - scale * slope, rtol=0, atol=1e-5)
    assert (scale * slope.norm(dim=1) > 0.01).all()
    # and dps, with the scale of each picture that makes up for the norm, ends at the same place
    by_norm = torch.stack([end(dps, 2 * float(length) * scale)[i] for i, length in enumerate(r.norm(dim=1))])
    torch.testing.assert_close(end(dps_squared, scale), by_norm, rtol=0, atol=1e-5)


OPERATORS = {
    "mask": (emlib.random_mask(7, 8, 0.6, 0), 0.1),
    "mask without noise": (emlib.random_mask(7, 8, 0.6, 0), 0.0),
    "blur": (emlib.GaussianBlur(8, 8), 0.1),
    "noise": (emlib.Identity(), 0.1),
}
SAMPLERS = {"pigdm": pigdm, "diffpir": diffpir, "dps_squared": partial(dps_squared, scale=0.1)}
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def by_batch(sampler, model, schedule, m, batches):
    """Reconstructions with batches of other sizes, and of two pictures alone."""
    runs = {b: torch.cat(list(emlib.reconstruct(sampler, model, schedule, m, 0, "e", b))) for b in batches}
    alone = torch.cat(list(emlib.reconstruct(sampler, model, schedule, m.select([5, 2]), 0, "e", 2)))
    return *runs.values(), alone


@pytest.mark.parametrize("task", OPERATORS.values(), ids=OPERATORS)
@samplers
def test_a_reconstruction_does_not_depend_on_its_batch(net, schedule, task, sampler):
    x0 = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    m = emlib.measure(x0, *task, 0, first=3)
    whole, *others, alone = by_batch(partial(sampler, steps=5), net, schedule, m, (7, 1, 3, 64))
    for x in others:
        torch.testing.assert_close(x, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, whole[[5, 2]], rtol=0, atol=1e-5)
    assert whole.abs().max() <= 1


@samplers
def test_samplers_stop_on_the_grid_and_leave_no_graph_behind(net, schedule, sampler):
    m = emlib.measure(torch.zeros(2, 1, 8, 8), emlib.Identity(), 0.1, seed=0)
    stops = list(sampler(net, schedule, m, emlib.streams(0, "x", range(2)), 4))
    assert [stop.t for stop in stops] == emlib.time_grid(schedule, 4, 1.5)[1:]
    assert not any(stop.x_t.requires_grad or stop.x0_hat.requires_grad for stop in stops)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        (partial(pigdm, steps=0), "steps=0"),
        (partial(pigdm, steps=2, eta=1.5), r"eta=1\.5"),
        (partial(diffpir, steps=1001), "steps=1001"),
        (partial(diffpir, steps=2, weight=0.0), r"weight=0\.0"),
        (partial(diffpir, steps=2, weight=-7.0), r"weight=-7\.0"),
        (partial(diffpir, steps=2, weight=float("nan")), "weight=nan"),
        (partial(diffpir, steps=2, zeta=1.1), r"zeta=1\.1"),
        (partial(diffpir, steps=2, zeta=float("nan")), "zeta=nan"),
        (partial(dps_squared, steps=2, scale=-1.0), r"got -1\.0"),
        (partial(dps_squared, steps=0, scale=1.0), "steps=0"),
        (partial(dps_squared, steps=2, scale=1.0, eta=2.0), r"eta=2\.0"),
    ],
)
def test_bad_values_stop_the_samplers_before_the_network_is_called(schedule, sampler, says):
    def model(x, t):
        raise AssertionError("called")

    m = emlib.measure(torch.zeros(1, 1, 8, 8), emlib.Identity(), 0.1, seed=0)
    with pytest.raises(ValueError, match=says):
        next(sampler(model, schedule, m, emlib.streams(0, "x", [0])))


# deepinv, on the network of the book

N, STEPS = 16, 12


@pytest.fixture(scope="module")
def prior():
    return emlib.load_unet(data_dir() / "checkpoints" / "fashion-mnist-clean.safetensors")


@pytest.fixture(scope="module")
def masked():
    """16 embedded pictures with 60 % of the pixels hidden and noise 0.1, and what they were."""
    task = emlib.make_task(emlib.preset("pocket"), noise_std=0.1)
    return task.measurements.select(range(N)), task.truth[:N]


class Denoiser(nn.Module):
    """eps_theta as deepinv wants it, x + sigma z -> x with sigma not bounded by 1; pictures on [low, 1]."""

    def __init__(self, model, schedule, low):
        super().__init__()
        self.model, self.schedule, self.half = model, schedule, 2 / (1 - low)

    def forward(self, x, sigma):
        # sigma_t / alpha_t is sigma on the [-1, 1] scale
        x, sigma = self.half * x + 1 - self.half, self.half * torch.as_tensor(sigma).flatten()[0].float()
        t = int(((1 / self.schedule.alpha_bar - 1).sqrt() - sigma).abs().argmin())
        x0 = x - sigma * self.model(self.schedule.alpha(t) * x, torch.full((len(x),), t))
        return (x0 - 1 + self.half) / self.half


class OurNoise(deepinv.sampling.DDPMSolver):
    """deepinv's ancestral solver at our times, with our streams' noise; ``push`` may look at each step first."""

    def __init__(self, schedule, grid, generators, push=None):
        # its time is continuous, with -log alpha_bar = 0.1 t + 9.95 t^2
        L = torch.tensor([-float(schedule.alpha(t).double().log()) * 2 for t in grid], dtype=torch.float64)
        super().__init__(timesteps=((0.01 + 39.8 * L).sqrt() - 0.1) / 19.9)
        self.generators, self.push = generators, push

    def randn_like(self, x, seed=None):
        return emlib.randn(self.generators, tuple(x.shape[1:])).to(x)

    def step(self, sde, t0, t1, x0, *args, **kwargs):
        if self.push:
            self.push(sde, t0, t1)
        return super().step(sde, t0, t1, x0, *args, **kwargs)


def inpainting(m, noise_std):
    return deepinv.physics.Inpainting(
        m.y.shape[1:], mask=m.operator.mask, noise_model=deepinv.physics.GaussianNoise(noise_std)
    )


def report(name, ours, theirs, truth):
    """Mean PSNR of both, its standard error over pictures, and how far apart the pictures are."""
    a, b = emlib.psnr(ours, truth), emlib.psnr(theirs, truth)
    gap = (ours - theirs).square().mean().sqrt()
    print(f"{name}: ours {a.mean():.3f} dB, deepinv {b.mean():.3f} dB, error {a.std() / N**0.5:.2f}, rms gap {gap:.1e}")
    return a, b, gap


def test_dps_is_that_of_deepinv(prior, schedule, masked):
    """The same noise and times. deepinv guides through the score, so its push has another length at each time,
    lambda_t = weight s_t s_s (sigma_t^2 - sigma_s^2) in its letters; its weight is set to make that our constant.
    """
    m, truth = masked
    scale, grid = 2.0, emlib.time_grid(schedule, STEPS, 1.5)
    *_, ours = dps(prior, schedule, m, emlib.streams(0, "x", m.index), STEPS, scale)

    def push(sde, t, s):
        length = sde.scale_t(t) * sde.scale_t(s) * (sde.sigma_t(t) ** 2 - sde.sigma_t(s) ** 2)
        theirs.data_fidelity.weight = float(scale / length)

    generators = emlib.streams(0, "x", m.index)
    start = emlib.randn(generators, tuple(m.y.shape[1:])).double()
    theirs = deepinv.sampling.DPS(
        Denoiser(prior, schedule, -1), solver=OurNoise(schedule, grid, generators, push), minus_one_one=False
    )
    found = theirs(m.y, inpainting(m, m.noise_std), x_init=start).float()
    a, b, gap = report("DPS", ours.x_t, found, truth)
    assert abs(a.mean() - b.mean()) < 0.05
    assert gap < 1e-3


@pytest.mark.parametrize(
    ("name", "sampler", "fidelity", "apart"),
    [
        ("PiGDM", pigdm, deepinv.sampling.PiGDMDataFidelity(), 1e-3),
        (
            "MMPS",
            partial(mmps, cg_steps=2),
            deepinv.sampling.MomentMatchingDataFidelity(cg_max_iter=2, cg_tol=0.0),
            0.1,
        ),
    ],
    ids=["pigdm", "mmps"],
)
def test_guidance_by_a_gaussian_is_that_of_deepinv(prior, schedule, masked, name, sampler, fidelity, apart):
    """The same noise and times. deepinv does not clamp E[x_0 | x_t, y] to [-1, 1] and its pictures then leave all
    bounds (at t = 999 an error of eps counts 157 times), so our clamp is put around its score.
    In MMPS a direction along which the network's covariance is not positive gets no step here and a wrong one there
    (10 of 16 pictures at t = 999), which is all that sets the two apart: without that guard the gap is 2e-6.
    """
    m, truth = masked
    grid = emlib.time_grid(schedule, STEPS, 1.5)
    *_, ours = sampler(prior, schedule, m, emlib.streams(0, "x", m.index), STEPS)
    generators = emlib.streams(0, "x", m.index)
    start = emlib.randn(generators, tuple(m.y.shape[1:])).double()
    theirs = deepinv.sampling.PosteriorDiffusion(
        fidelity,
        Denoiser(prior, schedule, -1),
        deepinv.sampling.VariancePreservingDiffusion(alpha=1.0),
        OurNoise(schedule, grid, generators),
        minus_one_one=False,
    )
    sde, score = theirs.sde, theirs.posterior.score

    def clamped(x, t, *args, **kwargs):
        # E[x_0 | x_t, y] = (x_t + s_t^2 sigma_t^2 score) / s_t, in deepinv's letters
        s, variance = sde.scale_t(t), (sde.scale_t(t) * sde.sigma_t(t)) ** 2
        return (s * ((x + variance * score(x, t, *args, **kwargs)) / s).clamp(-1, 1) - x) / variance

    theirs.posterior.score = clamped
    found = theirs(m.y, inpainting(m, m.noise_std), x_init=start).float()
    a, b, gap = report(name, ours.x_t, found, truth)
    assert abs(a.mean() - b.mean()) < 0.1
    assert gap < apart


@pytest.mark.parametrize("zeta", [1.0, 0.3])
def test_diffpir_is_that_of_deepinv(prior, schedule, masked, monkeypatch, zeta):
    """The same noise and times. deepinv's rho_t mixes scales ([0, 1] for the noise of y, a factor 4) and it doubles
    rho_t, so its lambda is twice our weight; it returns the picture at t = 0 and not the last estimate.
    """
    m, truth = masked
    weight = 3.5
    theirs = deepinv.sampling.DiffPIR(
        Denoiser(prior, schedule, 0), deepinv.optim.L2(), max_iter=STEPS, zeta=zeta, lambda_=2 * weight
    )
    grid = [schedule.T - 1 - int(i) for i in theirs.seq] + [-1]
    y01 = m.operator((m.y + 1) / 2)
    found = theirs(y01, inpainting(m, m.noise_std / 2), seed=1, x_init=torch.full_like(y01, 0.5)) * 2 - 1
    torch.manual_seed(1)
    module = importlib.import_module("emlib.posterior.diffpir")  # the package's name for it is the function
    monkeypatch.setattr(module, "time_grid", lambda *_: grid)
    monkeypatch.setattr(module, "randn", lambda gs, shape, device: torch.randn(len(gs), *shape))
    ours = {stop.t: stop.x_t for stop in diffpir(prior, schedule, m, list(m.index), STEPS, weight, zeta)}
    a, b, gap = report(f"DiffPIR zeta={zeta}", ours[0], found, truth)
    assert abs(a.mean() - b.mean()) < 0.05
    assert gap < 1e-3

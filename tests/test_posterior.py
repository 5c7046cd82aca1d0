from functools import partial

import pytest
import torch

import emlib
from emlib.data.datasets import data_dir
from emlib.posterior.mmps import by_operator, plain
from emlib.posterior.pigdm import pigdm_mean

N = 4000
# operator on 4 x 4 pictures and noise
TASKS = {
    "mask without noise": (emlib.random_mask(1, 4, 0.6, 0), 0.0),
    "mask with noise 0.1": (emlib.random_mask(1, 4, 0.6, 0), 0.1),
    "blur with noise 0.1": (emlib.GaussianBlur(4, 4, 1.0, 3), 0.1),
    "noise 0.2": (emlib.Identity(), 0.2),
}
tasks = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def last(steps):
    *_, final = steps
    return final.x_t


def many(y, A, noise_std, n):
    """The same measurement n times."""
    return emlib.Measurements(y.expand(n, -1, -1, -1), A, noise_std, tuple(range(n)))


def matrix(A):
    """A as a matrix on flattened 4 x 4 pictures, rows that measure something, and which these are."""
    columns = A(torch.eye(16).view(16, 1, 4, 4)).flatten(1).double().T
    rows = columns.abs().sum(1) > 0
    return columns[rows], rows


def exact(gaussian, A, noise_std):
    """One measurement and the mean [16] and covariance [16, 16] of its posterior."""
    y = emlib.measure(gaussian.draw(1, seed=1), A, noise_std, seed=0).y
    M, rows = matrix(A)
    mean, cov = gaussian.given(M, y.flatten(1).double()[:, rows], noise_std)
    return y, mean[0], cov


@tasks
def test_mmps_draws_from_the_exact_posterior_and_dps_does_not(gaussian, schedule, one_stream, surprise, task):
    """4,000 draws each, 1,000 ancestral steps; z-scores compare with the error that 4,000 exact draws would have.

    The ancestral sampler itself loses about 4 % of the variance, which stays inside that error.
    """
    A, noise_std = task
    y, mean, cov = exact(gaussian, A, noise_std)
    open_ = cov.diagonal() > 1e-9  # pixels seen without noise are known: compared below
    m = many(y, A, noise_std, N)

    def judge(sampler):
        x = last(sampler(gaussian, schedule, m, one_stream(N), 1000)).flatten(1).double()
        z_mean, z_cov, error = surprise(x[:, open_], mean[open_], cov[open_][:, open_])
        known = (x - mean)[:, ~open_].abs()
        ratio = (x[:, open_].var(0).sum() / cov.diagonal()[open_].sum()).item()
        return z_mean, z_cov, error, ratio, known.max().item() if known.numel() else 0.0

    z_mean, z_cov, error, ratio, known = judge(partial(emlib.mmps, cg_steps=5))
    assert z_mean < 5
    assert z_cov < 5
    assert error < 0.1  # 4,000 exact draws give about 0.05
    assert 0.9 < ratio < 1.05
    assert known < 1e-5
    # DPS with weak and strong guidance: off in its mean by many times the sampling error. Stronger guidance does not
    # mend it: where there is noise it spreads the draws, and without noise it throws seen pixels about.
    weak, strong = judge(partial(emlib.dps, scale=0.1)), judge(partial(emlib.dps, scale=1.0))
    assert min(weak[0], strong[0]) > 15
    assert min(weak[0], strong[0]) > 8 * z_mean
    if noise_std > 0:
        assert min(weak[1], strong[1]) > 12
        assert min(weak[2], strong[2]) > 2 * error
        assert weak[3] < 0.85
        assert strong[3] > 1.15 * weak[3]
    else:
        assert weak[4] > 0.05
        assert strong[4] > 0.3


@tasks
@pytest.mark.parametrize("t", [999, 700, 300, 50, 1])
def test_the_mean_given_y_is_the_closed_form_at_every_time(gaussian, schedule, task, t):
    A, noise_std = task
    x0 = gaussian.draw(6, seed=2)
    x_t = emlib.add_noise(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(t)))
    m = emlib.measure(x0, A, noise_std, seed=1)
    M, rows = matrix(A)
    known, cov = gaussian.denoised(x_t, t)
    expected, _ = gaussian.given(M, m.y.flatten(1).double()[:, rows], noise_std, known, cov)
    # float64 pictures test the formula; in float32 the product with V loses digits as 1 / alpha_t^2 (25,000 at 999)
    m64 = emlib.Measurements(m.y.double(), A, noise_std, m.index)
    found = emlib.posterior_mean(gaussian, schedule, m64, x_t.double(), t, cg_steps=20)
    torch.testing.assert_close(found.flatten(1), expected, rtol=0, atol=1e-4)
    found = emlib.posterior_mean(gaussian, schedule, m, x_t, t, cg_steps=20)
    torch.testing.assert_close(found.flatten(1).double(), expected, rtol=0, atol=0.05 if t == 999 else 5e-4)


@tasks
def test_each_conjugate_gradient_step_comes_nearer(gaussian, schedule, task):
    A, noise_std = task
    x0, t = gaussian.draw(20, seed=3), 400
    x_t = emlib.add_noise(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)))
    m = emlib.measure(x0, A, noise_std, seed=1)
    M, rows = matrix(A)
    known, cov = gaussian.denoised(x_t, t)
    expected, _ = gaussian.given(M, m.y.flatten(1).double()[:, rows], noise_std, known, cov)
    # a preconditioner that knows a pixel's variance and not this Gaussian's may take a step more
    for precondition, steps in ((plain, 4), (by_operator, 5)):
        means = [
            emlib.posterior_mean(gaussian, schedule, m, x_t, t, k, precondition).flatten(1) for k in range(1, steps + 1)
        ]
        errors = [(known - expected).norm().item()] + [(mean - expected).norm().item() for mean in means]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("noise_std", [0.0, 0.01])
def test_on_a_blur_one_preconditioned_step_is_nearer_than_eight_plain_ones(gaussian, schedule, noise_std):
    """12 x 12 pixels and the paper's blur, whose A A^T has eigenvalues from 1 down to 10^-10."""
    gaussian, A, t = type(gaussian)((1, 12, 12)), emlib.GaussianBlur(12, 12), 300
    x0 = gaussian.draw(10, seed=3)
    x_t = emlib.add_noise(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)))
    m = emlib.measure(x0, A, noise_std, seed=1)
    m = emlib.Measurements(m.y.double(), A, noise_std, m.index)
    M = A(torch.eye(144, dtype=torch.float64).view(144, 1, 12, 12)).flatten(1).T
    known, cov = gaussian.denoised(x_t, t)
    # a sharp posterior: noise as small as FLOOR assumes where there is none
    expected, _ = gaussian.given(M, m.y.flatten(1), max(noise_std, 1e-3), known, cov)

    def error(steps, precondition):
        found = emlib.posterior_mean(gaussian, schedule, m, x_t.double(), t, steps, precondition)
        return (found.flatten(1) - expected).norm().item()

    assert error(1, by_operator) < error(8, plain)
    assert error(3, by_operator) < 0.8 * error(3, plain)


def test_the_first_step_is_pigdms_but_for_its_length(net, schedule):
    A, t = emlib.GaussianBlur(8, 8), 200
    x0 = torch.rand(3, 1, 8, 8) * 2 - 1
    m = emlib.measure(x0, A, 0.2, seed=0)
    x_t = emlib.add_noise(schedule, x0, t, torch.randn(x0.shape))
    x0_hat = emlib.predict_x0(net(x_t, torch.full((3,), t)), schedule, x_t, t)

    def pigdms(measurements, schedule, t):  # its own idea of a pixel's variance
        return lambda r: A.solve(r, measurements.noise_std**2, schedule.sigma(t).square())

    one = emlib.posterior_mean(net, schedule, m, x_t, t, 1, pigdms) - x0_hat
    other = pigdm_mean(net, schedule, m, x_t, t) - x0_hat
    one, other = (x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True) for x in (one, other))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_masks_and_plain_noise_need_no_preconditioner(net, schedule):
    for A, noise_std in ((emlib.random_mask(3, 8, 0.6, 0), 0.0), (emlib.Identity(), 0.2)):
        m = emlib.measure(torch.rand(3, 1, 8, 8) * 2 - 1, A, noise_std, seed=0)
        x_t = torch.randn(3, 1, 8, 8)
        for steps in (1, 2):
            with_it, without = (
                emlib.posterior_mean(net, schedule, m, x_t, 300, steps, M) for M in (by_operator, plain)
            )
            torch.testing.assert_close(with_it, without, atol=1e-3, rtol=1e-3)


def test_dps_pushes_down_the_slope_of_each_pictures_own_residual(gaussian):
    """One step from T to clean, against the gradient worked out by hand for a linear denoiser."""
    # thirty steps leave so much of the picture at t = T that the slope is far from 0
    schedule = gaussian.schedule = emlib.linear_schedule(30)
    A, scale = TASKS["blur with noise 0.1"][0], 0.7
    m = emlib.measure(gaussian.draw(3), A, 0.1, seed=0)
    start = emlib.randn(emlib.streams(0, "x", range(3)), (1, 4, 4))
    x = last(emlib.dps(gaussian, schedule, m, emlib.streams(0, "x", range(3)), 1, scale)).flatten(1).double()
    mean, _ = gaussian.denoised(start, 29)
    a, s = gaussian.levels(29)
    # x0_hat = mean + J (x_t - a mean), J = a S (a^2 S + s^2 I)^-1
    J = a * gaussian.cov @ torch.linalg.inv(a**2 * gaussian.cov + s**2 * torch.eye(16, dtype=torch.float64))
    M, _ = matrix(A)
    r = m.y.flatten(1).double() - mean @ M.T
    slope = -(r / r.norm(dim=1, keepdim=True)) @ M @ J
    torch.testing.assert_close(x, mean - scale * slope, rtol=0, atol=1e-4)
    assert (slope.norm(dim=1) > 1e-2).all()


def test_without_guidance_dps_is_the_priors_own_sampler(net):
    schedule = emlib.linear_schedule(6)  # all its times, so that both walk the same grid
    m = emlib.measure(torch.zeros(2, 1, 8, 8), emlib.Identity(), 0.1, seed=0)
    free = last(emlib.sample(net, schedule, (1, 8, 8), emlib.streams(0, "x", range(2)), 6, eta=1.0))
    # the last step draws noise that counts for nothing
    bound = last(emlib.dps(net, schedule, m, emlib.streams(0, "x", range(2)), 6, scale=0.0))
    torch.testing.assert_close(bound, free, rtol=0, atol=1e-6)


def check_batches(sampler, model, schedule, A):
    m = emlib.measure(torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5, A, 0.1, 0, first=3)
    by_batch = {b: torch.cat(list(emlib.reconstruct(sampler, model, schedule, m, 0, "e", b))) for b in (1, 3, 7, 64)}
    for x in by_batch.values():
        torch.testing.assert_close(x, by_batch[3], rtol=0, atol=1e-5)
    # nor on the pictures beside it
    alone = torch.cat(list(emlib.reconstruct(sampler, model, schedule, m.select([5, 2]), 0, "e", 2)))
    torch.testing.assert_close(alone, by_batch[7][[5, 2]], rtol=0, atol=1e-5)
    assert by_batch[7].abs().max() <= 1


OPERATORS = [emlib.random_mask(7, 8, 0.6, 0), emlib.GaussianBlur(8, 8), emlib.Identity()]


@pytest.mark.parametrize("A", OPERATORS, ids=["mask", "blur", "noise"])
@pytest.mark.parametrize(
    "sampler", [partial(emlib.mmps, steps=5), partial(emlib.dps, steps=5, scale=0.5)], ids=["mmps", "dps"]
)
def test_a_reconstruction_does_not_depend_on_its_batch(net, schedule, A, sampler):
    check_batches(sampler, net, schedule, A)


@pytest.mark.parametrize(
    "sampler",
    [partial(emlib.mmps, steps=12, cg_steps=2), partial(emlib.dps, steps=12, scale=2.0)],
    ids=["mmps", "dps"],
)
def test_nor_with_the_network_of_the_book_where_rounding_is_magnified(schedule, sampler):
    """In batches that are not filled up the same pictures differ by 1e-4 (MMPS) to 0.1 (DPS)."""
    prior = emlib.load_unet(data_dir() / "checkpoints" / "fashion-mnist-clean.safetensors")
    m = emlib.make_task(emlib.preset("smoke")).measurements.select(range(5))
    by_batch = {b: torch.cat(list(emlib.reconstruct(sampler, prior, schedule, m, 0, "e", b))) for b in (1, 3, 64)}
    for x in by_batch.values():
        torch.testing.assert_close(x, by_batch[3], rtol=0, atol=1e-5)


def test_other_purposes_give_other_reconstructions(net, schedule):
    m = emlib.measure(torch.zeros(2, 1, 8, 8), emlib.random_mask(2, 8, 0.6, 0), 0.1, seed=0)
    first, again, second = (
        torch.cat(list(emlib.reconstruct(partial(emlib.mmps, steps=3), net, schedule, m, 0, purpose, 2)))
        for purpose in ("e-step 1", "e-step 1", "e-step 2")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("sampler", [partial(emlib.mmps, steps=4), partial(emlib.dps, steps=4, scale=1.0)])
def test_samplers_stop_on_the_grid_and_leave_no_graph_behind(net, schedule, sampler):
    m = emlib.measure(torch.zeros(2, 1, 8, 8), emlib.Identity(), 0.1, seed=0)
    stops = list(sampler(net, schedule, m, emlib.streams(0, "x", range(2))))
    assert [stop.t for stop in stops] == emlib.time_grid(schedule, 4, 1.5)[1:]
    assert not any(stop.x_t.requires_grad or stop.x0_hat.requires_grad for stop in stops)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        (partial(emlib.dps, steps=2, scale=-1.0), r"got -1\.0"),
        (partial(emlib.dps, steps=2, scale=float("nan")), "got nan"),
        (partial(emlib.dps, steps=0, scale=1.0), "steps=0"),
        (partial(emlib.dps, steps=2, scale=1.0, eta=2.0), r"eta=2\.0"),
        (partial(emlib.mmps, steps=2, cg_steps=0), "cg_steps=0"),
        (partial(emlib.mmps, steps=1001), "steps=1001"),
        (partial(emlib.mmps, steps=2, eta=-0.5), r"eta=-0\.5"),
    ],
)
def test_bad_values_stop_the_samplers(net, schedule, sampler, says):
    m = emlib.measure(torch.zeros(1, 1, 8, 8), emlib.Identity(), 0.1, seed=0)
    with pytest.raises(ValueError, match=says):
        next(sampler(net, schedule, m, emlib.streams(0, "x", [0])))

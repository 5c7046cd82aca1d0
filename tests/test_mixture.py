"""Gaussian mixtures in closed form, against scipy, numerical gradients and a grid."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

import emlib
from emlib.mixture import GaussianMixture, mixture_em, mixture_m_step

A_ONE = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)


@pytest.fixture
def mixture():
    """Three tilted Gaussians in the plane, well inside [-1, 1]."""
    root = torch.tensor([[[0.12, 0.0], [0.05, 0.06]], [[0.1, 0.0], [-0.07, 0.05]], [[0.08, 0.0], [0.0, 0.12]]])
    S = (root @ root.mT).double()
    means = torch.tensor([[0.4, 0.3], [-0.4, 0.3], [0.1, -0.5]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, S)


def density(mixture, x):
    """p(x) by scipy."""
    parts = zip(mixture.weights, mixture.means, mixture.covariances)
    return sum(w.item() * stats.multivariate_normal(m.numpy(), S.numpy()).pdf(x.numpy()) for w, m, S in parts)


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def some_masks(n, seed=0):
    """Matrices [n, 2, 2] that hide one coordinate or none."""
    choices = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return torch.diag_embed(choices[torch.randint(3, (n,), generator=g(seed))])


def test_log_prob_is_that_of_scipy(mixture):
    x = torch.randn(50, 2, generator=g(), dtype=torch.float64)
    np.testing.assert_allclose(mixture.log_prob(x).exp(), density(mixture, x), rtol=1e-10)


def test_draws_have_the_weights_means_and_covariances(mixture, surprise):
    x = mixture.sample(20_000, g())
    nearest = mixture.components(x).argmax(1)
    share = torch.bincount(nearest, minlength=3) / len(x)
    torch.testing.assert_close(share.double(), mixture.weights, rtol=0, atol=0.015)
    mean = mixture.weights @ mixture.means
    off = mixture.means - mean
    cov = torch.einsum("k,kde->de", mixture.weights, mixture.covariances + off[:, :, None] * off[:, None])
    z_mean, _, error = surprise(x, mean, cov)
    assert z_mean < 5
    assert error < 0.03
    # and each projection has the distribution that scipy integrates
    one = mixture.through(torch.tensor([[0.6, 0.8]]), 0.0)
    cdf = lambda v: sum(  # noqa: E731
        w.item() * stats.norm(m.item(), S.sqrt().item()).cdf(v)
        for w, m, S in zip(one.weights, one.means, one.covariances)
    )
    assert stats.kstest((x @ torch.tensor([0.6, 0.8], dtype=torch.float64)).numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("t", [0, 150, 500, 999])
def test_eps_is_the_slope_of_the_noised_log_density(mixture, schedule, t):
    """E[eps | x_t] = -sigma_t grad log p_t(x_t), with the gradient by central differences of scipy's density."""
    x = 0.5 * torch.randn(40, 2, generator=g(), dtype=torch.float64)
    a, s = schedule.alpha(t).item(), schedule.sigma(t).item()
    p_t = GaussianMixture(mixture.weights, a * mixture.means, a**2 * mixture.covariances + s**2 * torch.eye(2))
    x = x[torch.tensor(density(p_t, x)) > 1e-250]
    h = 1e-5
    slope = [
        (np.log(density(p_t, x + h * e)) - np.log(density(p_t, x - h * e))) / (2 * h)
        for e in torch.eye(2, dtype=torch.float64)
    ]
    found = mixture.eps(schedule)(x.view(-1, 1, 1, 2), torch.full((len(x),), t))
    np.testing.assert_allclose(found.flatten(1), -s * np.stack(slope, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixture.noised(schedule, t).log_prob(x), p_t.log_prob(x), rtol=1e-6, atol=1e-6)


def test_eps_takes_a_time_for_each_point_and_can_be_differentiated(mixture, schedule):
    eps = mixture.eps(schedule)
    x, t = torch.randn(3, 2, 1, 1, generator=g()), torch.tensor([5, 400, 900])
    alone = torch.cat([eps(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(eps(x, t), alone)
    assert alone.dtype == torch.float32
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: eps(v, t), x)


def test_one_component_is_the_gaussian_of_the_other_tests(gaussian, schedule):
    one = GaussianMixture(torch.ones(1), gaussian.mean[None], gaussian.cov[None])
    x, t = torch.randn(5, 1, 4, 4, generator=g()), torch.full((5,), 300)
    torch.testing.assert_close(one.eps(schedule)(x, t), gaussian(x, t), rtol=0, atol=1e-5)
    A = emlib.GaussianBlur(4, 4, 1.0, 3)(torch.eye(16).view(16, 1, 4, 4)).flatten(1).double().T
    y = torch.randn(3, 16, generator=g(), dtype=torch.float64)
    mean, cov = gaussian.given(A, y, 0.1)
    given = one.posterior(y, A, 0.1)
    torch.testing.assert_close(given.means[:, 0], mean)
    torch.testing.assert_close(given.covariances[:, 0], cov.expand(3, -1, -1))


@pytest.mark.parametrize("A", [A_ONE, torch.tensor([[0.6, 0.8]], dtype=torch.float64)], ids=["mask", "projection"])
def test_the_posterior_is_prior_times_likelihood_on_a_grid(mixture, A):
    noise, y = 0.1, (A @ torch.tensor([0.2, 0.12], dtype=torch.float64))
    axis = torch.linspace(-1.5, 1.5, 601, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    p = density(mixture, x) * np.exp(-((y - x @ A.T) ** 2).sum(1).numpy() / (2 * noise**2))
    p /= p.sum() * (axis[1] - axis[0]).item() ** 2
    found = mixture.posterior(y, A, noise)
    np.testing.assert_allclose(found.log_prob(x).exp(), p, rtol=1e-6, atol=1e-8 * p.max())
    assert found.weights.max() < 0.9  # a case with more than one mode


def test_evidence_and_posterior_obey_bayes_for_each_measurement(mixture):
    """log p(x) + log p(y | x) = log p(y) + log p(x | y) at any x, with one operator a measurement."""
    A, noise = some_masks(30), 0.1
    x = mixture.sample(30, g(1))
    y = (A @ mixture.sample(30, g(2)).unsqueeze(-1)).squeeze(-1)
    likelihood = stats.norm(0, noise).logpdf((y - (A @ x.unsqueeze(-1)).squeeze(-1)).numpy()).sum(1)
    left = mixture.log_prob(x).numpy() + likelihood
    right = mixture.through(A, noise).log_prob(y) + mixture.posterior(y, A, noise).log_prob(x)
    np.testing.assert_allclose(left, right, rtol=1e-9)


def test_exact_draws_given_measurements_have_the_prior_as_their_crowd(mixture):
    """x ~ p(x), y ~ p(y | x), x' ~ p(x | y): then x' ~ p(x) too."""
    x = mixture.sample(20_000, g(1))
    A = some_masks(len(x))
    y = (A @ (x + 0.1 * torch.randn(x.shape, generator=g(2), dtype=x.dtype)).unsqueeze(-1)).squeeze(-1)
    again = mixture.posterior(y, A, 0.1).sample(1, g(3))[0]
    for direction in torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]], dtype=torch.float64):
        assert stats.ks_2samp((again @ direction).numpy(), (x @ direction).numpy()).pvalue > 1e-3


def test_samplers_run_on_the_exact_noise_estimate(mixture, schedule, one_stream):
    n = 2000
    *_, last = emlib.sample(mixture.eps(schedule), schedule, (1, 1, 2), one_stream(n), 200)
    x = last.x_t.flatten(1).double()
    assert x.abs().max() < 1
    share = torch.bincount(mixture.components(x).argmax(1), minlength=3) / n
    torch.testing.assert_close(share.double(), mixture.weights, rtol=0, atol=0.05)
    m = emlib.Measurements(torch.zeros(16, 1, 1, 2), emlib.Identity(), 0.1, tuple(range(16)))
    for sampler in (partial(emlib.dps, scale=0.1), emlib.mmps, emlib.pigdm):
        x = next(emlib.reconstruct(partial(sampler, steps=5), mixture.eps(schedule), schedule, m, 0, "x", 16))
        assert x.isfinite().all()


def test_em_never_lets_the_likelihood_fall_and_finds_the_mixture(mixture):
    n, noise = 3000, 0.05
    A = some_masks(n)
    x = mixture.sample(n, g(1))
    y = (A @ (x + noise * torch.randn(x.shape, generator=g(2), dtype=x.dtype)).unsqueeze(-1)).squeeze(-1)
    start = GaussianMixture(torch.full((3,), 1 / 3), torch.tensor([[0.3, 0.0], [-0.3, 0.2], [0.0, -0.3]]).double(),
                            0.04 * torch.eye(2).double().expand(3, 2, 2))  # fmt: skip
    steps = list(mixture_em(start, y, A, noise, 60))
    L = [step.log_likelihood for step in steps]
    assert len(L) == 61
    assert all(b >= a - 1e-12 for a, b in zip(L, L[1:]))
    assert L[-1] > mixture.through(A, noise).log_prob(y).mean()  # the maximum is above the truth
    end = steps[-1].mixture
    torch.testing.assert_close(end.weights, mixture.weights, rtol=0, atol=0.05)
    torch.testing.assert_close(end.means, mixture.means, rtol=0, atol=0.05)
    torch.testing.assert_close(end.covariances, mixture.covariances, rtol=0, atol=0.01)


def test_em_on_seen_points_is_the_textbook_fit(mixture):
    """One iteration by hand: responsibilities, then weighted means and covariances, with numpy's."""
    x = mixture.sample(500, g(1))
    *_, step = mixture_em(mixture, x, torch.eye(2), 0.0, 1)
    r = np.exp((mixture.components(x) - mixture.log_prob(x)[:, None]).numpy())
    np.testing.assert_allclose(step.mixture.weights, r.mean(0), rtol=1e-8)
    for k in range(3):
        np.testing.assert_allclose(step.mixture.means[k], np.average(x, axis=0, weights=r[:, k]), rtol=1e-8)
        cov = np.cov(x.T, aweights=r[:, k], ddof=0)
        np.testing.assert_allclose(step.mixture.covariances[k], cov, rtol=1e-7, atol=1e-12)


def test_the_m_step_keeps_a_fixed_point(mixture):
    """Posteriors that are the mixture itself give the mixture back."""
    n = 7
    same = GaussianMixture(*(v.expand(n, *v.shape) for v in (mixture.weights, mixture.means, mixture.covariances)))
    again = mixture_m_step(same)
    torch.testing.assert_close(again.weights, mixture.weights)
    torch.testing.assert_close(again.means, mixture.means)
    torch.testing.assert_close(again.covariances, mixture.covariances)


def test_bad_values_are_refused(mixture):
    w, m, S = mixture.weights, mixture.means, mixture.covariances
    with pytest.raises(ValueError, match=r"\(3,\), \(2, 2\)"):
        GaussianMixture(w, m[:2], S)
    with pytest.raises(ValueError, match="sum to 1"):
        GaussianMixture(2 * w, m, S)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        mixture.through(torch.ones(2, 3), 0.1)
    with pytest.raises(ValueError, match=r"-0\.1"):
        mixture.posterior(torch.zeros(2), A_ONE, -0.1)

import numpy as np
import pytest
import scipy.stats
import torch

import emlib
from emlib.em.initial import GaussianPrior
from emlib.operators import conjugate_gradients


def test_the_gaussian_priors_answer_is_the_exact_one(gaussian, schedule):
    variance, basis = torch.linalg.eigh(gaussian.cov)
    prior = GaussianPrior(gaussian.mean.float(), basis.float(), variance.float(), schedule)
    x = emlib.add_noise(schedule, gaussian.draw(5), 300, torch.randn(5, 1, 4, 4))
    for t in (0, 300, 999):
        times = torch.full((5,), t)
        torch.testing.assert_close(prior(x, times), gaussian(x, times).float(), rtol=1e-3, atol=1e-3)


def test_a_gaussian_is_found_again_behind_masks_and_noise(gaussian, schedule):
    """2,000 pictures with half of their pixels hidden; the likelihood of new ones says how good the fit is."""
    m = emlib.measure(gaussian.draw(2000, seed=1), emlib.random_mask(2000, 4, 0.5, 0), 0.05, seed=0)
    fitted = emlib.fit_gaussian(m, schedule, iterations=30)
    cov = (fitted.basis * fitted.variance) @ fitted.basis.T
    assert (fitted.mean.double() - gaussian.mean).abs().max() < 0.04
    assert (
        (cov.double() - gaussian.cov).norm() / gaussian.cov.norm()
    ).item() < 0.3  # 500 pictures show both of two pixels
    new = gaussian.draw(1000, seed=2).flatten(1).numpy()
    truth = scipy.stats.multivariate_normal(gaussian.mean.numpy(), gaussian.cov.numpy())
    found = scipy.stats.multivariate_normal(fitted.mean.numpy(), cov.numpy() + 1e-6 * np.eye(16))
    seen = m.y.flatten(1)  # a naive fit that takes hidden pixels for grey ones
    naive = scipy.stats.multivariate_normal(seen.mean(0).numpy(), torch.cov(seen.T).numpy())
    lost = truth.logpdf(new).mean() - found.logpdf(new).mean()
    assert 0 < lost < 0.5
    assert truth.logpdf(new).mean() - naive.logpdf(new).mean() > 5 * lost


def test_more_iterations_fit_better(gaussian, schedule):
    m = emlib.measure(gaussian.draw(500, seed=1), emlib.random_mask(500, 4, 0.5, 0), 0.05, seed=0)

    def error(iterations):
        fitted = emlib.fit_gaussian(m, schedule, iterations=iterations)
        return ((fitted.basis * fitted.variance) @ fitted.basis.T - gaussian.cov).norm().item()

    assert error(20) < 0.5 * error(2)


def test_a_fit_does_not_depend_on_its_batches(gaussian, schedule):
    m = emlib.measure(gaussian.draw(50, seed=1), emlib.random_mask(50, 4, 0.5, 0), 0.05, seed=0)
    one, other = (emlib.fit_gaussian(m, schedule, iterations=3, batch=batch) for batch in (50, 7))
    torch.testing.assert_close(one.mean, other.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(one.variance, other.variance, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n", "iterations", "says"), [(1, 3, "got 1 and 3"), (3, 0, "got 3 and 0")])
def test_too_little_for_a_fit_is_refused(gaussian, schedule, n, iterations, says):
    m = emlib.measure(gaussian.draw(n), emlib.Identity(), 0.1, seed=0)
    with pytest.raises(ValueError, match=says):
        emlib.fit_gaussian(m, schedule, iterations)


def test_conjugate_gradients_solve_each_pictures_own_system():
    g = torch.Generator().manual_seed(0)
    M = torch.randn(3, 16, 16, generator=g)
    M = M @ M.mT / 16 + torch.eye(16)
    b = torch.randn(3, 1, 4, 4, generator=g)
    u = conjugate_gradients(lambda p: (M @ p.flatten(1)[..., None]).view_as(p), b, 16)
    torch.testing.assert_close(u.flatten(1), torch.linalg.solve(M, b.flatten(1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("operator", "noise_std"), [("noise", 0.2), ("blur", 0.0), ("blur", 0.05)])
def test_preprocessing_brings_noisy_and_blurred_pictures_nearer_to_the_truth(operator, noise_std):
    task = emlib.make_task(emlib.preset("smoke"), operator=operator, noise_std=noise_std)
    before = emlib.psnr(task.measurements.y, task.truth).mean()
    after = emlib.psnr(emlib.preprocessed(task.measurements), task.truth).mean()
    assert after > before + 0.5


def test_masked_pictures_are_left_as_they_are():
    task = emlib.make_task(emlib.preset("smoke"))
    assert torch.equal(emlib.preprocessed(task.measurements), task.measurements.y)

"""What several test files share: tiny networks and a prior whose every answer is known in closed form."""

import importlib
import os
from dataclasses import replace

import matplotlib
import pytest
import torch

import emlib
from emlib.runs import presets

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def same_start(tmp_path_factory):
    """What every test begins with, for fixtures that are made before: a seed, and nothing of the user's."""

    def begin(monkeypatch):
        torch.manual_seed(0)
        for name in ("EMLIB_PRESET", "EMLIB_DATA"):
            monkeypatch.delenv(name, raising=False)
        # nobody's own cache is read or written; processes that share the tests share one, as chapters do
        base = tmp_path_factory.getbasetemp()
        base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        monkeypatch.setenv("EMLIB_DATASETS", str(base / "datasets"))

    return begin


@pytest.fixture(autouse=True)
def _same_start_for_every_test(monkeypatch, same_start):
    same_start(monkeypatch)


@pytest.fixture
def schedule():
    return emlib.linear_schedule()


TINY = emlib.UNetConfig(channels=(8, 16), groups=4)


@pytest.fixture
def tiny():
    return TINY


def awake(model, seed=0):
    """Random weights everywhere: a fresh network answers zero, which would hide mistakes."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.3 if p.ndim == 1 else p[0].numel() ** -0.5))
    return model.eval()


@pytest.fixture
def net():
    """A tiny U-Net for 1 x 8 x 8 pictures that does not answer zero."""
    model = awake(emlib.build_unet(TINY, 0))
    with torch.no_grad():
        model.conv_out.weight.mul_(0.3)  # at t = 999 an error of eps counts 160 times, so it must not be wild
    return model


@pytest.fixture
def toy_preset(monkeypatch, tmp_path):
    """A preset of seconds, "toy", in an empty folder, without scores by AlexNet: four samples have no distance."""
    em = replace(presets.SMOKE.em, iterations=1, init_updates=2, m_updates=2, last_updates=0, train_batch=4)
    unet = emlib.UNetConfig(channels=(8, 16), groups=4)
    p = replace(presets.SMOKE, name="toy", em=em, samples=4, unet=unet, prior_updates=8, held_out=3, observations=6)
    monkeypatch.setitem(presets.PRESETS, "toy", p)
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    monkeypatch.chdir(tmp_path)
    return p


class Gaussian:
    """x_0 ~ N(mean, cov) on flattened pictures, with its exact eps(x_t, t); float64 inside closed forms."""

    def __init__(self, shape=(1, 4, 4), seed=0):
        g = torch.Generator().manual_seed(seed)
        self.shape, self.D = shape, torch.Size(shape).numel()
        self.mean = 0.2 * torch.rand(self.D, generator=g, dtype=torch.float64) - 0.1
        q, _ = torch.linalg.qr(torch.randn(self.D, self.D, generator=g, dtype=torch.float64))
        # Standard deviations of 0.06 to 0.26 in random directions: 1 is four of them away, so clipping never bites.
        self.cov = q @ torch.diag(torch.linspace(0.004, 0.07, self.D, dtype=torch.float64)) @ q.T
        self.schedule = emlib.linear_schedule()

    def levels(self, t):
        return self.schedule.alpha(t).double().item(), self.schedule.sigma(t).double().item()

    def eps(self, x, t):
        a, s = self.levels(int(t[0]))
        precision = torch.linalg.inv(a**2 * self.cov + s**2 * torch.eye(self.D, dtype=torch.float64))
        return s * ((x.flatten(1) - (a * self.mean).to(x)) @ precision.to(x)).view(x.shape)

    __call__ = eps

    def given(self, A, y, noise_std, mean=None, cov=None):
        """Mean [B, D] and covariance of x given y = A x + n, by the textbook formula; A is [M, D]."""
        mean = self.mean if mean is None else mean
        cov = self.cov if cov is None else cov
        gain = cov @ A.T @ torch.linalg.inv(A @ cov @ A.T + noise_std**2 * torch.eye(len(A), dtype=torch.float64))
        return mean + (y - mean @ A.T) @ gain.T, cov - gain @ A @ cov

    def denoised(self, x_t, t):
        """Mean and covariance of x_0 given x_t alone."""
        a, s = self.levels(t)
        return self.given(a * torch.eye(self.D, dtype=torch.float64), x_t.flatten(1).double(), s)

    def draw(self, n, seed=0):
        g = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.D, generator=g, dtype=torch.float64)
        x = self.mean + z @ torch.linalg.cholesky(self.cov).T
        return x.float().view(n, *self.shape)


@pytest.fixture
def gaussian():
    return Gaussian()


@pytest.fixture
def wake():
    return awake


def surprise(x, mean, cov):
    """How far samples [N, D] are from N(mean, cov): largest |z| of a mean and of a covariance, and relative
    Frobenius error. A z-score is the error over its standard deviation for N true samples; 5 is one in 10^6."""
    x, n = x.flatten(1).double(), len(x)
    found = torch.cov(x.T)
    var = cov.diagonal()
    z_mean = ((x.mean(0) - mean) / (var / n).sqrt()).abs().max().item()
    z_cov = ((found - cov) / ((var[:, None] * var + cov**2) / n).sqrt()).abs().max().item()
    return z_mean, z_cov, ((found - cov).norm() / cov.norm()).item()


@pytest.fixture(name="surprise")
def _surprise():
    return surprise


@pytest.fixture
def one_stream(monkeypatch):
    """Draws all pictures' numbers in one call, as 4,000 streams in 1,000 steps would take a minute."""
    for module in (
        emlib.diffusion,
        importlib.import_module("emlib.posterior.dps"),
        importlib.import_module("emlib.posterior.mmps"),
    ):
        monkeypatch.setattr(
            module, "randn", lambda gs, shape, device="cpu": torch.randn(len(gs), *shape, generator=gs[0])
        )
    return lambda n, seed=0: [torch.Generator().manual_seed(seed)] * n

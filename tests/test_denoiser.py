"""Our networks inside other people's samplers, as they are: DeepInverse's and diffusers'."""

import deepinv
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

import emlib
from emlib.data.datasets import data_dir
from emlib.hub.denoiser import Denoiser, denoised

SCHEDULE = emlib.linear_schedule()


class Gaussian(torch.nn.Module):
    """eps of pixels from N(0.3, 0.2^2), exactly."""

    def forward(self, x_t, t):
        a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        mean, var = 0.3, 0.2**2
        x0_hat = mean + a * var / (a**2 * var + s**2) * (x_t - a * mean)
        return (x_t - a * x0_hat) / s


def levels(*times):
    t = torch.tensor(times)
    return (SCHEDULE.sigma(t) / SCHEDULE.alpha(t)).flatten()


@pytest.fixture(scope="module")
def prior():
    return emlib.load_unet(data_dir() / "checkpoints" / "fashion-mnist-clean.safetensors").requires_grad_(False)


def test_a_gaussians_pixels_are_denoised_as_the_formula_has_it():
    x, sigma = torch.randn(4, 2, 8, 8), levels(5, 120, 480, 900)
    s2 = sigma.view(-1, 1, 1, 1) ** 2
    expected = (0.3 * s2 + 0.2**2 * x) / (s2 + 0.2**2)
    torch.testing.assert_close(denoised(Gaussian(), SCHEDULE, x, sigma), expected, rtol=1e-4, atol=1e-5)
    # the same on [0, 1]
    found = Denoiser(Gaussian(), SCHEDULE)((x + 1) / 2, sigma / 2)
    torch.testing.assert_close(found, (expected + 1) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 1, 1, 1)])
def test_noise_levels_come_in_any_shape(shape, prior):
    x = torch.randn(3, 1, 28, 28)
    sigma = levels(300).expand(3).reshape(shape) if len(shape) and shape[0] == 3 else levels(300).reshape(shape)
    torch.testing.assert_close(
        denoised(prior, SCHEDULE, x, sigma), denoised(prior, SCHEDULE, x, float(levels(300))), rtol=0, atol=0
    )


def test_double_precision_stays_double(prior):
    assert denoised(prior, SCHEDULE, torch.zeros(1, 1, 28, 28, dtype=torch.float64), 0.5).dtype == torch.float64


@pytest.mark.parametrize(
    ("sigma", "said"),
    [(torch.ones(2), "3 pictures take 1 or 3 noise levels, got 2"), (-1.0, "0 or more, got -1"), (float("nan"), "nan")],
)
def test_a_level_that_will_not_do_is_named(sigma, said, prior):
    with pytest.raises(ValueError, match=said):
        denoised(prior, SCHEDULE, torch.zeros(3, 1, 28, 28), sigma)


WAYS = {
    "DDRM": lambda model: deepinv.sampling.DDRM(model, sigmas=torch.linspace(1, 0, 20).numpy()),
    "DPS": lambda model: deepinv.sampling.DPS(model, num_steps=30, weight=10, rng=torch.Generator()),
}


@pytest.mark.parametrize(("way", "gain"), [("DDRM", 9), ("DPS", 5)])
def test_deepinvs_samplers_run_on_our_prior(way, gain, prior):
    truth = (emlib.load("embedded").held_out[:4] + 1) / 2
    mask = (torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)) > 0.6).float()
    physics = deepinv.physics.Inpainting((1, 28, 28), mask=mask)
    found = WAYS[way](Denoiser(prior, SCHEDULE))(physics(truth), physics, seed=1)
    before, after = (emlib.psnr(2 * x.float().clamp(0, 1) - 1, 2 * truth - 1).mean() for x in (physics(truth), found))
    assert after > before + gain


def test_diffusers_pipeline_draws_from_a_prior_that_we_saved(tmp_path):
    cfg = emlib.UNetConfig(channels=(8, 16), groups=4, patch=1, in_channels=3)
    ours = emlib.build_unet(cfg, 0)
    with torch.no_grad():
        ours.conv_out.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    emlib.save_pretrained(ours, tmp_path / "prior", {"size": "16"})
    theirs = UNet2DModel.from_pretrained(tmp_path / "prior")
    pipeline = DDPMPipeline(theirs, DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(0)
    pictures = pipeline(batch_size=2, generator=g, num_inference_steps=4, output_type="np").images
    assert pictures.shape == (2, 16, 16, 3)
    # and step for step what our own sampler does, without noise
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(4)
    x = x_t = torch.randn(2, 3, 16, 16, generator=g)
    times = [int(t) for t in scheduler.timesteps]
    with torch.no_grad():
        for t, s in zip(times, [*times[1:], -1], strict=True):
            x = scheduler.step(theirs(x, t).sample, t, x).prev_sample
            at = torch.full((2,), t)
            x0_hat = emlib.predict_x0(ours(x_t, at), SCHEDULE, x_t, at)
            x_t = emlib.reverse_step(SCHEDULE, x_t, x0_hat, t, s, 0.0, torch.zeros_like(x_t))
    torch.testing.assert_close(x_t, x, rtol=1e-3, atol=1e-3)

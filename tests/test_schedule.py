import pytest
import torch
from diffusers import DDPMScheduler

import emlib

DDPM = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")


def test_noise_levels_are_those_of_diffusers(schedule):
    torch.testing.assert_close(schedule.beta, DDPM.betas, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.alpha_bar, DDPM.alphas_cumprod, rtol=0, atol=1e-6)


def test_alpha_and_sigma_are_the_roots_of_the_two_shares_of_variance(schedule):
    t = torch.arange(1000)
    torch.testing.assert_close(schedule.alpha(t).flatten(), DDPM.alphas_cumprod.sqrt(), rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.sigma(t).flatten(), (1 - DDPM.alphas_cumprod).sqrt(), rtol=0, atol=3e-6)
    assert schedule.alpha(t).shape == (1000, 1, 1, 1)


def test_add_noise_is_that_of_diffusers(schedule):
    x0, eps = torch.rand(5, 3, 4, 4) * 2 - 1, torch.randn(5, 3, 4, 4)
    t = torch.tensor([0, 1, 250, 998, 999])
    torch.testing.assert_close(emlib.add_noise(schedule, x0, t, eps), DDPM.add_noise(x0, eps, t), rtol=0, atol=1e-5)


def test_time_minus_one_is_the_clean_picture_also_in_a_batch_of_times(schedule):
    x0, eps = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    assert torch.equal(emlib.add_noise(schedule, x0, -1, eps), x0)
    mixed = emlib.add_noise(schedule, x0, torch.tensor([-1, 999]), eps)
    assert torch.equal(mixed[0], x0[0])
    torch.testing.assert_close(mixed[1], DDPM.add_noise(x0, eps, torch.tensor([0, 999]))[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 7, 25, 999, 1000])
def test_the_grid_falls_from_the_last_time_to_the_first_in_even_steps_and_ends_clean(schedule, steps):
    grid = emlib.time_grid(schedule, steps)
    assert (len(grid), grid[0], grid[-1]) == (steps + 1, 999, -1)
    gaps = [a - b for a, b in zip(grid[:-2], grid[1:-1], strict=True)]
    assert steps == 1 or grid[-2] == 0
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


def test_the_even_grid_is_that_of_diffusers(schedule):
    ddpm = DDPMScheduler(num_train_timesteps=1000, timestep_spacing="linspace")
    for steps in (2, 10, 37, 1000):
        ddpm.set_timesteps(steps)
        assert emlib.time_grid(schedule, steps)[:-1] == ddpm.timesteps.tolist()


@pytest.mark.parametrize("power", [1.0, 1.5, 3.0])
def test_the_full_grid_visits_every_time_whatever_the_power(schedule, power):
    assert emlib.time_grid(schedule, 1000, power) == list(range(999, -2, -1))


@pytest.mark.parametrize("steps", [1, 2, 12, 500, 990])
def test_a_power_crowds_the_times_towards_zero_without_visiting_one_twice(schedule, steps):
    grid = emlib.time_grid(schedule, steps, 1.5)
    gaps = [a - b for a, b in zip(grid[:-1], grid[1:], strict=True)]
    assert (len(grid), grid[0], grid[-1]) == (steps + 1, 999, -1)
    assert min(gaps) >= 1
    assert all(b <= a + 1 for a, b in zip(gaps[:-2], gaps[1:-1], strict=True)), "gaps shrink, up to rounding"


@pytest.mark.parametrize("power", [0.5, -1.0, float("nan")])
def test_a_power_below_one_is_refused(schedule, power):
    with pytest.raises(ValueError, match=f"power={power}$"):
        emlib.time_grid(schedule, 10, power)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_steps_out_of_range_are_refused(schedule, steps):
    with pytest.raises(ValueError, match=f"1 to 1000 .*steps={steps}$"):
        emlib.time_grid(schedule, steps)


def test_a_schedule_of_one_step_is_refused():
    with pytest.raises(ValueError, match="T=1$"):
        emlib.linear_schedule(1)


@pytest.mark.parametrize("betas", [(0.0, 0.02), (0.02, 0.01), (1e-4, 1.0), (-0.1, 0.02), (float("nan"), 0.02)])
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(ValueError, match=f"got {betas[0]} and {betas[1]}"):
        emlib.linear_schedule(10, *betas)


@pytest.mark.parametrize("t", [-2, 1000])
def test_times_out_of_range_are_refused(schedule, t):
    with pytest.raises(ValueError, match=rf"-1\.\.999, got \[{t}\]"):
        schedule.alpha(t)
    with pytest.raises(ValueError, match=rf"-1\.\.999, got \[3, {t}\]"):
        schedule.sigma(torch.tensor([3, t]))

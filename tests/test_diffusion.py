import copy
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

import emlib
from emlib.training import update_ema

LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def last(steps):
    *_, final = steps
    return final


def pictures(n, size=8, seed=0):
    """Smooth grey blobs on [-1, 1]."""
    at = torch.rand(n, 2, 1, 1, generator=torch.Generator().manual_seed(seed)) * size
    row, column = torch.arange(size).view(1, size, 1), torch.arange(size).view(1, 1, size)
    distance = (row - at[:, 0]) ** 2 + (column - at[:, 1]) ** 2
    return (2 * torch.exp(-distance / 6) - 1)[:, None]


def test_tweedie_undoes_add_noise_when_the_noise_is_known(schedule):
    x0, eps = torch.rand(4, 1, 8, 8) * 2 - 1, torch.randn(4, 1, 8, 8)
    t = torch.tensor([-1, 0, 300, 700])
    x_t = emlib.add_noise(schedule, x0, t, eps)
    torch.testing.assert_close(emlib.predict_x0(eps, schedule, x_t, t), x0, rtol=0, atol=1e-5)


def test_tweedie_is_the_posterior_mean_of_a_gaussian(gaussian, schedule):
    x0 = gaussian.draw(5)
    for t in (0, 200, 999):
        x_t = emlib.add_noise(schedule, x0, t, torch.randn(x0.shape))
        mean, _ = gaussian.denoised(x_t, t)
        found = emlib.predict_x0(gaussian(x_t, torch.tensor([t])), schedule, x_t, t)
        torch.testing.assert_close(found.flatten(1).double(), mean, rtol=0, atol=2e-4)  # 160 roundings at t = 999


def test_the_loss_is_the_mean_squared_error_of_the_noise(schedule):
    x0, eps, t = torch.rand(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([0, 10, 900])
    seen = []

    def half_right(x_t, times):
        seen.append((x_t, times))
        return eps / 2

    loss = emlib.diffusion_loss(half_right, schedule, x0, t, eps)
    torch.testing.assert_close(loss, (eps / 2).square().mean())
    expected = DDPMScheduler(**LINEAR).add_noise(x0, eps, t)
    torch.testing.assert_close(seen[0][0], expected, rtol=0, atol=1e-5)
    assert torch.equal(seen[0][1], t)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("steps", "t", "s"), [(1000, 500, 499), (10, 999, 899), (10, 500, 400), (10, 50, -1)])
def test_a_step_is_the_ddim_step_of_diffusers(schedule, eta, steps, t, s):
    ddim = DDIMScheduler(**LINEAR, clip_sample=False)
    ddim.set_timesteps(steps)
    x_t, eps, z = torch.randn(3, 2, 1, 4, 4)
    theirs = ddim.step(eps, t, x_t, eta=eta, variance_noise=z).prev_sample
    ours = emlib.reverse_step(schedule, x_t, emlib.predict_x0(eps, schedule, x_t, t), t, s, eta, z)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("t", [999, 500, 1, 0])
def test_an_ancestral_step_is_the_ddpm_step_of_diffusers(schedule, t):
    ddpm = DDPMScheduler(**LINEAR, clip_sample=False, variance_type="fixed_small")
    x_t, eps = torch.randn(2, 2, 1, 4, 4)
    z = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    theirs = ddpm.step(eps, t, x_t, generator=torch.Generator().manual_seed(1)).prev_sample
    ours = emlib.reverse_step(schedule, x_t, emlib.predict_x0(eps, schedule, x_t, t), t, t - 1, 1.0, z)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_average_is_a_weighted_sum(tiny, wake):
    old, new = wake(emlib.build_unet(tiny, 0), 1), wake(emlib.build_unet(tiny, 0), 2)
    expected = [0.9 * a + 0.1 * b for a, b in zip(old.parameters(), new.parameters())]
    kept = copy.deepcopy(new.state_dict())
    update_ema(old, new, 0.9)
    for p, q in zip(old.parameters(), expected):
        torch.testing.assert_close(p, q)
    assert all(torch.equal(v, kept[k]) for k, v in new.state_dict().items())


def test_training_averages_its_weights_with_a_decay_that_warms_up(tiny, schedule):
    model = emlib.build_unet(tiny, 0)
    mean = model.conv_in.weight.detach().clone()
    for n, now in enumerate(emlib.train(model, schedule, pictures(8), 6, 4, 1e-2, seed=0, ema_decay=0.3)):
        d = min(0.3, (1 + n) / (10 + n))  # 0.1, 0.18, 0.25, then 0.3
        mean = d * mean + (1 - d) * model.conv_in.weight.detach()
        torch.testing.assert_close(now.ema.conv_in.weight, mean)
    assert not torch.equal(mean, model.conv_in.weight)


def test_training_lowers_the_loss(tiny, schedule):
    losses = [now.loss for now in emlib.train(emlib.build_unet(tiny, 0), schedule, pictures(16), 120, 32, 3e-3, seed=0)]
    assert sum(losses[:5]) / 5 > 0.8  # a fresh network knows nothing of the noise, whose variance is 1
    assert sum(losses[-20:]) / 20 < 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_half_of_the_pictures_are_mirrored_where_asked_and_none_where_not(tiny, schedule, flip):
    picture = pictures(1, seed=2)
    trained_on = []

    def loss(model, schedule, x0, t, eps):
        trained_on.append(x0)
        return emlib.diffusion_loss(model, schedule, x0, t, eps)

    for _ in emlib.train(emlib.build_unet(tiny, 0), schedule, picture, 2, 200, 1e-3, seed=0, flip=flip, loss=loss):
        pass
    seen = torch.cat(trained_on)
    mirrored = (seen == picture.flip(-1)).all((1, 2, 3))
    assert (mirrored | (seen == picture).all((1, 2, 3))).all()
    assert abs(mirrored.sum().item() - (200 if flip else 0)) <= (50 if flip else 0)  # 5 standard deviations


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_seed_gives_the_same_network_even_if_the_caller_draws_numbers_meanwhile(tiny, schedule, dropout):
    def weights(seed, draw):
        model = emlib.build_unet(replace(tiny, dropout=dropout), 0)
        for now in emlib.train(model, schedule, pictures(8), 4, 4, 1e-2, seed, flip=True):
            if draw:
                torch.rand(5)
        return now.ema.conv_in.weight

    assert torch.equal(weights(3, False), weights(3, True))
    assert not torch.equal(weights(3, False), weights(4, False))


def test_training_leaves_the_callers_random_numbers_alone(tiny, schedule):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for _ in emlib.train(emlib.build_unet(tiny, 0), schedule, pictures(8), 2, 4, 1e-2, seed=1):
        break
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 0}, "got 0, 4 and 0.01"),
        ({"batch": 0}, "got 2, 0 and 0.01"),
        ({"lr": -1.0}, r"got 2, 4 and -1\.0"),
        ({"lr": float("nan")}, "nan"),
        ({"ema_decay": 1.5}, r"1\.5"),
        ({"images": torch.zeros(0, 1, 8, 8)}, r"\(0, 1, 8, 8\)"),
        ({"images": torch.zeros(8, 8)}, r"\(8, 8\)"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "uint8"),
        ({"images": torch.full((2, 1, 8, 8), 255.0)}, r"\[255, 255\].*x / 127\.5 - 1"),
        ({"images": torch.full((2, 1, 8, 8), float("nan"))}, "NaN"),
    ],
)
def test_bad_values_stop_the_training_before_it_starts(tiny, schedule, change, says):
    settings = {"images": pictures(4), "steps": 2, "batch": 4, "lr": 0.01, "seed": 0, **change}
    with pytest.raises(ValueError, match=says):
        next(emlib.train(emlib.build_unet(tiny, 0), schedule, **settings))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_follow_the_prior_that_the_denoiser_belongs_to(gaussian, schedule, one_stream, surprise, eta):
    x = last(emlib.sample(gaussian, schedule, gaussian.shape, one_stream(4000), 1000, eta)).x_t
    z_mean, z_cov, error = surprise(x, gaussian.mean, gaussian.cov)
    assert z_mean < 5
    assert z_cov < 5
    assert error < 0.1  # 4,000 true samples give about 0.05


def test_sampling_stops_on_the_grid_and_ends_at_its_own_estimate(net, schedule):
    stops = list(emlib.sample(net, schedule, (1, 8, 8), emlib.streams(0, "s", range(2)), 5))
    assert [stop.t for stop in stops] == emlib.time_grid(schedule, 5)[1:]
    torch.testing.assert_close(stops[-1].x_t, stops[-1].x0_hat, rtol=0, atol=1e-6)
    assert stops[-1].x_t.abs().max() <= 1


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_does_not_depend_on_its_batch(net, schedule, eta):
    def draw(batch):
        parts = [emlib.streams(0, "s", range(i, min(i + batch, 7))) for i in range(0, 7, batch)]
        return torch.cat([last(emlib.sample(net, schedule, (1, 8, 8), part, 6, eta)).x_t for part in parts])

    together = draw(7)
    torch.testing.assert_close(draw(1), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(draw(3), together, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_streams_are_keyed_by_seed_purpose_and_index():
    def first(*key):
        return torch.rand(1, generator=emlib.streams(*key)[0]).item()

    keys = [(0, "mask", [0]), (1, "mask", [0]), (0, "noise", [0]), (0, "mask", [1]), (0, "mask", [11])]
    assert len({first(*key) for key in keys}) == len(keys)
    assert first(0, "mask", [5]) == torch.rand(1, generator=emlib.streams(0, "mask", range(9))[5]).item()


@pytest.mark.parametrize(("steps", "eta", "says"), [(0, 0.0, "steps=0"), (2, -0.1, "eta=-0.1"), (2, 1.5, "eta=1.5")])
def test_bad_values_stop_the_sampler(net, schedule, steps, eta, says):
    with pytest.raises(ValueError, match=says):
        next(emlib.sample(net, schedule, (1, 8, 8), emlib.streams(0, "s", [0]), steps, eta))


def test_adamw_in_one_kernel_resumes_to_the_same_bits_and_trains_the_same(tiny, schedule, monkeypatch):
    """On a GPU it is fused; here the CPU's own fused kernel takes its place. It goes astray without an error where the
    moments of a snapshot lie in memory otherwise than the weights."""
    real, asked = torch.optim.AdamW, []

    def fused(parameters, fused=None, **words):
        asked.append(fused)
        return real(parameters, fused=True, **words)

    def trained(start=None, stop=6):
        loop = emlib.train(emlib.build_unet(tiny, 0), schedule, pictures(8), 6, 4, 1e-2, seed=0, start=start)
        for now in loop:
            if now.step + 1 == stop:
                return now
        raise AssertionError("the training ended early")

    plain = trained()
    monkeypatch.setattr(torch.optim, "AdamW", fused)
    whole, resumed = trained(), trained(trained(stop=3).snapshot())
    assert set(asked) == {None}, "not fused on a CPU of itself"
    for a, b, c in zip(plain.ema.parameters(), whole.ema.parameters(), resumed.ema.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        assert torch.equal(b, c)

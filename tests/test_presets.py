from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import emlib
from emlib.em.settings import rows_of
from emlib.planning import cost
from emlib.runs import task
from emlib.runs.presets import PRESETS

SMOKE = PRESETS["smoke"]


def test_the_environment_picks_a_preset_and_a_name_overrules_it(monkeypatch):
    assert emlib.preset().name == "pocket"
    monkeypatch.setenv("EMLIB_PRESET", "smoke")
    assert emlib.preset().name == "smoke"
    assert emlib.preset("colab").name == "colab"
    monkeypatch.setenv("EMLIB_PRESET", "")
    assert emlib.preset().name == "pocket"


def test_an_unknown_preset_is_named_beside_the_known_ones(monkeypatch):
    with pytest.raises(
        ValueError, match="unknown preset 'pockets'; there are smoke, pocket, pocket-color, faces, colab"
    ):
        emlib.preset("pockets")
    monkeypatch.setenv("EMLIB_PRESET", "huge")
    with pytest.raises(ValueError, match="'huge'.*EMLIB_PRESET"):
        emlib.preset()


@pytest.mark.parametrize("p", PRESETS.values(), ids=PRESETS)
def test_the_sizes_of_a_preset_fit_each_other(p):
    side, channels = {"embedded": (28, 1), "cifar10": (32, 3), "celeba": (64, 3), "faces": (64, 1)}[p.data]
    assert p.size == side
    assert p.unet.in_channels == channels
    assert side % p.unet.stride == 0
    assert p.clean <= 500
    assert p.held_out <= 1000
    assert p.samples > 256  # features of FD-AlexNet
    assert max(p.e_steps, p.dps_steps, p.sample_steps) <= emlib.linear_schedule().T
    with torch.device("meta"):
        model = emlib.UNet(p.unet)
        assert model(torch.zeros(2, channels, side, side), torch.zeros(2).long()).shape == (2, channels, side, side)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("pocket", 1.0, 2.0),
        ("pocket-color", 1.0, 2.0),
        ("colab", 7.0, 13.0),
        ("paper", 35.7, 35.75),
        ("paper-fast", 35.7, 35.75),
        ("paper-celeba", 113.6, 113.7),
    ],
)
def test_the_networks_have_the_size_the_design_gives(name, low, high):
    with torch.device("meta"):
        count = sum(p.numel() for p in emlib.UNet(PRESETS[name].unet).parameters())
    assert low <= count / 1e6 <= high


def hours(p, device, sampler="mmps", **words):
    """Of an EM run by the command line, one iteration of each stage at a time."""
    stages = cost.plan(p, cost.sustained(device), sampler, **words)
    return sum(s.times * s.seconds for s in stages if s.name != cost.CLEAN_PRIOR) / 3600


def test_paper_has_the_papers_numbers():
    p, phases = PRESETS["paper"], PRESETS["paper"].em.phases
    first, again = (len(rows_of(p.observations, p.em, phase)) for phase in (1, 2))
    assert (first, again) == (5_000, 48_500)
    assert (p.clean, p.dps_steps, p.em.iterations, phases.reset_iterations) == (50, 1000, 6, 3)
    for updates, pictures in ((p.em.init_updates, first), (p.em.m_updates, first), (phases.reset_updates, again)):
        assert updates == round(1000 * pictures / p.em.train_batch)  # 1,000 epochs
    assert p.prior_updates == p.em.init_updates + 6 * p.em.m_updates + 3 * phases.reset_updates


def test_paper_fast_costs_a_tenth_of_the_paper():
    paper, fast = PRESETS["paper"], PRESETS["paper-fast"]
    assert hours(fast, "H100-bf16") <= 0.1 * hours(paper, "H100-bf16", "dps")
    with_ceiling = [cost.total(cost.plan(p, 1e14, sampler)).flops for p, sampler in ((fast, "mmps"), (paper, "dps"))]
    assert with_ceiling[0] <= 0.1 * with_ceiling[1]
    assert fast.unet == paper.unet
    assert (fast.clean, fast.observations) == (paper.clean, paper.observations)


def test_colab_runs_chapters_8_and_11_within_an_hour_on_a_t4():
    """By the cost model: chapter 8's own evaluations beyond EM are its ceilings, two looks at the held-out pictures
    beside EM's, and an error on withheld pixels for each prior. Chapter 11 rehearses at another preset's size."""
    p, rate, half = PRESETS["colab"], cost.sustained("T4"), cost.sustained("T4-fp16")
    assert p.em.sampling.precision == "float16"
    assert p.em.speed.precision == "float32"
    em = hours(p, "T4", sampling_rate=half)
    one, published = (cost.network_cost(cfg, 32) for cfg in (p.unet, PRESETS["paper"].unet))

    def of(network, sampler):
        steps, gradients = emlib.posterior.SAMPLERS[sampler].cost(p)
        return steps * network.forward + steps * gradients * network.gradient

    # the published clean prior, in half precision: all measurements, some by DPS with its search, the held-out ones,
    # and a crowd
    ceilings = of(published, "mmps") * (p.observations + p.held_out) + of(published, "dps") * (256 + 32 * cost.CALLS)
    ceilings += p.samples * p.sample_steps * published.forward
    # EM's priors in float32: held-out pictures with two of them, withheld pixels with each
    looks = of(one, "mmps") * (2 * p.held_out + 64 * 2 * (p.em.iterations + 1))
    # their crowds, counted in float16 above, are in float32 here
    crowds = (p.em.iterations + 1) * p.samples * p.sample_steps * one.forward
    beyond = (ceilings / half + (looks + crowds) / rate) / 3600
    assert em + beyond < 1, (em, beyond)


def test_photographs_are_mirrored_at_the_papers_scale_and_clothes_are_not():
    assert PRESETS["colab"].em.flip
    assert PRESETS["paper"].em.flip
    assert not any(p.em.flip for p in PRESETS.values() if p.data == "embedded")


def rows(x):
    return {picture.numpy().tobytes() for picture in x}


def test_the_parts_of_a_task_are_disjoint_and_of_the_presets_size():
    task = emlib.make_task(SMOKE)
    sizes = (len(task.clean), len(task.measurements), len(task.held_out))
    assert sizes == (SMOKE.clean, SMOKE.observations, SMOKE.held_out)
    parts = [rows(part) for part in (task.clean, task.truth, task.held_out_truth)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == sum(sizes)
    assert torch.equal(task.real[: len(task.truth)], task.truth)
    assert not rows(task.real) & (parts[0] | parts[2])


def test_training_and_held_out_measurements_share_no_random_stream():
    task = emlib.make_task(SMOKE, noise_std=0.1)
    pocket = emlib.make_task(PRESETS["pocket"], noise_std=0.1)
    for a in (task, pocket):
        indices = [*a.measurements.index, *a.held_out.index]
        assert len(set(indices)) == len(indices)
        assert not set(a.held_out.index) & set(range(len(a.real)))
    masks = [*rows(task.measurements.operator.mask), *rows(task.held_out.operator.mask)]
    assert len(set(masks)) == len(masks)
    assert pocket.held_out.index[: len(task.held_out)] == task.held_out.index  # a larger preset draws the same


@pytest.mark.parametrize(("operator", "noise_std"), [("mask", 0.0), ("mask", 0.1), ("blur", 0.1), ("noise", 0.2)])
def test_measurements_belong_to_their_truth(operator, noise_std):
    task = emlib.make_task(SMOKE, operator, noise_std=noise_std)
    for m, truth in ((task.measurements, task.truth), (task.held_out, task.held_out_truth)):
        error = (m.y - m.operator(truth))[m.y != 0]
        assert abs(error.std().item() - noise_std) < 5 * noise_std / (2 * len(error)) ** 0.5 + 1e-9
    assert task.about["operator"] == operator
    assert ("fraction" in task.about) == (operator == "mask")
    assert task.about["noise_std"] == noise_std
    assert len(task.about["fingerprint"]) == 16


def test_masks_hide_the_fraction_that_was_asked_for():
    task = emlib.make_task(SMOKE, "mask", fraction=0.75)
    hidden = (task.measurements.operator.mask == 0).sum((1, 2, 3))
    assert (hidden == 0.75 * 28 * 28).all()


def test_a_task_is_the_same_each_time_and_its_seed_changes_masks_but_not_pictures():
    a, b, c = (emlib.make_task(SMOKE, noise_std=0.1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a.measurements.y, b.measurements.y)
    assert torch.equal(a.truth, c.truth)
    assert not torch.equal(a.measurements.operator.mask, c.measurements.operator.mask)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"operator": "noise"}, r"noise task without noise .*set noise_std"),
        ({"operator": "haze"}, "unknown operator 'haze'"),
        ({"fraction": 0}, r"\(0, 1\), got 0;"),
        ({"fraction": 60}, r"\(0, 1\), got 60;"),
        ({"fraction": -0.1}, r"got -0\.1"),
        ({"noise_std": -0.2}, r"got -0\.2"),
        ({"noise_std": float("nan")}, "got nan"),
    ],
)
def test_bad_values_are_refused_before_any_picture_is_read(monkeypatch, given, says):
    monkeypatch.setattr(task, "load", lambda *_, **__: pytest.fail("pictures were read"))
    with pytest.raises(ValueError, match=says):
        emlib.make_task(SMOKE, **given)


def test_data_that_do_not_fit_the_network_are_refused():
    with pytest.raises(ValueError, match=r"1 channel\(s\) of 28 x 28 pixels, but the network of preset colab takes 3"):
        emlib.make_task(PRESETS["colab"], data="embedded")
    odd = replace(SMOKE, unet=replace(SMOKE.unet, channels=(16, 32, 32), attention=(False,) * 3))
    with pytest.raises(ValueError, match="28 x 28 pixels, .* multiples of 8"):
        emlib.make_task(odd)
    with pytest.raises(ValueError, match="unknown data 'nowhere'"):
        emlib.make_task(SMOKE, data="nowhere")


def test_a_folder_too_small_for_the_preset_is_refused_with_both_numbers(tmp_path):
    for i in range(20):
        Image.fromarray(np.full((32, 32), i, np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="smoke needs 20 clean pictures, but folder .* has 2; take a smaller preset"):
        emlib.make_task(SMOKE, data=str(tmp_path))


def test_a_folder_of_ones_own_pictures_makes_a_task(tmp_path):
    for i in range(40):
        Image.fromarray(np.full((30, 40, 3), 6 * i, np.uint8)).save(tmp_path / f"{i}.png")
    task = emlib.make_task(replace(SMOKE, clean=4, observations=32, held_out=4), data=str(tmp_path))
    assert task.measurements.y.shape == (32, 1, 28, 28)
    task = emlib.make_task(replace(SMOKE, size=64, clean=4, observations=32, held_out=4), data=str(tmp_path))
    assert task.measurements.y.shape == (32, 1, 64, 64)

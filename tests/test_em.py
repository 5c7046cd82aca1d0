import inspect
import json
from dataclasses import replace
from functools import partial

import pytest
import torch

import emlib
from emlib.em import watch

SETTINGS = emlib.EMSettings(
    iterations=3, init_updates=3, m_updates=4, train_batch=4, init_lr=1e-2, m_lr=1e-2, ema_decay=0.5, e_batch=2, seed=1
)


def images(n, seed=0, channels=1):
    return torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


MEASUREMENTS = emlib.measure(images(5), emlib.random_mask(5, 8, 0.6, 0), 0.1, seed=0)


def mmps_step(prior, k):
    return partial(emlib.mmps, steps=3)


def em(tiny, schedule, folder=None, measurements=MEASUREMENTS, clean=None, e_step=mmps_step, about=None, **change):
    clean = images(4, 9) if clean is None else clean
    return emlib.run_em(
        measurements, clean, tiny, schedule, e_step, replace(SETTINGS, **change), folder=folder, about=about
    )


def finished(loop):
    return [event for event in loop if isinstance(event, emlib.Iteration)]


def check_equal(a, b):
    """Bit by bit: reconstructions and weights of every iteration."""
    assert [x.iteration for x in a] == [x.iteration for x in b]
    for x, y in zip(a, b):
        assert torch.equal(x.reconstructions, y.reconstructions)
        theirs = y.prior.state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in x.prior.state_dict().items())


def test_progress_and_iterations_come_in_order(tiny, schedule):
    seen = []
    for event in em(tiny, schedule, iterations=2):
        if isinstance(event, emlib.Iteration):
            seen.append((event.iteration, "done"))
            assert event.reconstructions.shape == ((5 if event.iteration else 0), 1, 8, 8)
            assert event.seconds > 0
        else:
            seen.append((event.iteration, event.stage, event.done, event.total))
            assert (event.loss > 0) == (event.stage != "E-step")
    expected = [(0, "first prior", i, 3) for i in (1, 2, 3)] + [(0, "done")]
    for k in (1, 2):
        expected += [(k, "E-step", i, 5) for i in (0, 2, 4, 5)]
        expected += [(k, "M-step", i, 4) for i in (1, 2, 3, 4)] + [(k, "done")]
    assert seen == expected


def test_each_e_step_draws_with_the_prior_of_the_iteration_before(tiny, schedule):
    loop = finished(em(tiny, schedule, iterations=2))
    for before, now in zip(loop[:-1], loop[1:]):
        purpose = f"e-step {now.iteration}"
        by_hand = emlib.reconstruct(partial(emlib.mmps, steps=3), before.prior, schedule, MEASUREMENTS, 1, purpose, 5)
        torch.testing.assert_close(now.reconstructions, torch.cat(list(by_hand)), rtol=0, atol=1e-4)


def test_the_e_step_is_asked_anew_in_each_iteration_with_the_prior_at_hand(tiny, schedule):
    asked = []

    def e_step(prior, k):
        asked.append((k, prior.conv_in.weight.clone()))
        return partial(emlib.dps, steps=3, scale=1.0)

    loop = finished(em(tiny, schedule, e_step=e_step, iterations=2))
    assert [k for k, _ in asked] == [1, 2]
    assert all(torch.equal(weight, done.prior.conv_in.weight) for (_, weight), done in zip(asked, loop))


def test_the_first_prior_is_plain_training_on_the_clean_pictures(tiny, schedule):
    first = finished(em(tiny, schedule, iterations=0))[0].prior
    for now in emlib.train(emlib.build_unet(tiny, 1), schedule, images(4, 9), 3, 4, 1e-2, 1000, 0.5):
        pass
    assert torch.equal(first.conv_in.weight, now.ema.conv_in.weight)


def test_no_two_trainings_of_a_run_nor_of_neighbouring_seeds_draw_the_same_numbers(tiny, schedule, monkeypatch):
    seeds = []

    def train(model, schedule, images, updates, batch, lr, seed, ema_decay):
        seeds.append(seed)
        return emlib.train(model, schedule, images, updates, batch, lr, seed, ema_decay)

    monkeypatch.setattr("emlib.em.train", train)
    for seed in (1, 2):
        finished(em(tiny, schedule, seed=seed))
    assert len(set(seeds)) == len(seeds) == 8


def test_a_seed_gives_the_same_run(tiny, schedule):
    once, again = finished(em(tiny, schedule)), finished(em(tiny, schedule))
    check_equal(once, again)
    other = finished(em(tiny, schedule, seed=2))
    assert not torch.equal(once[-1].reconstructions, other[-1].reconstructions)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stop", [(0, "first prior", 2), (1, "M-step", 3), (2, "E-step", 2), (2, "M-step", 2)])
def test_a_stopped_run_goes_on_to_the_same_bits(tiny, schedule, tmp_path, stop, dropout):
    unet = replace(tiny, dropout=dropout)
    whole = finished(em(unet, schedule))
    for event in em(unet, schedule, tmp_path / "run"):
        if isinstance(event, emlib.Progress) and (event.iteration, event.stage, event.done) == stop:
            break
    else:
        pytest.fail("the run was not stopped")
    check_equal(finished(em(unet, schedule, tmp_path / "run")), whole)
    assert not list(tmp_path.rglob("*.part"))


def test_a_finished_run_is_read_not_repeated(tiny, schedule, tmp_path):
    whole = finished(em(tiny, schedule, tmp_path))
    events = list(em(tiny, schedule, tmp_path))
    assert all(isinstance(event, emlib.Iteration) for event in events)
    check_equal(events, whole)


def test_a_run_may_be_made_longer(tiny, schedule, tmp_path):
    finished(em(tiny, schedule, tmp_path, iterations=1))
    check_equal(finished(em(tiny, schedule, tmp_path)), finished(em(tiny, schedule)))


def test_a_folder_changes_nothing(tiny, schedule, tmp_path):
    check_equal(finished(em(tiny, schedule, tmp_path)), finished(em(tiny, schedule)))


@pytest.mark.parametrize(
    ("change", "there", "here"),
    [
        ({"m_updates": 5}, "'m_updates': 4", "'m_updates': 5"),
        ({"seed": 7}, "'seed': 1", "'seed': 7"),
        ({"about": {"sampler": "dps"}}, "'sampler': None", "'sampler': 'dps'"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused_naming_both(tiny, schedule, tmp_path, change, there, here):
    finished(em(tiny, schedule, tmp_path, iterations=0))
    before = (tmp_path / "settings.json").read_text()
    with pytest.raises(ValueError, match="name another folder or delete it") as refusal:
        next(em(tiny, schedule, tmp_path, **change))
    assert there in str(refusal.value)
    assert here in str(refusal.value)
    assert (tmp_path / "settings.json").read_text() == before


def other_inputs():
    mask, x = MEASUREMENTS.operator, images(5)
    return {
        "another network": {"tiny": emlib.UNetConfig(channels=(8, 8), groups=4)},
        "other noise": {"measurements": emlib.measure(x, mask, 0.2, seed=0)},
        "other masks": {"measurements": emlib.measure(x, emlib.random_mask(5, 8, 0.6, 1), 0.1, seed=0)},
        "fewer pictures": {"measurements": MEASUREMENTS.select([0, 1])},
        "another order": {"measurements": MEASUREMENTS.select([4, 3, 2, 1, 0])},
        "other clean pictures": {"clean": images(4, 3)},
        "another schedule": {"schedule": emlib.linear_schedule(1000, 1e-4, 0.01)},
    }


@pytest.mark.parametrize("other", other_inputs())
def test_other_inputs_in_the_same_folder_are_refused(tiny, schedule, tmp_path, other):
    given = {"tiny": tiny, "schedule": schedule}
    finished(em(**given, folder=tmp_path, iterations=0))
    with pytest.raises(ValueError, match="name another folder or delete it"):
        next(em(**{**given, **other_inputs()[other]}, folder=tmp_path))


def test_every_stage_leaves_a_whole_file(tiny, schedule, tmp_path):
    loop = finished(em(tiny, schedule, tmp_path, iterations=2))
    names = sorted(p.name for p in tmp_path.iterdir())
    stages = ["prior_00", "prior_01", "prior_02", "reconstructions_01", "reconstructions_02"]
    assert names == [f"{stage}.safetensors" for stage in stages] + ["settings.json"]
    assert torch.equal(emlib.load_unet(tmp_path / "prior_02.safetensors").conv_in.weight, loop[2].prior.conv_in.weight)
    assert json.loads((tmp_path / "settings.json").read_text())["m_updates"] == 4


def test_em_has_no_way_to_see_the_truth():
    wanted = ["measurements", "clean", "unet", "schedule", "e_step", "settings", "folder", "about"]
    assert list(inspect.signature(emlib.run_em).parameters) == wanted
    assert set(emlib.Measurements.__dataclass_fields__) == {"y", "operator", "noise_std", "index"}


def test_the_result_depends_on_hidden_pixels_in_no_way(tiny, schedule):
    """Two sets of originals that differ only where the masks hide them give the same run."""
    mask = MEASUREMENTS.operator
    changed = torch.where(mask.mask.bool(), images(5), -images(5))
    other = emlib.measure(changed, mask, 0.1, seed=0)
    check_equal(finished(em(tiny, schedule, iterations=1)), finished(em(tiny, schedule, None, other, iterations=1)))


def test_measurements_and_clean_pictures_of_other_colours_are_refused(tiny, schedule):
    with pytest.raises(ValueError, match="measurements have 1 channels and the clean pictures 3"):
        next(em(tiny, schedule, clean=images(4, 9, channels=3)))


def test_clean_pictures_off_the_scale_are_refused_before_anything_is_written(tiny, schedule, tmp_path):
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        next(em(tiny, schedule, tmp_path / "run", clean=images(4) * 255))
    assert not (tmp_path / "run").exists()


def test_watching_passes_on_the_iterations_alone(tiny, schedule, capsys):
    assert [done.iteration for done in watch(em(tiny, schedule, iterations=1))] == [0, 1]
    assert "EM 1 M-step" in capsys.readouterr().err

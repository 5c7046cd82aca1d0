import inspect
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import emlib
from emlib.cli.main import parser
from emlib.em import loop
from emlib.em.events import ENOUGH
from emlib.em.settings import over
from emlib.runs import presets
from emlib.runs.job import job_of
from emlib.runs.progress import watch
from emlib.runtime.files import unsealed
from emlib.runtime.tensors import load_tensors

RECONSTRUCTIONS = ["reconstructions_01.npy", "reconstructions_02.npy"]
SETTINGS = emlib.EMSettings(
    iterations=3,
    init_updates=3,
    m_updates=4,
    train_batch=4,
    init_lr=1e-2,
    m_lr=1e-2,
    ema_decay=0.5,
    e_batch=2,
    shard=4,
    snapshot=2,
    seed=1,
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


def test_flips_reach_every_training_and_no_e_step(tiny, schedule):
    plain, flipped = (finished(em(tiny, schedule, iterations=1, flip=flip)) for flip in (False, True))
    for k, images_, updates in ((0, images(4, 9), 3), (1, flipped[1].reconstructions, 4)):
        model = emlib.build_unet(tiny, 1)
        if k:
            model.load_state_dict(flipped[0].prior.state_dict())
        for now in emlib.train(model, schedule, images_, updates, 4, 1e-2, 1000 + k, 0.5, flip=True):
            pass
        assert torch.equal(flipped[k].prior.conv_in.weight, now.ema.conv_in.weight)
        assert not torch.equal(flipped[k].prior.conv_in.weight, plain[k].prior.conv_in.weight)
    by_hand = emlib.reconstruct(mmps_step(None, 1), flipped[0].prior, schedule, MEASUREMENTS, 1, "e-step 1", 5)
    torch.testing.assert_close(flipped[1].reconstructions, torch.cat(list(by_hand)), rtol=0, atol=1e-4)


def test_a_folder_of_a_run_before_there_were_flips_is_gone_on_with(tiny, schedule, tmp_path):
    finished(em(tiny, schedule, tmp_path, iterations=1))
    file = tmp_path / "settings.json"
    before = unsealed(json.loads(file.read_text()))
    assert before.pop("flip") is False
    file.write_text(json.dumps(before))
    with pytest.raises(ValueError, match="'flip': False.* but this one has .*'flip': True"):
        next(em(tiny, schedule, tmp_path, flip=True))
    assert json.loads(file.read_text()) == before
    check_equal(finished(em(tiny, schedule, tmp_path)), finished(em(tiny, schedule)))
    assert json.loads(file.read_text())["flip"] is False


def test_no_two_trainings_of_a_run_nor_of_neighbouring_seeds_draw_the_same_numbers(tiny, schedule, monkeypatch):
    seeds = []

    def train(model, schedule, images, updates, batch, lr, seed, *more, **named):
        seeds.append(seed)
        return emlib.train(model, schedule, images, updates, batch, lr, seed, *more, **named)

    monkeypatch.setattr("emlib.em.loop.train", train)
    for seed in (1, 2):
        finished(em(tiny, schedule, seed=seed))
    assert len(set(seeds)) == len(seeds) == 8


def test_a_seed_gives_the_same_run(tiny, schedule):
    once, again = finished(em(tiny, schedule)), finished(em(tiny, schedule))
    check_equal(once, again)
    other = finished(em(tiny, schedule, seed=2))
    assert not torch.equal(once[-1].reconstructions, other[-1].reconstructions)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    "stop", [(0, "first prior", 2), (1, "M-step", 3), (2, "E-step", 2), (2, "E-step", 4), (2, "M-step", 2)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(tiny, schedule, tmp_path, stop, dropout):
    unet = replace(tiny, dropout=dropout)
    whole = finished(em(unet, schedule))
    for event in em(unet, schedule, tmp_path / "run"):
        if isinstance(event, emlib.Progress) and (event.iteration, event.stage, event.done) == stop:
            break
    else:
        pytest.fail("the run was not stopped")
    check_equal(finished(em(unet, schedule, tmp_path / "run")), whole)
    left = sorted(file.name for file in (tmp_path / "run").rglob("*"))
    assert not [name for name in left if name.endswith(".part") or name.startswith(("shards", "training"))]


def test_a_finished_run_is_read_not_repeated(tiny, schedule, tmp_path):
    whole = finished(em(tiny, schedule, tmp_path))
    events = list(em(tiny, schedule, tmp_path))
    assert all(isinstance(event, emlib.Iteration) for event in events)
    check_equal(events, whole)


def test_finished_shards_and_updates_are_not_done_again(tiny, schedule, tmp_path):
    stopped = em(tiny, schedule, tmp_path)  # held, so that it looks as after kill -9
    for event in stopped:
        if isinstance(event, emlib.Progress) and (event.iteration, event.stage, event.done) == (1, "M-step", 3):
            break
    assert (tmp_path / "training_01.safetensors").is_file()
    again = em(tiny, schedule, tmp_path)
    first = next(event for event in again if isinstance(event, emlib.Progress))
    # the snapshot after two updates is gone on from
    assert (first.iteration, first.stage, first.done) == (1, "M-step", 3)
    again.close()  # a caller who stops properly loses nothing
    first = next(event for event in em(tiny, schedule, tmp_path) if isinstance(event, emlib.Progress))
    assert (first.iteration, first.stage, first.done) == (1, "M-step", 4)

    for event in em(tiny, schedule, tmp_path / "e"):
        # the first picture of the second shard: the first shard's four are on disk
        if isinstance(event, emlib.Progress) and (event.iteration, event.stage, event.done) == (1, "E-step", 4):
            break
    kept = tmp_path / "e" / "shards_01" / "00000.safetensors"
    before = kept.stat().st_mtime_ns
    loop = em(tiny, schedule, tmp_path / "e")
    events = [next(loop) for _ in range(3)][1:]
    assert [(event.stage, event.done) for event in events] == [("E-step", 4), ("E-step", 5)]
    assert not kept.exists() or kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"e_batch": 5}, {"snapshot": 1}])
def test_what_changes_no_picture_may_change_from_one_call_to_the_next(tiny, schedule, tmp_path, change):
    finished(em(tiny, schedule, tmp_path, iterations=1))
    check_equal(finished(em(tiny, schedule, tmp_path, **change)), finished(em(tiny, schedule)))


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
    priors = [f"prior_{k:02d}.safetensors" for k in range(3)]
    assert names == ["e_step_01.json", "e_step_02.json", *priors, *RECONSTRUCTIONS, "settings.json"]
    for step, name in zip(loop[1:], RECONSTRUCTIONS, strict=True):
        assert np.array_equal(np.load(tmp_path / name, allow_pickle=False), step.reconstructions.numpy())
    assert torch.equal(emlib.load_unet(tmp_path / "prior_02.safetensors").conv_in.weight, loop[2].prior.conv_in.weight)
    assert json.loads((tmp_path / "settings.json").read_text())["m_updates"] == 4


def test_em_has_no_way_to_see_the_truth():
    wanted = ["measurements", "start", "unet", "schedule", "e_step", "settings", "folder", "about"]
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


def by_scales(*scales):
    """An E-step whose guidance scale follows a list."""
    return lambda prior, k: partial(emlib.dps, steps=2, scale=scales[min(k, len(scales)) - 1])


PHASES = emlib.Phases(subset=0.4, reset_iterations=2, reset_updates=5)


def test_phase_two_takes_all_observations_and_fresh_weights(tiny, schedule, tmp_path):
    loop = finished(em(tiny, schedule, tmp_path, iterations=2, phases=PHASES))
    assert [(step.iteration, step.phase) for step in loop] == [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)]
    assert [len(step.reconstructions) for step in loop] == [0, 2, 2, 5, 5]
    assert loop[1].rows == loop[2].rows
    assert loop[3].rows == tuple(range(5))
    # an M-step of phase 2 is plain training from fresh weights on that iteration's reconstructions
    fresh = emlib.build_unet(tiny, 1003)
    for now in emlib.train(fresh, schedule, loop[3].reconstructions, 5, 4, 1e-2, 1003, 0.5):
        pass
    assert torch.equal(now.ema.conv_in.weight, loop[3].prior.conv_in.weight)
    check_equal(finished(em(tiny, schedule, tmp_path, iterations=2, phases=PHASES)), loop)


def test_the_scale_switches_the_phase_and_is_remembered(tiny, schedule, tmp_path):
    """Phase 1 may take five iterations, but lambda falls below the paper's 1 (0.063 a picture) in the second."""
    e_step, settings = by_scales(1.0, 0.05, 0.5), {"iterations": 5, "phases": PHASES}
    loop = finished(em(tiny, schedule, tmp_path, e_step=e_step, **settings))
    assert [(step.phase, step.scale) for step in loop] == [(0, None), (1, 1.0), (1, 0.05), (2, 0.5), (2, 0.5)]
    again = finished(em(tiny, schedule, tmp_path, e_step=e_step, **settings))
    assert [(step.phase, step.scale) for step in again] == [(step.phase, step.scale) for step in loop]


@pytest.mark.parametrize(
    ("scales", "ends"),
    [
        ([4, 2, 1, 1, 1], False),  # not decreased for two iterations
        ([4, 2, 1, 1, 1, 1], False),  # three
        ([4, 2, 1, 1, 1, 1, 1], True),  # four: more than three
        ([4, 2, 1, 1, 1, 0.5, 0.5], False),  # a decrease starts the count anew
        ([4, 5, 6, 7, 8], True),
        ([4, 0.064], False),
        ([4, 0.062], True),
        ([None] * 9, False),  # MMPS has no scale
        ([None] * 10, True),  # the most iterations
    ],
)
def test_when_phase_one_is_over(scales, ends):
    assert over(scales, 10, PHASES) == ends


def test_without_a_second_phase_lambda_ends_nothing():
    assert not over([4, 0.01, 4, 4, 4, 4, 4, 4], 10, emlib.Phases())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subset": 0.0}, r"subset=0\.0"),
        ({"subset": 1.5}, r"subset=1\.5"),
        ({"reset_iterations": 2}, "got 2 and 0"),
        ({"reset_updates": 2}, "got 0 and 2"),
    ],
)
def test_phases_that_make_no_sense_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        emlib.Phases(**change)


def test_em_may_start_from_a_prior_that_is_no_network(tiny, schedule, gaussian, tmp_path):
    m = emlib.measure(gaussian.draw(6), emlib.random_mask(6, 4, 0.6, 0), 0.1, seed=0)
    settings = replace(SETTINGS, iterations=2)
    loop = finished(emlib.run_em(m, gaussian, tiny, schedule, mmps_step, settings, tmp_path))
    assert loop[0].prior is gaussian
    assert isinstance(loop[1].prior, emlib.UNet)
    by_hand = emlib.reconstruct(partial(emlib.mmps, steps=3), gaussian, schedule, m, 1, "e-step 1", 6)
    torch.testing.assert_close(loop[1].reconstructions, torch.cat(list(by_hand)), rtol=0, atol=1e-6)
    check_equal(finished(emlib.run_em(m, gaussian, tiny, schedule, mmps_step, settings, tmp_path))[1:], loop[1:])
    with pytest.raises(ValueError, match="name another folder or delete it"):
        next(emlib.run_em(m, lambda x, t: x, tiny, schedule, mmps_step, settings, tmp_path))


def test_a_search_starts_from_the_last_scale_also_when_the_run_resumes(tiny, schedule, tmp_path):
    class Search:
        last = None

        def __init__(self):
            self.starts = []

        def __call__(self, prior, k):
            self.starts.append((k, self.last))
            return partial(emlib.dps, steps=2, scale=float(k))

    whole = Search()
    finished(em(tiny, schedule, e_step=whole))
    assert whole.starts == [(1, None), (2, 1.0), (3, 2.0)]
    finished(em(tiny, schedule, tmp_path, e_step=Search(), iterations=2))
    again = Search()
    finished(em(tiny, schedule, tmp_path, e_step=again))
    assert again.starts == [(3, 2.0)]
    # whoever draws held-out pictures afterwards searches from the last scale, whatever was read and not drawn
    (tmp_path / "prior_03.safetensors").unlink()
    late = Search()
    finished(em(tiny, schedule, tmp_path, e_step=late))
    assert late.starts == []
    assert whole.last == again.last == late.last == 3.0


def test_clean_pictures_of_another_size_cannot_stay_in_m_steps(tiny, schedule):
    with pytest.raises(ValueError, match="clean pictures of 16 x 16 pixels cannot stay .* of 8 x 8; make them as"):
        em(tiny, schedule, clean=torch.zeros(2, 1, 16, 16), clean_copies=1)


def test_an_e_step_that_draws_no_numbers_stops_the_run_and_keeps_nothing_of_it(tiny, schedule, tmp_path):
    def broken(model, schedule, m, generators):
        for step in emlib.mmps(model, schedule, m, generators, 2):
            yield replace(step, x_t=step.x_t * float("nan"))

    with pytest.raises(ValueError, match="E-step 1 drew pictures that are no numbers .* in float32"):
        finished(em(tiny, schedule, tmp_path, e_step=lambda prior, k: broken))
    assert not list(tmp_path.glob("reconstructions*")) + list(tmp_path.glob("shards*/*"))
    assert len(finished(em(tiny, schedule, tmp_path))) == 4  # the same folder goes on from the first prior


def fits(monkeypatch):
    """What every training is given: updates, pictures and optimiser."""
    given, real = [], loop.train

    def watched(model, schedule, pictures, updates, *how, **more):
        given.append((updates, pictures, more["optimizer"]))
        return real(model, schedule, pictures, updates, *how, **more)

    monkeypatch.setattr(loop, "train", watched)
    return given


def test_the_last_m_step_may_be_longer(tiny, schedule, monkeypatch, tmp_path):
    given = fits(monkeypatch)
    finished(em(tiny, schedule, tmp_path, last_updates=7, optimizer="muon"))
    assert [(updates, name) for updates, _, name in given] == [(n, "muon") for n in (3, 4, 4, 7)]
    with pytest.raises(ValueError, match=r"'iterations': 3.*'iterations': 4"):  # its third M-step would be another
        em(tiny, schedule, tmp_path, last_updates=7, optimizer="muon", iterations=4)
    with pytest.raises(ValueError, match="runs of one phase.*last_updates=7 and reset_iterations=2"):
        replace(SETTINGS, last_updates=7, phases=emlib.Phases(reset_iterations=2, reset_updates=3))


def test_clean_pictures_may_be_among_those_of_every_m_step(tiny, schedule, monkeypatch):
    given, clean = fits(monkeypatch), images(4, 9)
    iterations = finished(em(tiny, schedule, clean=clean, clean_copies=2, iterations=2))
    (_, first, _), *steps = given
    assert torch.equal(first, clean)
    for (_, pictures, _), iteration in zip(steps, iterations[1:], strict=True):
        assert torch.equal(pictures, torch.cat([iteration.reconstructions, clean, clean]))
    given.clear()
    start = finished(em(tiny, schedule, iterations=1))[0].prior  # a prior is no picture
    finished(em(tiny, schedule, clean=start, clean_copies=2, iterations=1))
    assert len(given[-1][1]) == len(MEASUREMENTS)


def test_what_em_starts_from_is_copied_only_where_it_is_clean(toy_preset, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "toy", replace(toy_preset, em=replace(toy_preset.em, clean_copies=3)))
    for words, copies in (([], 3), (["--start", "gaussian"], 0), (["--start", "preprocessed"], 0)):
        job = job_of(parser().parse_args(["em", "--preset", "toy", *words]))
        assert job.settings.clean_copies == copies


def test_muon_runs_resume_to_the_same_bits(tiny, schedule, tmp_path):
    whole = finished(em(tiny, schedule, optimizer="muon"))
    stopped = em(tiny, schedule, tmp_path, optimizer="muon")
    for event in stopped:
        if isinstance(event, emlib.Progress) and (event.iteration, event.stage, event.done) == (2, "M-step", 3):
            break
    stopped.close()
    check_equal(whole, finished(em(tiny, schedule, tmp_path, optimizer="muon")))


def test_training_that_is_told_enough_ends_with_what_it_has_learnt(tiny, schedule, tmp_path):
    run, said, found = em(tiny, schedule, tmp_path / "short", iterations=1), None, []
    while True:
        try:
            event = run.send(said)
        except StopIteration:
            break
        said = ENOUGH if isinstance(event, emlib.Progress) and event.stage == "M-step" and event.done == 3 else None
        found += finished([event])
    assert [step.updates for step in found] == [None, 3]
    # the average of a training of four updates after three
    stopped = em(tiny, schedule, tmp_path / "stopped", iterations=1)
    next(event for event in stopped if getattr(event, "stage", "") == "M-step" and event.done == 3)
    stopped.close()
    half, _ = load_tensors(tmp_path / "stopped" / "training_01.safetensors")
    assert all(torch.equal(w, half[f"ema.{name}"]) for name, w in found[-1].prior.state_dict().items())
    again = finished(em(tiny, schedule, tmp_path / "short", iterations=1))  # it is complete
    check_equal(again, found)
    assert [step.updates for step in again] == [None, 3]


def test_training_that_diverged_is_no_prior_however_it_ends(tiny, schedule, tmp_path, monkeypatch):
    run = em(tiny, schedule, tmp_path, iterations=1)
    next(event for event in run if getattr(event, "stage", "") == "M-step" and event.done == 3)
    monkeypatch.setattr(emlib.TrainStep, "finite", False)
    with pytest.raises(ValueError, match="training has diverged"):
        run.send(ENOUGH)
    assert not (tmp_path / "prior_01.safetensors").exists()

"""EM within minutes: the plan's arithmetic, and a run that is stopped by the clock and goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import emlib
from emlib.cli import em as command
from emlib.cli.main import main
from emlib.planning import budgets
from emlib.planning.budgets import BUDGETS, CARDS, Budget, Speeds, counted, timed_here
from emlib.planning.minutes import FEWEST, LAST, SLACK, plan_minutes
from emlib.planning.plan import PASSES
from emlib.runs.presets import preset

COLAB = preset("colab")


def steady(update=0.02, picture=1e-3, call=1e-5, feature=0.0):
    return lambda budget: Speeds(update, picture, call, feature)


@pytest.mark.parametrize("length", [3.0, 9.0, 60.0, 600.0])
def test_a_plan_fills_the_time_and_no_more(length):
    plan = plan_minutes(COLAB, length, 48_500, steady())
    spent = sum(plan.seconds.values())
    assert 0.9 * 60 * length * (1 - SLACK) < spent <= 60 * length * (1 - SLACK)
    p = plan.sizes(COLAB)
    assert p.em.iterations == plan.row.iterations
    updates = [p.em.init_updates, *(p.em.updates_of(k) for k in range(1, p.em.iterations + 1))]
    assert updates[-1] == pytest.approx(LAST * sum(updates), rel=0.02)
    assert sum(updates) * 0.02 + p.em.iterations * p.observations * 1e-3 <= spent
    seen = p.em.clean_copies / (p.observations + p.em.clean_copies * p.clean)  # of a clean picture, an update's share
    passes = seen * plan.last * plan.row.batch
    assert passes <= 1.2 * PASSES or p.em.clean_copies == 1, "few pictures are soon known by heart"
    assert passes > 0.8 * PASSES or p.em.clean_copies * p.clean == pytest.approx(0.1 * p.observations, rel=0.5)
    assert p.unet.in_channels == 3


def test_more_time_brings_a_larger_network_and_more_pictures():
    plans = [plan_minutes(COLAB, length, 48_500, steady(0.05)) for length in (1, 10, 60, 600)]
    names = [plan.budget for plan in plans]
    assert names == ["small", "medium", "large", "large"]
    seen = [plan.observations for plan in plans]
    assert seen == sorted(seen)
    assert seen[-1] == 48_500, "no more than there are"


def test_networks_that_do_not_fit_the_pictures_are_passed_over():
    grey = preset("pocket")  # 28 pixels, which cannot be halved three times
    assert plan_minutes(grey, 10_000, 8_500, steady()).budget == "medium"
    with pytest.raises(ValueError, match="pictures of 27 pixels fit no network"):
        plan_minutes(replace(grey, size=27), 10, 8_500, steady())


def test_samples_give_way_where_drawing_them_would_take_the_time():
    many, few, none = (
        plan_minutes(COLAB, 5, 48_500, steady(feature=f, call=c)).samples
        for f, c in [(0.0, 1e-5), (0.0, 2e-3), (1.0, 1e-5)]
    )
    assert (many, none) == (COLAB.samples, 0)
    assert 0 < few < many


def test_no_samples_are_drawn_that_nobody_could_score():
    """A distance of 256 features wants more samples than that, and as many real pictures beside as many more."""
    short = plan_minutes(COLAB, 6, 48_500, steady(feature=1e-3, call=0.008))
    few = plan_minutes(COLAB, 30, 500, steady())
    assert (short.samples, few.samples) == (0, 0)
    assert sum(short.seconds.values()) > 0.9 * 360 * (1 - SLACK), "their time goes to the rest"


def test_too_few_minutes_are_refused_with_how_many_it_takes():
    with pytest.raises(ValueError, match="0.1 minutes are too few for EM on this device; it takes about") as caught:
        plan_minutes(COLAB, 0.1, 48_500, steady(0.5, 0.01))
    need = float(str(caught.value).split("about ")[1].split()[0])
    assert plan_minutes(COLAB, 1.2 * need, 48_500, steady(0.5, 0.01))
    with pytest.raises(ValueError, match="--minutes takes a number above 0, got -1"):
        plan_minutes(COLAB, -1, 48_500, steady())


def test_the_time_that_is_gone_counts():
    whole, late = (plan_minutes(COLAB, 9, 48_500, steady(), spent) for spent in (0.0, 200.0))
    assert sum(whole.seconds.values()) - sum(late.seconds.values()) == pytest.approx(200, abs=5)


def test_faster_cards_get_on_further():
    found = [plan_minutes(COLAB, 30, 48_500, counted(COLAB, name)) for name in ("T4", "A100", "H100")]
    work = [plan.row.batch * (plan.first + plan.last) for plan in found]
    assert work == sorted(work)
    assert set(CARDS) == {"T4", "A100", "H100"}


def test_the_model_of_a_card_is_near_what_the_card_it_was_fitted_to_took():
    """Updates that were timed on an H200, in seconds (bfloat16, not compiled)."""
    budgets.CARDS["H200"] = replace(CARDS["H100"], memory=4.8e12)
    try:
        timed = counted(COLAB, "H200")
        for row, seconds in zip(BUDGETS[:2], (0.088, 0.0226), strict=True):
            assert 0.5 < timed(row).update / seconds < 2
    finally:
        del budgets.CARDS["H200"]


def test_a_processor_is_timed_where_that_is_quick_and_reckoned_where_not(monkeypatch):
    monkeypatch.setattr(budgets, "sustained", lambda device: 1e10)
    asked = []
    monkeypatch.setattr(budgets, "train", lambda *words, **more: asked.append(words) or emlib.train(*words, **more))
    p = replace(preset("pocket"), size=8)
    tiny = Budget("tiny", emlib.UNetConfig(channels=(8, 16), groups=4), 8, 1e-3, 0, 2, 4)
    found = timed_here(p, "cpu")(tiny)
    assert len(asked) == 1
    assert min(found.update, found.picture, found.call) > 0
    slow = timed_here(p, "cpu")(replace(tiny, batch=10**6))
    assert len(asked) == 1
    assert slow.update > budgets.LONG


@pytest.fixture
def quick_machine(toy_preset, monkeypatch):
    """The toy preset, whose smallest network is tiny; nothing is timed, a clock is the test's own."""
    tiny = Budget("small", emlib.UNetConfig(channels=(8, 16), groups=4), 4, 1e-3, 0, 2, 3)
    monkeypatch.setattr(budgets, "BUDGETS", (tiny,))
    monkeypatch.setattr(command, "timed_here", lambda p, device: steady(0.05, 0.01, 1e-6))
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: 0.0)
    return toy_preset


WORDS = ["em", "--preset", "toy", "--minutes", "0.1", "--folder", "run"]


def test_a_run_is_planned_recorded_and_goes_on_with_its_plan(quick_machine, monkeypatch, capsys):
    assert main(WORDS) == 0
    said = capsys.readouterr().out
    assert "0.1 minutes: small network" in said
    record = json.loads(Path("run/result.json").read_text())
    assert record["settings"]["plan"]["budget"] == "small"
    assert record["settings"]["observations"] == record["settings"]["plan"]["observations"]
    assert record["rows"][-1]["iteration"] == "held out"
    monkeypatch.setattr(command, "timed_here", None)  # is not asked again
    assert main(WORDS) == 0
    again = json.loads(Path("run/result.json").read_text())
    assert again["rows"][-1]["PSNR"] == record["rows"][-1]["PSNR"]


def test_a_damaged_plan_is_named_with_the_remedy_and_one_without_checksum_is_read(quick_machine, capsys):
    assert main(WORDS) == 0
    file = Path("run/plan.json")
    content = file.read_bytes()
    said = json.loads(content)
    turned = content.replace(b'"first": ', b'"first": 1')
    assert turned != content
    del said["sha256"]
    others = [{**said, "first": 2.5}, {**said, "seconds": {"scores": None}}, {**said, "iterations": "3"}, [], None, 3]
    for harmed in [b"", content[:99], turned, b"[" * 10**5, *(json.dumps(x).encode() for x in others)]:
        file.write_bytes(harmed)
        capsys.readouterr()
        assert main(WORDS) == 2, harmed[:99]
        err = capsys.readouterr().err
        assert "plan.json is no plan" in err, harmed[:99]
        assert "delete run, and the same command begins anew" in err, harmed[:99]
    file.write_text(json.dumps(said))  # as releases before this one wrote it
    assert main(WORDS) == 0


def test_a_run_that_the_clock_stops_loses_nothing(quick_machine, monkeypatch, capsys):
    assert main([*WORDS[:-1], "whole"]) == 0
    # the plan of the other run, so that both are one; then a clock that leaps within an M-step
    Path("run").mkdir()
    shutil.copy("whole/plan.json", "run/plan.json")
    ticks = iter([0.0] * 30)
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: next(ticks, 1e9))
    assert main(WORDS) == 0
    assert "the time is over in EM" in capsys.readouterr().out
    assert not Path("run/prior_02.safetensors").exists()
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: 0.0)
    assert main(WORDS) == 0
    one, other = (load_file(Path(name) / "prior_02.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_last_m_step_ends_with_the_time_and_its_prior_is_the_last(quick_machine, monkeypatch, capsys):
    seen = 0

    def until_the_last(begin):  # one update before the end of all
        nonlocal seen
        seen += 1
        return 1e9 if seen == begin else 0.0

    monkeypatch.setattr("emlib.runs.progress.clock", lambda: until_the_last(0))
    assert main([*WORDS[:-1], "whole"]) == 0
    every = seen
    Path("run").mkdir()
    shutil.copy("whole/plan.json", "run/plan.json")
    seen = 0
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: until_the_last(every - 1))
    capsys.readouterr()
    assert main(WORDS) == 0
    plan = json.loads(Path("run/plan.json").read_text())
    assert f"the time is over in EM 2 M-step {plan['last'] - 1}/{plan['last']}" in capsys.readouterr().out
    record = json.loads(Path("run/result.json").read_text())
    assert [row.get("updates") for row in record["rows"]] == [None, None, None, plan["last"] - 1, None]
    with safe_open("run/prior_02.safetensors", "pt") as file:
        assert file.metadata()["updates"] == str(plan["last"] - 1)
    assert not Path("run/training_02.safetensors").exists()
    assert main(WORDS) == 0  # complete as it is
    again = json.loads(Path("run/result.json").read_text())
    assert again["rows"][-1]["PSNR"] == record["rows"][-1]["PSNR"]
    assert again["rows"][-2]["updates"] == plan["last"] - 1


def test_a_last_m_step_that_has_hardly_begun_is_gone_on_with():
    plan = plan_minutes(COLAB, 9, 48_500, steady())
    assert 0.75 * plan.last < plan.least < 0.85 * plan.last


def test_without_noise_gaps_take_two_solver_steps_in_fewer_calls(quick_machine):
    for words, expected in (
        ([], (2, 2)),
        (["--noise-std", "0.1"], (3, 1)),
        (["--operator", "box"], (3, 1)),
        (["--sampler", "pigdm"], (3, 1)),
    ):
        assert main([*WORDS, "--operator", "mask", *words, "--folder", f"run-{len(words)}-{words[-1:]}"]) == 0
        said = json.loads(Path(f"run-{len(words)}-{words[-1:]}/result.json").read_text())["settings"]
        assert (said["e_steps"], said["cg_steps"]) == expected


def test_the_calls_of_dps_are_not_planned(quick_machine, capsys):
    assert main([*WORDS, "--operator", "mask", "--sampler", "dps"]) == 2
    assert "--minutes plans the calls of MMPS and PiGDM, not those of dps" in capsys.readouterr().err


def test_other_first_priors_are_not_capped_and_their_pictures_not_repeated(quick_machine, tmp_path):
    assert main([*WORDS, "--start", "preprocessed"]) == 0
    assert json.loads(Path("run/result.json").read_text())["settings"]["clean_copies"] == 0


def test_a_first_prior_of_a_few_pictures_is_not_trained_until_it_knows_them_by_heart():
    few, many = (plan_minutes(COLAB, 60, 48_500, steady(), begun=begun) for begun in (COLAB.clean, None))
    assert few.first == max(FEWEST, PASSES * COLAB.clean // few.row.batch)
    assert few.first < many.first
    assert few.between > many.between, "the others get what it leaves"
    assert plan_minutes(COLAB, 0.3, 48_500, steady(), begun=COLAB.clean).first < FEWEST, (
        "where time is short it has its share alone"
    )


def test_snapshots_are_a_minute_apart_where_updates_are_quick():
    plan = plan_minutes(COLAB, 30, 48_500, steady())
    assert plan.sizes(COLAB).em.snapshot == pytest.approx(60 / 0.02, rel=0.01)
    assert plan_minutes(COLAB, 600, 48_500, steady(2.0)).sizes(COLAB).em.snapshot == 200


def test_a_run_without_a_prior_has_nothing_to_score(quick_machine, monkeypatch, capsys):
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: 1e9)
    assert main(WORDS) == 0
    assert "no prior is finished yet" in capsys.readouterr().out
    assert not Path("run/result.json").exists()


def test_words_that_do_not_go_together_are_refused(quick_machine, capsys):
    for words, said in {
        ("--iterations", "3"): "--minutes chooses --iterations itself",
        ("--train-batch", "8"): "--minutes chooses --train-batch itself",
        ("--device", "T4"): "give it with --minutes and --dry-run",
    }.items():
        assert main([*WORDS, *words]) == 2
        assert said in capsys.readouterr().err


def test_a_dry_run_plans_for_a_card_that_is_not_here(quick_machine, monkeypatch, capsys):
    monkeypatch.setattr(budgets, "BUDGETS", BUDGETS)
    assert main(["em", "--preset", "colab", "--minutes", "9", "--dry-run", "--device", "T4"]) == 0
    assert "9 minutes: small network" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_load_file_reads_what_a_stop_kept(tmp_path):
    """The snapshot of a training that was stopped is that of its last update."""
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    m = emlib.measure(x, emlib.random_mask(6, 8, 0.5, 0), 0.0, 0)
    em = emlib.EMSettings(1, 9, 4, 4, 1e-3, 1e-3, 0.9, 16)
    cfg = emlib.UNetConfig(channels=(8, 16), groups=4)
    loop = emlib.run_em(m, x[:2], cfg, emlib.linear_schedule(), lambda prior, k: None, em, tmp_path)
    for event in loop:
        if event.done == 7:
            break
    loop.close()
    assert load_file(tmp_path / "training_00.safetensors")["step"].item() == 6

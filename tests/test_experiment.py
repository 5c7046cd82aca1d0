"""Experiments: every method runs, none runs twice, files of other settings are refused, the gathered table is whole."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import structural_similarity_index_measure

import emlib
from emlib.cli.main import INTERRUPTED, main
from emlib.em.initial import fit_gaussian
from emlib.experiments import ablations, run, table
from emlib.experiments import config as experiment
from emlib.experiments.base import Outcome, Setting
from emlib.experiments.methods import METHODS
from emlib.metrics import summary
from emlib.runs import presets


@pytest.fixture
def toy(toy_preset, monkeypatch, tmp_path):
    """The folder of a toy whose Gaussian is fitted in one iteration."""
    # sixteen eigenvalue problems of 784 numbers are most of the time of a toy
    monkeypatch.setattr("emlib.baselines.diem.fit_gaussian", partial(fit_gaussian, iterations=1))
    return tmp_path


def write(toy, **change):
    said = {"about": "A toy.", "preset": "toy", "operator": "mask", "methods": ["observed", "em-mmps"], "seeds": [0]}
    (toy / "experiments").mkdir(exist_ok=True)
    (toy / "experiments" / "toy.json").write_text(json.dumps({**said, **change}))


def photographs(folder, count):
    g = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        Image.fromarray(g.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def record(toy, name="toy"):
    """What was gathered; beside the recorded tables only where no other preset was asked for."""
    own = toy / "data" / "results" / f"{name}.json"
    (found,) = [file for file in (own, *toy.glob(f"runs/{name}-*.json")) if file.is_file()]
    return emlib.runs.record.read_result(found)


def rows(toy, name="toy"):
    return record(toy, name)["rows"]


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("table-embedded-mask", {"ambient": ["E[x | y]", "DPS"], "sure-score": ["DPS", "MMPS"]}),
        ("table-embedded-noise", {"noise2self": ["f(y)"], "sure-score": ["D(y)", "DPS", "MMPS"]}),
        ("table-embedded-blur", {"sure-score": ["DPS", "MMPS"]}),
    ],
)
def test_every_method_of_a_table_runs_and_is_gathered(toy, name, ways):
    assert main(["experiment", name, "--preset", "toy", "--seeds", "1"]) == 0
    found = {}
    for row in rows(toy, name):
        found.setdefault(row["method"], []).append(row["by"])
        assert row["seed"] == 1
        assert row["PSNR_low"] <= row["PSNR"] <= row["PSNR_high"]
        assert row["SSIM_low"] <= row["SSIM"] <= row["SSIM_high"] <= 1
    assert found == {
        "observed": ["as it is"],
        "classical": ["alone"],
        **ways,
        "em-mmps": ["MMPS"],
        "em-dps-auto": ["DPS"],
        "em-dps-paper": ["DPS"],
        "diem": ["MMPS"],
        "ceiling": ["DPS", "MMPS"],
    }
    settings, listed = record(toy, name)["settings"], experiment.read_experiment(name).methods
    assert record(toy, name)["command"] == f"python -m emlib experiment {name} --preset toy --seeds 0 1"
    assert settings["missing"] == [f"{method} (seed 0)" for method in listed]
    assert settings["preset"] == "toy"
    for drawn in (f"{name}-toy.png", f"{name}-toy-samples.png"):
        assert Image.open(toy / "runs" / drawn).size[0] > 300


def test_colour_pictures_of_a_folder_come_by_the_environment(toy, monkeypatch):
    photographs(toy / "mine", 240)
    p = presets.PRESETS["toy"]
    colour = replace(p, name="toy-color", data="cifar10", unet=replace(p.unet, in_channels=3))
    monkeypatch.setitem(presets.PRESETS, "toy-color", colour)
    monkeypatch.setenv("EMLIB_PICTURES", str(toy / "mine"))
    words = ["table-cifar10-mask", "--preset", "toy-color", "--methods", "observed", "ambient", "classical"]
    assert main(["experiment", *words]) == 0
    found = record(toy, "table-cifar10-mask")
    assert found["settings"]["data"] == "folder mine"
    # the whole table's command, though a part was asked for; and no place of this machine
    assert found["command"] == "python -m emlib experiment table-cifar10-mask --preset toy-color"
    assert {row["method"] for row in found["rows"]} == {"observed", "ambient", "classical"}
    assert "ceiling (seed 0)" in found["settings"]["missing"]


def test_the_experiments_that_come_with_the_project_are_whole():
    names = [f"table-{data}-{task}" for data in ("embedded", "cifar10") for task in ("mask", "noise", "blur")]
    for name in names:
        said = experiment.read_experiment(name)
        assert {"observed", "em-dps-paper", "em-dps-auto", "em-mmps", "diem", "ceiling"} < set(said.methods)
        assert said.preset in presets.PRESETS
        assert said.noise_std == (0.2 if said.operator == "noise" else 0)


@pytest.mark.parametrize("task", ["mask", "noise", "blur"])
def test_every_start_runs(toy, monkeypatch, task):
    photographs(toy / "mine", 20)
    monkeypatch.setenv("EMLIB_PICTURES", str(toy / "mine"))
    monkeypatch.setattr("emlib.experiments.ablations.fit_gaussian", partial(fit_gaussian, iterations=1))
    assert main(["experiment", f"starts-embedded-{task}", "--preset", "toy", "--seeds", "0"]) == 0
    found = {}
    for row in rows(toy, f"starts-embedded-{task}"):
        found.setdefault(row["method"], []).append(row["by"])
        assert "FD-AlexNet" not in row  # a first prior draws nothing here
    assert found.pop("observed") == ["as it is"]
    kinds = ("10", "50", "100", "500", "other", "preprocessed", "gaussian")
    assert found == {f"start-{kind}": ["DPS", "MMPS"] for kind in kinds}


def test_what_clean_pictures_are_worth(toy, monkeypatch):
    seen = []
    real = ablations.trained_on
    monkeypatch.setattr(ablations, "trained_on", lambda s, x, n: seen.append((len(x), n)) or real(s, x, n))
    words = ["experiment", "worth-embedded", "--preset", "toy", "--methods", "clean-50", "clean-300", "--seeds", "0"]
    assert main(words) == 0
    assert seen == [(50, 10), (300, 10)]  # the last M-step is twice as long: two updates more
    assert [(row["method"], row["by"]) for row in rows(toy, "worth-embedded")] == [
        ("clean-50", "MMPS"),
        ("clean-300", "MMPS"),
    ]


def test_the_prior_that_a_method_came_to_is_kept_and_draws_what_the_table_shows(toy):
    write(toy, methods=["observed", "ceiling"])
    assert main(["experiment", "toy"]) == 0
    (file,) = (toy / "runs" / "toy" / "seed-0").glob("*.safetensors")
    assert file.name == "ceiling.safetensors"
    kept = table.pictures_of(toy / "data" / "results" / "toy", ["ceiling"])[1]["ceiling"]
    schedule = emlib.linear_schedule()
    drawn = emlib.diffusion.draw(emlib.load_unet(file).eval(), schedule, (1, 28, 28), len(kept), 2, eta=1.0)
    torch.testing.assert_close(torch.cat(list(drawn)), kept, atol=0.01, rtol=0)


def test_starts_take_the_pictures_that_they_name(toy):
    p = presets.PRESETS["toy"]
    task = emlib.make_task(p, "mask")
    other = torch.full((2, 1, 28, 28), 0.5)
    s = Setting(p, task, emlib.linear_schedule(), 0, toy, other)
    assert torch.equal(ablations.clean_pictures(500)(s)[: p.clean], task.clean)
    assert len(ablations.clean_pictures(500)(s)) == 500
    assert ablations.other_pictures(s) is other
    assert torch.equal(ablations.preprocessed_pictures(s), task.measurements.y[:6])
    few = replace(s, preset=replace(p, clean=4))
    assert torch.equal(ablations.preprocessed_pictures(few), task.measurements.y[:4])
    with pytest.raises(ValueError, match="has 500 clean pictures kept apart, but the experiment names 501"):
        ablations.clean_pictures(501)(s)
    with pytest.raises(ValueError, match="name it as other"):
        ablations.other_pictures(replace(s, other=None))


def test_fewer_iterations_cut_every_budget(toy):
    full = presets.POCKET
    write(toy, iterations=2, preset="pocket")
    p = experiment.read_experiment("toy").sizes()
    assert p.em == replace(full.em, iterations=2)
    assert full.prior_updates - p.prior_updates == full.em.m_updates  # the last one stays
    write(toy, longer=3, preset="pocket")
    p = experiment.read_experiment("toy").sizes()
    assert p.em == replace(full.em, last_updates=3 * full.em.last_updates)
    assert p.prior_updates - full.prior_updates == 2 * full.em.last_updates
    write(toy, longer=2)  # a preset whose last M-step is like the others
    p, toys = experiment.read_experiment("toy").sizes(), presets.PRESETS["toy"]
    assert p.em.last_updates == 2 * (toys.em.last_updates or toys.em.m_updates)
    write(toy, longer=0)
    with pytest.raises(ValueError, match="got longer=0"):
        experiment.read_experiment("toy")
    assert experiment.read_experiment("starts-embedded-mask").sizes() == presets.POCKET


def test_an_experiment_may_take_more_conjugate_gradients(toy):
    write(toy, cg_steps=3)
    assert experiment.read_experiment("toy").sizes() == replace(presets.PRESETS["toy"], cg_steps=3)


def test_a_finished_method_is_never_run_again(toy, monkeypatch):
    asked = []

    def counted(name, method):
        def run(setting):
            asked.append((name, setting.seed))
            return method(setting)

        return run

    def stops(setting):
        raise KeyboardInterrupt

    observed, em = (counted(name, METHODS[name]) for name in ("observed", "em-mmps"))
    monkeypatch.setitem(METHODS, "observed", observed)
    monkeypatch.setitem(METHODS, "em-mmps", stops)
    write(toy)
    assert main(["experiment", "toy"]) == INTERRUPTED
    assert asked == [("observed", 0)]
    assert not (toy / "data" / "results" / "toy.json").exists()
    kept = toy / "data" / "results" / "toy" / "seed-0" / "observed.json"
    before = kept.read_bytes()
    monkeypatch.setitem(METHODS, "em-mmps", em)
    assert main(["experiment", "toy"]) == 0
    assert asked == [("observed", 0), ("em-mmps", 0)]
    assert kept.read_bytes() == before
    first = rows(toy)
    assert [row["method"] for row in first] == ["observed", "em-mmps"]
    # all done: nothing is asked, not even for the data
    monkeypatch.setattr(run, "make_task", None)
    assert main(["experiment", "toy"]) == 0
    assert len(asked) == 2
    assert rows(toy) == first


def test_a_method_that_was_stopped_halfway_goes_on_and_says_so(toy, monkeypatch):
    write(toy, methods=["em-mmps"])

    def stops(*words, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("emlib.experiments.base.reconstruct", stops)
        assert main(["experiment", "toy"]) == INTERRUPTED
    done = toy / "runs" / "toy" / "seed-0" / "em-mmps" / "prior_01.safetensors"
    before = done.stat().st_mtime_ns
    assert main(["experiment", "toy"]) == 0
    assert done.stat().st_mtime_ns == before
    assert rows(toy)[0]["resumed"] is True


def test_more_seeds_and_methods_may_be_added(toy):
    write(toy, methods=["observed"])
    assert main(["experiment", "toy"]) == 0
    write(toy, methods=["observed", "classical"], seeds=[0, 1])
    assert main(["experiment", "toy", "--methods", "classical"]) == 0
    assert [(row["method"], row["seed"]) for row in rows(toy)] == [("observed", 0), ("classical", 0), ("classical", 1)]
    assert record(toy)["settings"]["missing"] == ["observed (seed 1)"]
    # a seed alone is no other table
    assert main(["experiment", "toy", "--seeds", "0"]) == 0
    assert len(rows(toy)) == 3
    assert record(toy)["command"] == "python -m emlib experiment toy"
    # a seed that the table does not list belongs to the command that makes it
    assert main(["experiment", "toy", "--seeds", "2", "--methods", "observed"]) == 0
    assert record(toy)["command"] == "python -m emlib experiment toy --seeds 0 1 2"


def test_pictures_are_those_of_the_seed_that_has_most(toy):
    write(toy, methods=["observed", "classical"], seeds=[0, 1])
    assert main(["experiment", "toy"]) == 0
    (toy / "data" / "results" / "toy" / "seed-0" / "classical.safetensors").unlink()
    before = (toy / "data" / "results" / "toy.png").read_bytes()
    assert main(["experiment", "toy"]) == 0
    assert (toy / "data" / "results" / "toy.png").read_bytes() != before
    kept = table.kept_pictures(toy / "data" / "results" / "toy" / "seed-1" / "observed.safetensors")
    task = emlib.make_task(presets.PRESETS["toy"], "mask", seed=1)
    torch.testing.assert_close(kept["truth"], task.held_out_truth[:10], rtol=0, atol=1e-6)  # bytes to begin with
    torch.testing.assert_close(kept["as it is"], task.held_out.y[:10], rtol=0, atol=0.004)  # to the nearest byte


def test_another_preset_leaves_the_recorded_table_alone(toy):
    write(toy, methods=["observed"])
    assert main(["experiment", "toy"]) == 0
    before = rows(toy)
    assert main(["experiment", "toy", "--preset", "smoke"]) == 0
    recorded = toy / "data" / "results" / "toy.json"
    assert emlib.runs.record.read_result(recorded)["rows"] == before
    assert emlib.runs.record.read_result(toy / "runs" / "toy-smoke.json")["settings"]["preset"] == "smoke"


def test_a_row_is_kept_with_the_sizes_that_it_was_made_with(toy):
    write(toy, methods=["observed"], seeds=[0, 1])
    assert main(["experiment", "toy", "--seeds", "0"]) == 0
    settings = json.loads((toy / "data" / "results" / "toy" / "seed-0" / "settings.json").read_text())
    assert settings["cg_steps"] == presets.PRESETS["toy"].cg_steps
    write(toy, methods=["observed"], cg_steps=5)
    assert main(["experiment", "toy"]) == 2
    write(toy, methods=["observed"], cg_steps=settings["cg_steps"])
    assert main(["experiment", "toy"]) == 0


def harms(content):
    """What a bad disk, a full one or a slip may leave of a file."""
    text = content.decode()
    digit = next(i for i in range(text.index('"PSNR"'), len(text)) if text[i] in "123456789")
    turned = text[:digit] + chr(ord(text[digit]) ^ 1) + text[digit + 1 :]
    rows = [text.replace('"rows"', '"row"'), json.dumps({**json.loads(text), "rows": [3]})]
    return [b"", content[: len(content) // 2], *(x.encode() for x in (turned, *rows, "[]", "null", "3", "[" * 10**5))]


def test_a_damaged_row_is_named_with_the_remedy_which_helps(toy, capsys):
    write(toy, methods=["observed"])
    assert main(["experiment", "toy"]) == 0
    first = rows(toy)
    kept = toy / "data" / "results" / "toy" / "seed-0" / "observed.json"
    content = kept.read_bytes()
    for harmed in harms(content):
        kept.write_bytes(harmed)
        capsys.readouterr()
        assert main(["experiment", "toy"]) == 2, harmed[:99]
        err = capsys.readouterr().err
        assert "observed.json is no finished method" in err, harmed[:99]
        assert "delete it, and the same command runs it" in err, harmed[:99]
    kept.unlink()
    assert main(["experiment", "toy"]) == 0
    assert [row["PSNR"] for row in rows(toy)] == [row["PSNR"] for row in first]


def test_rows_of_older_releases_have_no_checksum_and_are_read(toy):
    write(toy, methods=["observed"])
    assert main(["experiment", "toy"]) == 0
    kept = toy / "data" / "results" / "toy" / "seed-0" / "observed.json"
    said = json.loads(kept.read_text())
    assert len(said.pop("sha256")) == 64
    kept.write_text(json.dumps(said))
    assert main(["experiment", "toy"]) == 0
    files = list((Path(__file__).parents[1] / "data" / "results").glob("*/seed-*/*.json"))
    assert all(table.read_part(file)["rows"] for file in files if file.name != "settings.json")


def test_files_of_other_settings_are_refused(toy, capsys):
    write(toy, methods=["observed"])
    assert main(["experiment", "toy"]) == 0
    write(toy, methods=["observed"], fraction=0.7)
    assert main(["experiment", "toy"]) == 2
    assert "{'fraction': 0.6}, but this one has {'fraction': 0.7}" in capsys.readouterr().err


def test_rows_of_other_settings_or_pictures_never_stand_in_one_table(toy, capsys):
    """Of another seed, too, and before anything is computed; nor is a table gathered anew as if they were its own."""
    photographs(toy / "mine", 300)
    write(toy, methods=["observed", "classical"])
    assert main(["experiment", "toy", "--methods", "observed"]) == 0
    before = record(toy)
    assert main(["experiment", "toy", "--methods", "classical", "--data", "mine"]) == 2
    assert "observed.json was made of the pictures 'Fashion-MNIST" in capsys.readouterr().err
    assert main(["experiment", "toy", "--methods", "observed", "--data", "mine", "--seeds", "1"]) == 2
    assert "seed-0/observed.json was made of the pictures 'Fashion-MNIST" in capsys.readouterr().err
    assert not list((toy / "data" / "results" / "toy" / "seed-1").glob("observed*"))
    shutil.rmtree(toy / "data" / "results" / "toy" / "seed-1")
    write(toy, methods=["observed"], cg_steps=2)
    assert main(["experiment", "toy", "--seeds", "1"]) == 2
    assert "{'cg_steps': 1}, but this one has {'cg_steps': 2}" in capsys.readouterr().err
    assert not (toy / "data" / "results" / "toy" / "seed-1").exists()
    assert record(toy) == before


def test_what_a_method_left_to_go_on_from_is_not_taken_by_another_table(toy, capsys):
    """EM's own folder does not say how its E-steps were drawn; the table's working folder does."""
    write(toy, methods=["em-mmps"])
    assert main(["experiment", "toy"]) == 0
    write(toy, methods=["em-mmps"], cg_steps=2)
    assert main(["experiment", "toy", "--out", "other.json"]) == 2
    assert "runs/toy/seed-0 holds a run with {'cg_steps': 1}" in capsys.readouterr().err
    assert main(["experiment", "toy", "--out", "other.json", "--folder", "runs/other"]) == 0


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        ({}, ["nowhere"], "starts-embedded-mask, "),
        ({"methods": ["magic"]}, ["toy"], "unknown methods magic; there are observed"),
        ({}, ["toy", "--methods", "magic"], "unknown methods magic"),
        ({"colour": "blue"}, ["toy"], "toy.json is no experiment"),
        ({"iterations": 0}, ["toy"], "at least one iteration, got iterations=0"),
        ({"cg_steps": 0}, ["toy"], "at least one conjugate-gradient step, a whole number of them, got cg_steps=0"),
        ({"operator": "noise", "noise_std": 0.1, "fraction": 7}, ["toy"], "the operator noise has no fraction, got 7"),
        ({"fraction": 7}, ["toy"], "got 7"),
        ({"methods": ["observed", "observed"]}, ["toy"], "methods has 'observed' twice"),
        ({"seeds": [0, 1, 0]}, ["toy"], "seeds has 0 twice"),
        ({"methods": ["start-other"]}, ["toy"], "start-other needs another data set"),
        ({"preset": "huge"}, ["toy"], "unknown preset 'huge'"),
        ({"operator": "noise", "noise_std": 0.2, "methods": ["ambient"]}, ["toy"], "masks without noise"),
    ],
)
def test_a_mistake_ends_in_one_sentence(toy, capsys, change, words, says):
    write(toy, **change)
    assert main(["experiment", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in said


def test_what_the_last_e_step_drew_is_scored_apart_from_what_the_prior_draws(toy, monkeypatch):
    asked = []

    def scored(x, features):
        asked.append(x)
        return {} if x is None else {"FD-AlexNet": float(len(asked)), "n": len(x)}

    monkeypatch.setattr(summary, "with_floor", scored)
    write(toy, methods=["em-mmps"])
    assert main(["experiment", "toy"]) == 0
    (row,) = rows(toy)
    assert (row["FD-AlexNet"], row[run.LAST_DRAWS]) == (1, 2)
    drawn = np.load(toy / "runs" / "toy" / "seed-0" / "em-mmps" / "reconstructions_01.npy")
    np.testing.assert_array_equal(asked[1], drawn[:4])


def test_an_outcome_without_a_prior_has_no_distance(toy, monkeypatch):
    monkeypatch.setitem(METHODS, "observed", lambda s: Outcome({"zero": torch.zeros_like(s.task.held_out.y)}))
    write(toy, methods=["observed"])
    assert main(["experiment", "toy"]) == 0
    (row,) = rows(toy)
    assert row["by"] == "zero"
    assert "FD-AlexNet" not in row


# ---- scores ----


def test_ssim_is_torchmetrics_on_the_scale_from_0_to_1():
    x, truth = torch.rand(2, 5, 3, 16, 16) * 2 - 1
    theirs = [
        structural_similarity_index_measure((a[None] + 1) / 2, (b[None] + 1) / 2, data_range=1.0)
        for a, b in zip(x, truth)
    ]
    torch.testing.assert_close(emlib.ssim(x, truth), torch.stack(theirs), rtol=0, atol=1e-5)


def test_ssim_of_two_flat_pictures_is_known():
    a, b, c = 0.2, 0.6, 0.01**2
    x, truth = (torch.full((1, 1, 16, 16), 2 * value - 1) for value in (a, b))
    assert emlib.ssim(x, truth).item() == pytest.approx((2 * a * b + c) / (a**2 + b**2 + c), abs=1e-4)
    assert emlib.ssim(x, x).item() == pytest.approx(1)


def test_the_bootstrap_interval_is_that_of_a_normal_mean(monkeypatch):
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    truth = torch.zeros(400, 1, 16, 16)
    x = truth + 0.1 * (1 + 0.5 * torch.rand(400, 1, 1, 1))
    row, values = summary.with_interval(x, truth), emlib.psnr(x, truth)
    half = 1.96 * values.std().item() / 20
    assert row["PSNR"] == pytest.approx(values.mean().item())
    assert row["PSNR_high"] - row["PSNR"] == pytest.approx(half, rel=0.15)
    assert row["PSNR"] - row["PSNR_low"] == pytest.approx(half, rel=0.15)


def test_the_floor_is_the_distance_of_two_real_crowds(monkeypatch):
    monkeypatch.setattr(summary, "alexnet_features", lambda x: x.flatten(1))
    real, samples = torch.randn(60, 4), torch.randn(20, 1, 2, 2) + 1
    row = summary.with_floor(samples, real)
    assert row["n"] == 20
    assert row["floor"] == pytest.approx(emlib.frechet_distance(real[:20], real[20:]))
    assert row["FD-AlexNet"] == pytest.approx(emlib.frechet_distance(samples.flatten(1), real))
    assert summary.with_floor(samples[:4], real) == summary.with_floor(None, real) == {}

"""Numbers that are none: the first of them ends a run before anything is kept, and is called what it is."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import emlib
from emlib.cli.main import main
from emlib.guidance.search import searched_dps
from emlib.metrics.summary import against_real
from emlib.posterior.base import NotFinite
from emlib.runs import presets
from emlib.unet import save_unet

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
M = emlib.measure(X, emlib.random_mask(6, 8, 0.5, 0), 0.1, seed=0)
SETTINGS = emlib.EMSettings(1, 4, 4, 4, 1e-3, 1e-3, 0.9, 4, snapshot=1)


def nowhere(x, t):
    return x * math.nan


def away(model, schedule, measurements, generators):
    """A sampler that runs away; clamped, its pictures would be black and white."""
    yield emlib.SampleStep(-1, torch.full((len(measurements), 1, 8, 8), math.inf), X)


@pytest.mark.parametrize("word", ["inf", "nan", "-inf", "1e999"])
def test_a_scale_without_end_is_refused_before_a_run(toy_preset, word, capsys):
    command = ["em", "--preset", "toy", "--sampler", "dps", f"--scale={word}"]
    assert main([*command, "--dry-run"]) == 2
    assert "--scale must be above 0 and finite" in capsys.readouterr().out
    assert main(command) == 2
    assert "--scale must be above 0 and finite" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [math.inf, math.nan, -1.0])
def test_dps_refuses_such_a_scale(net, schedule, scale):
    sampler = partial(emlib.dps, steps=2, scale=scale)
    with pytest.raises(ValueError, match="guidance scale must be 0 or more, and finite"):
        next(emlib.reconstruct(sampler, net, schedule, M, 0, "x", 6))


@pytest.mark.parametrize("sampler", [partial(emlib.mmps, steps=2), away])
def test_a_draw_that_is_no_picture_is_never_handed_on(schedule, sampler):
    with pytest.raises(NotFinite, match="'probe' drew pictures that are no numbers"):
        next(emlib.reconstruct(sampler, nowhere, schedule, M, 0, "probe", 6))


def test_samples_that_are_no_pictures_are_refused(schedule):
    with pytest.raises(ValueError, match="samples from 0 on are NaN"):
        next(emlib.draw(nowhere, schedule, (1, 8, 8), 2, 2))


def test_a_search_passes_over_scales_that_lead_nowhere(net, schedule):
    """The scale 4 gives NaN, the others do not."""

    def sampler(model, schedule, measurements, generators, steps, scale):
        yield from (
            away(model, schedule, measurements, generators)
            if scale == 4
            else emlib.dps(model, schedule, measurements, generators, steps=steps, scale=scale)
        )

    search = searched_dps("residual", M, schedule, 2, 0, scales=(1.0, 2.0, 4.0), sampler=sampler)
    search.last = 4.0
    assert search(net, 1).keywords["scale"] < 4
    assert search.tried[0].score == math.inf


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_that_diverges_ends_at_that_update(tiny, schedule, optimizer):
    model = emlib.build_unet(tiny, 0)
    loop, losses = emlib.train(model, schedule, X, 50, 4, 1e30, 0, optimizer=optimizer), []
    with pytest.raises(ValueError, match="training has diverged: update .* a lower learning rate"):
        losses.extend(step.loss for step in loop)
    assert all(map(math.isfinite, losses))


def test_neither_loss_nor_snapshot_hand_out_what_is_no_number(tiny, schedule):
    step = next(emlib.train(emlib.build_unet(tiny, 0), schedule, X, 5, 4, 1e-3, 0))
    step.snapshot()
    with pytest.raises(ValueError, match=r"training has diverged: update 1 has the loss nan"):
        replace(step, value=torch.tensor(math.nan)).loss  # noqa: B018, asking is what raises
    with torch.no_grad():
        next(step.ema.parameters()).fill_(math.inf)
    with pytest.raises(ValueError, match="training has diverged"):
        step.snapshot()


@pytest.mark.parametrize("what", ["init_lr", "m_lr"])
def test_em_keeps_nothing_of_a_diverged_training(tiny, schedule, tmp_path, what):
    settings = replace(SETTINGS, **{what: 1e30})
    e_step = lambda prior, k: partial(emlib.mmps, steps=2)  # noqa: E731
    with pytest.raises(ValueError, match="training has diverged"):
        list(emlib.run_em(M, X, tiny, schedule, e_step, settings, tmp_path))
    k = 0 if what == "init_lr" else 1
    assert not (tmp_path / f"prior_{k:02d}.safetensors").exists()
    for file in tmp_path.glob("*.safetensors"):  # a snapshot from before it went astray may be there
        assert all(x.isfinite().all() for x in load_file(file).values() if x.is_floating_point()), file


def test_train_writes_no_weights_that_are_no_numbers(toy_preset, monkeypatch, tmp_path, capsys):
    wild = replace(presets.PRESETS["toy"], em=replace(presets.PRESETS["toy"].em, init_lr=1e30), prior_updates=20)
    monkeypatch.setitem(presets.PRESETS, "toy", wild)
    assert main(["train", "--preset", "toy", "--out", str(tmp_path / "prior.safetensors")]) == 2
    assert "training has diverged" in capsys.readouterr().err
    assert not (tmp_path / "prior.safetensors").exists()


def test_reconstruct_ends_with_a_sentence_and_no_scores(toy_preset, tmp_path, capsys):
    model = emlib.build_unet(presets.PRESETS["toy"].unet, 0)
    with torch.no_grad():
        model.conv_in.weight.fill_(1e30)  # finite, as nothing that it makes of pictures is
    save_unet(model, tmp_path / "prior.safetensors")
    assert main(["reconstruct", "--preset", "toy", "--prior", str(tmp_path / "prior.safetensors")]) == 2
    said = capsys.readouterr()
    assert "drew pictures that are no numbers (NaN)" in said.err
    assert "nan" not in said.out


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_pictures_that_are_no_numbers_are_called_so(bad):
    x = X.clone()
    x[4, 0, 2, 2] = bad
    with pytest.raises(ValueError, match="number 4 holds NaN or infinite numbers"):
        emlib.measure(x, emlib.Identity(), 0.1, 0)


def test_pictures_in_float64_are_refused_by_a_training_in_float32(tiny, schedule):
    with pytest.raises(
        ValueError, match=r"pictures are torch.float64 and the network torch.float32; take images.float"
    ):
        next(emlib.train(emlib.build_unet(tiny, 0), schedule, X.double(), 2, 2, 1e-3, 0))


@pytest.mark.parametrize("seed", [12345678901234567, -12345678901234567, 10**30])
def test_a_seed_that_no_generator_holds_is_refused_at_once(toy_preset, tiny, schedule, seed, capsys):
    assert main(["em", "--preset", "toy", f"--seed={seed}", "--dry-run"]) == 2
    assert f"a seed is a whole number from 0 to 4294967295, got {seed}" in capsys.readouterr().err
    with pytest.raises(ValueError, match=f"seed={seed} is too large for 10000 updates"):
        next(emlib.train(emlib.build_unet(tiny, 0), schedule, X, 10_000, 2, 1e-3, seed))


@pytest.mark.parametrize("seed", [999_999_999, -999_999_999])
def test_nine_digits_are_no_trouble(tiny, schedule, seed):
    settings = replace(SETTINGS, seed=seed)
    e_step = lambda prior, k: partial(emlib.mmps, steps=1)  # noqa: E731
    assert len([s for s in emlib.run_em(M, X, tiny, schedule, e_step, settings) if hasattr(s, "prior")]) == 2


def test_too_few_pictures_for_a_distance_are_told_of_and_nothing_else_is_lost(
    toy_preset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "")
    (tmp_path / "own").mkdir()
    for i in range(200):
        Image.new("L", (28, 28), i).save(tmp_path / "own" / f"{i}.png")
    command = ["em", "--preset", "toy", "--data", str(tmp_path / "own")]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "FD-AlexNet: 160 real pictures are too few for its 256 features, so it is left out" in out
    with pytest.warns(UserWarning, match="FD-AlexNet is left out"):
        assert against_real(X, torch.zeros(160, 256)) == {}

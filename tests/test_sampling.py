import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torchmetrics.image.fid import _compute_fid

import emlib
from emlib.cli.main import main
from emlib.data.datasets import load
from emlib.data.pixels import to_pixels
from emlib.metrics import reference
from emlib.metrics.reference import Feature, real_statistics, score
from emlib.runs import presets, samples
from emlib.runs.samples import draw_shards, read_shards
from emlib.runtime.distributed import Ranks

SHAPE = (1, 8, 8)


def drawn(net, schedule, folder, count, **settings):
    """All pictures as bytes, and how many were drawn for it."""
    *_, (done, total) = draw_shards(net, schedule, SHAPE, count, 3, folder, **settings)
    assert done == total
    return torch.cat(list(read_shards(folder, count))), total


@pytest.fixture(autouse=True)
def _small_shards_on_one_thread(monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 32)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_shards_hold_what_draw_draws_whatever_the_batch(net, schedule, tmp_path, eta):
    plain = to_pixels(torch.cat(list(emlib.draw(net, schedule, SHAPE, 80, 3, seed=5, eta=eta))))
    for batch in (1, 16, 40):
        pixels, total = drawn(net, schedule, tmp_path / str(batch), 70, batch=batch, seed=5, eta=eta)
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, plain[:70]), batch
        assert total == 80  # the last block is filled up
    assert (plain[0] != plain[1]).any()


def test_stopped_anywhere_it_goes_on_and_more_samples_are_more_of_the_same(net, schedule, tmp_path):
    whole, _ = drawn(net, schedule, tmp_path / "whole", 100)
    for done, _ in draw_shards(net, schedule, SHAPE, 40, 3, tmp_path / "cut", batch=16):
        if done == 48:  # within the second shard
            break
    assert len(list((tmp_path / "cut" / "samples").iterdir())) == 2
    assert drawn(net, schedule, tmp_path / "cut", 40)[1] == 0
    again, total = drawn(net, schedule, tmp_path / "cut", 100)
    assert total == 32 + 32 + 16  # the second shard had 16 of its 32
    assert torch.equal(again, whole)
    assert torch.equal(drawn(net, schedule, tmp_path / "cut", 10)[0], whole[:10])


def test_a_half_written_shard_is_none(net, schedule, tmp_path):
    for done, _ in draw_shards(net, schedule, SHAPE, 40, 3, tmp_path, batch=16):
        if done == 16:
            break
    assert not (tmp_path / "samples").exists()


def foreign(content, x):
    return save({"x": x[:, :, :4].contiguous()})


def longer(content, x):
    return save({"x": torch.cat([x, x[:1]] if len(x) == 32 else [x, x, x])})


def unnamed(content, x):
    return save({"y": x})


def floats(content, x):
    return save({"x": x.float()})


HARMS = {
    "empty": lambda content, x: b"",
    "garbage": lambda content, x: b"no tensors at all" * 9,
    "cut": lambda content, x: content[: len(content) // 2],
    "one bit turned": lambda content, x: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    **{harm.__name__: harm for harm in (foreign, longer, unnamed, floats)},
}


@pytest.mark.parametrize("name", ["000000", "000032"])
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_shard_that_is_damaged_or_anothers_is_drawn_again_to_the_same_bits(net, schedule, tmp_path, name, harm):
    whole, _ = drawn(net, schedule, tmp_path, 40)
    file = tmp_path / "samples" / f"{name}.safetensors"
    file.write_bytes(harm(file.read_bytes(), load_file(file)["x"].clone()))
    with pytest.warns(UserWarning, match=f"{name}.safetensors .*so it is drawn again"):
        again, _ = drawn(net, schedule, tmp_path, 40)
    assert torch.equal(again, whole)


def test_a_folder_in_a_shards_place_is_refused_before_any_is_drawn(net, schedule, tmp_path):
    (tmp_path / "samples" / "000032.safetensors").mkdir(parents=True)
    loop = draw_shards(lambda x, t: pytest.fail("a picture was drawn"), schedule, SHAPE, 40, 3, tmp_path)
    with pytest.raises(ValueError, match=r"000032\.safetensors is no file.* move it away or name another --folder"):
        list(loop)


def test_processes_share_what_is_missing(net, schedule, tmp_path, monkeypatch):
    drawn(net, schedule, tmp_path, 32)
    whole, _ = drawn(net, schedule, tmp_path / "whole", 160)
    totals = []
    for rank in range(2):  # in turn, so each makes its own list here: of five shards, then of what the first left
        monkeypatch.setattr(samples, "ranks", lambda rank=rank: Ranks(rank, 2))
        totals += [total for _, total in draw_shards(net, schedule, SHAPE, 160, 3, tmp_path)][-1:]
    assert totals == [64, 32]
    assert len(list((tmp_path / "samples").iterdir())) == 4
    monkeypatch.setattr(samples, "ranks", lambda: Ranks(0, 1))
    assert torch.equal(drawn(net, schedule, tmp_path, 160)[0], whole)


def test_samples_that_are_no_numbers_are_refused(schedule, tmp_path):
    with pytest.raises(ValueError, match="samples from 0 on are NaN"):
        list(draw_shards(lambda x, t: x * float("nan"), schedule, SHAPE, 40, 3, tmp_path))
    assert not (tmp_path / "samples").exists()


# ---- the command, with features that need no weights ----


def means(pixels, device):
    """Four numbers for a picture: the means of its quarters."""
    x = torch.nn.functional.adaptive_avg_pool2d(pixels.float(), 2)
    return x.flatten(1)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """An empty folder with forty grey pictures and a tiny prior; FID's network replaced, AlexNet missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "datasets"))
    fid, alexnet = reference.FEATURES.values()
    monkeypatch.setitem(reference.FEATURES, "fid", replace(fid, network=lambda: "means", size=4, missing=str, of=means))
    monkeypatch.setitem(reference.FEATURES, "fd-alexnet", replace(alexnet, missing=lambda: "AlexNet is not there"))
    em = replace(presets.SMOKE.em, e_batch=16)
    monkeypatch.setitem(presets.PRESETS, "toy", replace(presets.SMOKE, name="toy", em=em, samples=40, data="pictures"))
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4), 0), tmp_path / "prior.safetensors")
    return tmp_path


EVALUATE = ["evaluate", "--prior", "prior.safetensors", "--preset", "toy", "--folder", "here"]


@pytest.mark.parametrize("said", ["null", "3", "[]", "", '{"pri', "a folder"])
def test_evaluate_names_settings_that_are_none_before_it_draws(toy, capsys, monkeypatch, said):
    monkeypatch.setattr("emlib.cli.evaluate.draw_shards", lambda *_: pytest.fail("a picture was drawn"))
    file = toy / "here" / "settings.json"
    file.parent.mkdir()
    if said == "a folder":
        file.mkdir()
    else:
        file.write_text(said)
    assert main(EVALUATE) == 2
    err = capsys.readouterr().err
    assert "settings.json" in err
    assert "delete" in err
    assert len(err.strip().splitlines()) == 1


def by_torchmetrics(a, b):
    (m_a, s_a), (m_b, s_b) = ((x.double().mean(0), torch.cov(x.double().T)) for x in (a, b))
    return _compute_fid(m_a, s_a, m_b, s_b).item()


def test_evaluate_records_the_distance_with_its_numbers_and_its_floor(toy, capsys):
    assert main([*EVALUATE, "--out", "out/result.json"]) == 0
    said = capsys.readouterr().out
    assert "left out: AlexNet is not there" in said
    assert "40 samples to 40 real pictures" in said
    record = emlib.runs.record.read_result("out/result.json")
    (row,) = record["rows"]
    data = load("pictures", 28, channels=1)
    real = means(to_pixels(torch.cat([data.clean, data.corrupted, data.held_out])), "cpu")
    samples = means(torch.cat(list(read_shards(toy / "here", 40))), "cpu")
    assert row["FID"] == pytest.approx(by_torchmetrics(samples, real), rel=1e-6)
    assert row["floor"] == pytest.approx(by_torchmetrics(real[:20], real[20:]), rel=1e-6)
    assert (row["n"], row["n_real"], row["n_floor"]) == (40, 40, 20)
    settings = record["settings"]
    assert settings["fingerprint"] == data.fingerprint
    assert (settings["samples"], settings["steps"], settings["eta"], settings["seed"]) == (40, 2, 1.0, 0)
    assert "resumed" not in settings
    assert Image.open("out/result.png").size == (10 * 30 - 2, 4 * 30 - 2)
    # again with other options that change no picture: what is there is read, and it is said
    assert main([*EVALUATE, "--batch", "3"]) == 0
    again = json.loads((toy / "here" / "result.json").read_text())
    assert again["rows"] == record["rows"]
    assert again["settings"] == {**settings, "resumed": True}


def test_fewer_samples_are_held_against_a_floor_of_as_many(toy):
    assert main([*EVALUATE, "--samples", "12"]) == 0
    (row,) = emlib.runs.record.read_result("here/result.json")["rows"]
    assert (row["n"], row["n_real"], row["n_floor"]) == (12, 40, 12)


def test_samples_of_another_prior_or_other_steps_are_not_mixed(toy, capsys):
    assert main(EVALUATE) == 0
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4), 1), "prior.safetensors")
    assert main(EVALUATE) == 2
    assert "holds a run with {'prior'" in capsys.readouterr().err
    assert main([*EVALUATE[:-2], "--steps", "3"]) == 0  # its own folder, named after the weights
    assert main([*EVALUATE[:-2], "--steps", "4"]) == 2
    assert "'steps': 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--feature", "fd-alexnet"], "AlexNet is not there"),
        (["--samples", "4"], "FID takes 5 samples and 10 real pictures, got 4 and 40; AlexNet is not there"),
        (["--samples", "0"], "at least 1, got 0"),
        (["--batch", "-2"], "got 40 and -2"),
        (["--steps", "1001"], "got steps=1001"),
        (["--eta", "2"], "got eta=2.0"),
        (["--prior", "absent.safetensors"], "no file at absent.safetensors"),
        (["--data", "nowhere"], "unknown data 'nowhere'"),
    ],
)
def test_a_mistake_ends_in_one_sentence_before_any_work(toy, capsys, words, says):
    assert main([*EVALUATE, *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    # on a busy machine a bar of the decoding comes before it
    assert len([line for line in err.splitlines() if line.strip() and not line.startswith("decoding")]) == 1
    assert not (toy / "here").exists()


def test_a_prior_of_other_pictures_is_refused(toy, capsys):
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4, patch=3), 0), "other.safetensors")
    assert main([*EVALUATE, "--prior", "other.safetensors"]) == 2
    assert "28 x 28 pixels, but the prior takes 1 channel(s) and sides in multiples of 6" in capsys.readouterr().err


# ---- statistics of the real pictures ----


def test_statistics_are_computed_once_and_kept_apart_by_data_part_and_network(toy):
    data, calls = load("pictures", channels=1), []

    def of(pixels, device):
        calls.append(len(pixels))
        return means(pixels, device)

    feature = Feature("FID", lambda: "means", 4, str, of)
    first = real_statistics(feature, data, 0, 20)
    again = real_statistics(feature, data, 0, 20)
    assert sum(calls) == 20
    assert first.n == again.n == 20
    assert torch.equal(first.cov, again.cov)
    assert torch.equal(first.mean, again.mean)
    others = (
        (feature, data, 0, 19),
        (feature, data, 1, 20),
        (replace(feature, network=lambda: "other"), data, 0, 20),
        (feature, replace(data, fingerprint="f" * 16), 0, 20),
    )
    for i, other in enumerate(others, start=2):
        real_statistics(*other)
        assert len(list(reference.kept_in().iterdir())) == i


def test_statistics_of_rounded_weights_are_kept_under_another_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = reference.FEATURES["fd-alexnet"].network
    assert name() == "alexnet-float16-64px"
    path, embedded = emlib.metrics.alexnet.alexnet_cached(), emlib.metrics.alexnet.alexnet_path()
    path.parent.mkdir(parents=True)
    path.touch()  # as a download that was broken off leaves it
    with pytest.warns(UserWarning, match="does not hold AlexNet's weights .*emlib weights --alexnet"):
        assert name() == "alexnet-float16-64px"
    known = emlib.metrics.alexnet.read_features(embedded)
    torch.save({f"features.{key}": x for key, x in known.items()}, path)
    assert name() == "alexnet-64px"


def test_every_real_picture_counts_once(toy):
    data, seen = load("pictures", channels=1), []

    def of(pixels, device):
        seen.append(pixels)
        return means(pixels, device)

    score(Feature("FID", lambda: "means", 4, str, of), [torch.zeros(9, 1, 8, 8, dtype=torch.uint8)], 9, data)
    real, _ = torch.cat(seen[:-1]), seen[-1]
    assert torch.equal(real, to_pixels(torch.cat([data.clean, data.corrupted, data.held_out])))


def test_features_of_many_pictures_are_kept_and_of_damaged_ones_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path))
    monkeypatch.setattr(reference, "KEPT", 20)
    calls, of = [], emlib.metrics.alexnet.alexnet_features
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_features", lambda x: calls.append(len(x)) or of(x))
    real = emlib.load("embedded").clean[:40]
    first = emlib.features_or_none(real)
    assert torch.equal(emlib.features_or_none(real), first)
    assert torch.equal(emlib.features_or_none(real[:19]), first[:19])  # few: looked at, not kept
    assert calls == [40, 19]
    emlib.features_or_none(real.flip(0))  # other pictures, another file
    files = sorted(reference.kept_in().iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"\x01")
    with pytest.warns(UserWarning, match="damaged.*so AlexNet looks at the real pictures again"):
        assert torch.equal(emlib.features_or_none(real), first)
    assert torch.equal(emlib.features_or_none(real), first)
    assert calls == [40, 19, 40, 40]


def test_a_file_that_is_no_such_statistics_is_refused(toy):
    data, feature = load("pictures", channels=1), reference.FEATURES["fid"]
    real_statistics(feature, data, 0, 20)
    (file,) = reference.kept_in().iterdir()
    file.rename(str(file).replace("-0-20-", "-0-21-"))
    with pytest.raises(ValueError, match="delete it"):
        real_statistics(feature, data, 0, 21)


def test_two_processes_make_the_same_samples_and_score_as_one(tmp_path, monkeypatch):
    """torchrun over gloo and the true AlexNet; each process draws one of the two shards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "SHARD", 256)  # as in the other processes
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "datasets"))
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(514):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4), 0), "prior.safetensors")
    words = ["--prior", "prior.safetensors", "--preset", "smoke", "--data", "pictures", "--samples", "264"]
    words = ["evaluate", *words, "--feature", "fd-alexnet", "--steps", "1"]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "emlib"]
    done = subprocess.run(
        [*run, *words, "--folder", "two"], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("FD-AlexNet") == 1  # only the first process scores
    assert main([*words, "--folder", "one"]) == 0
    one, two = (json.loads((tmp_path / name / "result.json").read_text())["rows"] for name in ("one", "two"))
    assert one[0]["FD-AlexNet"] == pytest.approx(two[0]["FD-AlexNet"], rel=1e-6)
    for a, b in zip(read_shards(tmp_path / "one", 264), read_shards(tmp_path / "two", 264), strict=True):
        assert torch.equal(a, b)

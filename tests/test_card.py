"""Model cards, and the way from a training to a folder that diffusers loads: train or em, export, reconstruct."""

import json
import re
from dataclasses import replace

import pytest
import torch
import yaml
from diffusers import UNet2DModel

import emlib
from emlib.cli.main import main
from emlib.hub.card import model_card
from emlib.runs import presets
from emlib.runtime.files import unsealed
from emlib.runtime.tensors import read_notes

CFG = emlib.UNetConfig(channels=(8, 16), groups=4, patch=1)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A preset of seconds with a network that diffusers knows, in an empty folder, without scores by AlexNet."""
    em = replace(presets.SMOKE.em, init_updates=2, m_updates=2)
    p = replace(presets.SMOKE, name="toy", em=em, samples=4, prior_updates=60, unet=CFG)
    monkeypatch.setitem(presets.PRESETS, "toy", p)
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(card):
    """The cells of all tables, a list a line."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_prior_is_trained_exported_and_used_from_its_folder(toy, capsys, monkeypatch):
    words = ["train", "--preset", "toy", "--seed", "3", "--out", "prior.safetensors"]
    monkeypatch.setattr("sys.argv", ["emlib/__main__.py", *words])
    assert main(words) == 0
    assert main(["export", "--prior", "prior.safetensors", "--out", "clean-prior"]) == 0
    assert "clean-prior" in capsys.readouterr().out
    card = (toy / "clean-prior" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "diffusers"
    assert body.startswith("\n# clean-prior\n")
    assert "trained on clean pictures" in body
    facts = dict(row for row in table(body) if len(row) == 2)
    assert facts["command"] == "`python -m emlib train --preset toy --seed 3 --out prior.safetensors`"
    assert facts["learned from"] == "Fashion-MNIST (10,000 test pictures)"
    assert facts["size"] == "28"
    assert "MIT licence, Zalando SE" in body
    assert json.loads((toy / "clean-prior" / "config.json").read_text())["sample_size"] == 28
    said = []
    for prior in ("prior.safetensors", "clean-prior"):
        assert main(["reconstruct", "--preset", "toy", "--prior", prior]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_the_code_on_a_card_runs_as_it_stands(toy, wake):
    emlib.save_pretrained(wake(emlib.build_unet(CFG, 0)), "net", {"size": "8"})
    blocks = re.findall(r"```python\n(.*?)```", (toy / "net" / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        there = {}
        exec(block, there)
        assert there["pictures"].shape == (4, 1, 8, 8)
        assert there["pictures"].isfinite().all()


def test_a_prior_of_em_carries_its_run_into_the_card(toy):
    assert main(["em", "--preset", "toy", "--operator", "blur", "--folder", "run"]) == 0
    for k in range(3):
        notes = read_notes(toy / "run" / f"prior_{k:02d}.safetensors")
        assert notes["iteration"] == str(k)
        assert json.loads(notes["settings"]) == unsealed(json.loads((toy / "run" / "settings.json").read_text()))
    export = ["export", "--prior", "run/prior_02.safetensors"]
    assert main([*export, "--out", "bare"]) == 0
    assert main([*export, "--out", "full", "--result", "run/result.json"]) == 0
    bare, full = ((toy / name / "README.md").read_text() for name in ("bare", "full"))
    for card in (bare, full):
        assert "learned from broken pictures (blur) by expectation-maximisation" in card
        assert "2 time(s) over" in card
        assert "MIT licence, Zalando SE" in card
        assert '"sampler": "mmps"' in card
    record = emlib.runs.record.read_result(toy / "run" / "result.json")
    assert "## Numbers" not in bare
    rows = table(full.split("## Numbers")[1])
    assert rows[0][0] == "iteration"
    column = rows[0].index("PSNR")
    assert [row[column] for row in rows[2:]] == [f"{r['PSNR']:.4g}" if "PSNR" in r else "" for r in record["rows"]]
    theirs = UNet2DModel.from_pretrained(toy / "full").state_dict()
    ours = emlib.load_unet(toy / "run" / "prior_02.safetensors").state_dict()
    assert all(torch.equal(x, theirs[key]) for key, x in ours.items())
    assert main(["export", "--prior", "run/prior_00.safetensors", "--out", "first"]) == 0
    assert "before any broken picture" in (toy / "first" / "README.md").read_text()


def test_another_runs_numbers_stay_out_of_the_card():
    model, notes = emlib.build_unet(CFG, 0), {"iteration": "1", "settings": json.dumps({"operator": "blur", "seed": 0})}
    record = {"settings": {"operator": "mask", "seed": 0}, "rows": [{"PSNR": 20.0}]}
    with pytest.raises(ValueError, match=r"has \{'operator': 'mask'\}, .* from \{'operator': 'blur'\}; name its own"):
        model_card(model, "net", notes, record)
    record["settings"]["operator"] = "blur"
    assert "| PSNR |" in model_card(model, "net", notes, record)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("CIFAR-10", "without a licence"),
        ("CelebA", "non-commercial research only"),
        ("folder mine", "was not kept with the weights. Say it here"),
        (None, "was not kept with the weights. Say it here"),
    ],
)
def test_the_card_says_whose_the_pictures_are(data, says):
    card = model_card(emlib.build_unet(CFG, 0), "net", {} if data is None else {"data": data})
    assert says in card.split("## The pictures")[1]
    assert "How it was trained was not kept" in card


def test_words_that_would_break_a_table_are_kept_in_their_cell():
    card = model_card(emlib.build_unet(CFG, 0), "net", {"remark": "a|b\nc"})
    assert "| remark | a\\|b c |" in card


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--prior", "absent.safetensors", "--out", "x"], "no file at absent.safetensors"),
        (["--prior", "no/such/place", "--out", "x"], "no file or folder at no/such/place"),
        (["--prior", "folded.safetensors", "--out", "x"], "folds pixels (patch=2, refine=0)"),
        (["--prior", "net.safetensors", "--out", "full"], "full is there already"),
        (["--prior", "net.safetensors", "--out", "x", "--result", "absent.json"], "no recorded run at absent.json"),
        (["--prior", "odd.safetensors", "--out", "x"], "the note 'settings' is no JSON object"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_no_folder(toy, capsys, net, words, says):
    emlib.save_unet(net, "folded.safetensors")
    emlib.save_unet(emlib.build_unet(CFG, 0), "net.safetensors")
    emlib.save_unet(emlib.build_unet(CFG, 0), "odd.safetensors", settings="mask")
    (toy / "full").mkdir()
    (toy / "full" / "mine.txt").write_text("mine")
    assert main(["export", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not (toy / "x").exists()
    assert not list(toy.glob(".x*"))


RESULTS = {
    "null": "null",
    "a number": "3",
    "a list": "[]",
    "no rows": '{"experiment": "em", "settings": {}}',
    "rows of words": '{"experiment": "em", "settings": {}, "rows": "PSNR"}',
    "a row of numbers": '{"experiment": "em", "settings": {}, "rows": [[1, 2]]}',
    "rows null": '{"experiment": "em", "settings": {}, "rows": null}',
    "settings a list": '{"experiment": "em", "settings": [], "rows": []}',
    "settings null": '{"experiment": "em", "settings": null, "rows": []}',
    "brackets": "[" * 10**5,
    "nothing": "",
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("said", RESULTS.values(), ids=RESULTS)
def test_what_is_no_recorded_run_is_refused_before_the_network_is_read(toy, capsys, monkeypatch, said):
    monkeypatch.setattr("emlib.cli.export.load_pretrained", lambda name: pytest.fail("the network was read"))
    (toy / "r.json").write_bytes(said if isinstance(said, bytes) else said.encode())
    assert main(["export", "--prior", "net.safetensors", "--out", "x", "--result", "r.json"]) == 2
    err = capsys.readouterr().err
    assert "r.json is no recorded run: " in err
    assert len(err.strip().splitlines()) == 1
    assert not (toy / "x").exists()

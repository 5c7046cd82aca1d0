"""The laboratory's files: small, complete, and weights that are the network's but for their rounding."""

from __future__ import annotations

import re

import pytest
import torch
from bs4 import BeautifulSoup
from lab_weights import LAB, read_prior, write_prior

import emlib
from emlib import viz
from emlib.viz.laboratory import BENCHES

DATA = re.compile(r"prior-\w+|pictures")
START = (LAB / "start.js").read_text(encoding="utf-8")
SCRIPTS = re.findall(r'"(\w+)"', "".join(re.findall(r"lab\.(?:PARTS|TOOLS) = \[(.*?)\];", START, re.DOTALL)))


def test_every_script_that_is_loaded_is_there_and_no_other():
    here = {path.stem for path in LAB.glob("*.js") if not re.fullmatch(r"prior-\w+", path.stem)}
    assert here == {"start", *SCRIPTS}
    assert {f"{bench}" for bench in BENCHES} <= set(SCRIPTS)
    for name in set(SCRIPTS) - {"pictures"}:
        assert f'lab.part("{name}"' in (LAB / f"{name}.js").read_text(encoding="utf-8")


def test_every_prior_that_is_offered_is_there_and_light():
    text = (LAB / "hide.js").read_text(encoding="utf-8")
    offered = set(re.findall(r'\["(em\d|clean)",', text))
    assert offered == {path.stem.removeprefix("prior-") for path in LAB.glob("prior-*.js")}
    for path in LAB.glob("prior-*.js"):
        assert path.stat().st_size < 4_000_000, path.name


def test_a_page_that_nobody_touches_loads_little_and_each_script_can_be_read():
    assert sum((LAB / name).stat().st_size for name in ("start.js", "lab.css")) < 8_000
    sizes = {path.name: path.stat().st_size for path in LAB.glob("*.js") if not DATA.fullmatch(path.stem)}
    assert {name: size for name, size in sizes.items() if size > 10_000} == {}


def test_a_prior_comes_back_but_for_the_rounding_of_its_rows(tmp_path):
    model = emlib.build_unet(emlib.preset("smoke").unet, seed=0)
    with torch.no_grad():
        for w in model.parameters():
            w.add_(0.1 * torch.randn(w.shape, generator=torch.Generator().manual_seed(w.numel())))
    back = read_prior(write_prior(model, "toy", "a toy", tmp_path))
    assert back.cfg == model.cfg
    for (name, w), found in zip(model.state_dict().items(), back.state_dict().values(), strict=True):
        step = w.flatten(1).abs().amax(dim=1).view(-1, *[1] * (w.ndim - 1)) / 127 if w.ndim > 1 else 0 * w
        assert ((w - found).abs() <= 0.5001 * step).all(), name


def test_the_clean_prior_of_the_page_is_the_checkpoint():
    right = emlib.load_unet(emlib.data.data_dir() / "checkpoints" / "fashion-mnist-clean.safetensors").state_dict()
    for name, w in read_prior(LAB / "prior-clean.js").state_dict().items():
        assert torch.allclose(w, right[name], atol=right[name].abs().max().item() / 250), name


def test_a_laboratory_is_its_still_picture_and_says_where_it_comes_alive():
    picture = viz.tile(torch.zeros(1, 1, 4, 4), columns=1)
    found = BeautifulSoup(viz.laboratory("hide", picture, "A <hole>", "Try & see.", sampler='d"s').data, "html.parser")
    assert found.figure["data-lab"] == "hide"
    assert found.figure["data-sampler"] == 'd"s'
    assert found.img["alt"] == "A <hole>"
    assert found.figcaption.text == "Laboratory. Try & see."
    assert found.script is None, "a notebook and Colab show the picture alone"


@pytest.mark.parametrize(
    ("bench", "alt", "says"), [("paint", "a", "unknown bench 'paint'; there are draw"), ("em", " ", "alt")]
)
def test_a_laboratory_without_bench_or_alt_text_is_refused(bench, alt, says):
    with pytest.raises(ValueError, match=says):
        viz.laboratory(bench, viz.tile(torch.zeros(1, 1, 4, 4), columns=1), alt, "c")

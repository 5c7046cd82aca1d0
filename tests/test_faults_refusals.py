"""Words, experiments and places that mean nothing: status 2, one sentence that names the value, nothing written."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

import emlib
from emlib.cli.main import main


@pytest.fixture
def here(toy_preset, monkeypatch, tmp_path):
    monkeypatch.setenv("EMLIB_PRESET", "toy")
    monkeypatch.setattr("emlib.planning.dry_run.rate_here", lambda *words: (1e12, "not timed"))
    monkeypatch.setattr("emlib.cli.evaluate.choose_features", lambda *_: ([], []))
    for read in ("cli.em.task_of", "experiments.run.make_task"):
        monkeypatch.setattr(f"emlib.{read}", lambda *_, **__: pytest.fail("pictures were read"))
    return tmp_path


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def refused(folder, capsys, words):
    """The sentence that a command ends in, once it has written nothing."""
    before = listing(folder)
    assert main(words) == 2, words
    out, err = capsys.readouterr()
    assert listing(folder) == before
    assert "Traceback" not in out + err
    if err:
        assert err.startswith(f"emlib {words[0]}: ")
        assert err.count("\n") == 1
        return err
    return next(line for line in out.splitlines() if line.startswith("missing") and "AlexNet" not in line)


# ---- words ----

WORDS = [
    (["em", "--data", ""], "--data is empty; leave it out or name something"),
    (["train", "--data", "", "--out", "x.safetensors"], "--data is empty"),
    (["em", "--fraction", "1e-9"], "a fraction of 1e-09 hides no pixel of 28 x 28; 0.6 hides 60 %"),
    (["em", "--fraction", "0.9999999"], "a fraction of 0.9999999 hides every pixel of 28 x 28; 0.6 hides 60 %"),
    (["em", "--operator", "noise", "--noise-std", "0.1", "--fraction", "7"], "the operator noise has no --fraction"),
    (["em", "--scale", "garbage"], "--scale takes a number or auto"),
    (["em", "--scale", "-1"], "--scale must be above 0 and finite, got -1"),
    (["em", "--noise-std", "1e300"], "so 1e+300 is too much"),
    (["em", "--noise-std", "nan"], "got nan"),
    (["cost", "--scale", "nan"], "--scale must be above 0 and finite, got nan"),
    (["cost", "--scale", "garbage"], "got 'garbage'"),
]


@pytest.mark.parametrize(("words", "says"), WORDS, ids=lambda word: " ".join(word)[:40] if type(word) is list else "")
def test_words_that_mean_nothing(here, capsys, words, says):
    assert says in refused(here, capsys, words)
    if words[0] == "em":
        assert says in refused(here, capsys, [*words, "--dry-run"])


PATHS = [
    ["em", "--folder", ""],
    ["em", "--out", " "],
    ["train", "--out", ""],
    ["evaluate", "--prior", "x", "--folder", ""],
    ["reconstruct", "--prior", "x", "--picture", ""],
    ["export", "--prior", "x", "--out", ""],
    ["experiment", "table-embedded-mask", "--folder", ""],
    ["restore", ""],
    ["restore", "x", "--clean", ""],
]


@pytest.mark.parametrize("words", PATHS, ids=" ".join)
def test_a_path_that_names_nothing_is_not_the_folder_one_is_in(here, capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    option = words[-2] if words[-2].startswith("--") else "broken"
    assert f"argument {option}: is empty; leave it out or name something" in capsys.readouterr().err
    assert list(here.iterdir()) == []


# ---- experiments ----

TABLE = {"about": "x", "preset": "toy", "operator": "mask", "methods": ["observed"], "seeds": [0]}
ODD = {
    "seeds": ["abc", [1.5], [None], [-1], [2**70], [True], ["0"], [[0]], [], None, 0, {}],
    "methods": [[], "observed", None, [None], [3], ["magic"], {}],
    "iterations": [2.5, 10**9, 0, -1, "2", [], True],
    "cg_steps": ["2", 0, 1.5, {}],
    "longer": [None, 0, "2", [1]],
    "fraction": ["x", None, [0.5], True, float("nan")],
    "noise_std": ["0.1", None, [], float("inf"), -1, 1e300],
    "operator": [None, 3, [], "haze"],
    "preset": [None, 3, [], "huge"],
    "about": [3, None, []],
    "other": [3, None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in ODD for value in ODD[key]])
def test_experiments_that_mean_nothing(here, capsys, key, value):
    (here / "odd.json").write_text(json.dumps({**TABLE, key: value}))
    assert key[:4] in refused(here, capsys, ["experiment", "odd.json"])  # "seed", of "seeds"


@pytest.mark.parametrize(
    "content", ["", "null", "3", "[]", '"x"', "{", "{}", "[" * 100_000, '{"a": ' * 50_000, "\0\xff"]
)
def test_files_that_are_no_experiments(here, capsys, content):
    (here / "odd.json").write_text(content)
    assert "odd.json" in refused(here, capsys, ["experiment", "odd.json"])


DONE = {"rows": [{"method": "observed", "seed": 0, "seconds": 1.0}], "task": {}, "commit": "x"}
ROWS = [[], None, {}, 3, "x", [1], [[]], [None], [{}], [{"seconds": "x"}], [{"seconds": None}]]


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", "3", "{", "{}", "[" * 100_000, *(json.dumps({**DONE, "rows": rows}) for rows in ROWS)]
    + [json.dumps({**DONE, key: 3}) for key in ("task", "commit")],
)
def test_a_kept_method_that_is_damaged_is_named_with_the_remedy(here, capsys, content):
    (here / "table.json").write_text(json.dumps(TABLE))
    kept = here / "t" / "seed-0" / "observed.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(content)
    assert main(["experiment", "table.json", "--out", "t.json"]) == 2
    said = capsys.readouterr().err
    assert "seed-0/observed.json" in said
    assert "delete it, and the same command runs it" in said
    assert not (here / "t.json").exists()
    assert kept.read_text() == content


# ---- places ----

LONG = "n" * 300
BAD = ["file", "file/x", "loop", LONG, "dangling", "loop/x"]


@pytest.fixture
def places(here):
    (here / "file").write_text("x")
    (here / "dangling").symlink_to("nowhere")
    (here / "loop").symlink_to("loop")
    (here / "in").mkdir()
    Image.new("L", (32, 32)).save(here / "in" / "x.png")
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4), 0), here / "w.safetensors")
    return here


@pytest.mark.parametrize("place", BAD, ids=lambda place: place[:10])
@pytest.mark.parametrize(
    "words",
    [
        ["em", "--folder"],
        ["em", "--tensorboard"],
        ["evaluate", "--prior", "w.safetensors", "--samples", "4", "--steps", "1", "--folder"],
        ["restore", "in", "--noise", "0.1", "--start", "preprocessed", "--out"],
        ["export", "--prior", "w.safetensors", "--out"],
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_places_that_cannot_be_written_to(places, capsys, words, place):
    said = refused(places, capsys, [*words, place])
    assert place[:30] in said
    assert "name another" in said
    if words[0] == "em":
        assert place[:30] in refused(places, capsys, [*words, place, "--dry-run"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
@pytest.mark.parametrize(
    "words", [["em", "--out"], ["em", "--dry-run", "--out"], ["evaluate", "--prior", "w.safetensors", "--out"]], ids=str
)
def test_a_pipe_is_not_written_to(places, capsys, words):
    os.mkfifo(places / "pipe.json")
    assert "pipe.json is no regular file" in refused(places, capsys, [*words, "pipe.json"])

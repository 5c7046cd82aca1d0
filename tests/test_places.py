"""Places to write are tried before any work, what is not ours stays, and nothing is left behind."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rights import bound

import emlib
from emlib.cli.main import main
from emlib.runs.outputs import try_picture, try_result, try_weights
from emlib.runtime.files import write_json
from emlib.runtime.places import try_folder
from emlib.viz.figures import save_grid

LONG = "n" * 300


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.setenv("EMLIB_PRESET", "smoke")
    monkeypatch.setattr("emlib.planning.dry_run.rate_here", lambda *words: (1e12, "not timed"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling.json").symlink_to("nowhere")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "thesis.png").write_bytes(b"\x89PNG of mine")
    (tmp_path / "mine.json").write_text('{"a": 1}')
    return tmp_path


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


OUT = ["dir", "file/x.json", f"{LONG}.json", "dangling.json", "loop.json", "o.png", "thesis.txt", "thesis.json"]
OUT += ["mine.json", "a\udcff/x.json", "/dev/full"]
ELSEWHERE = [["--folder", name] for name in ("file", "file/x", LONG, "loop.json", "a\udcff", "a\0b")]
ELSEWHERE += [["--tensorboard", name] for name in ("file", "file/x", LONG, "loop.json")]
PROC = pytest.param(["--out", "/proc/x.json"], marks=pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc"))


@pytest.mark.parametrize("words", [*(["--out", name] for name in OUT), *ELSEWHERE, PROC], ids=lambda w: ascii(w)[:30])
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "real"])
def test_em_tries_every_place_before_its_first_update_and_in_the_dry_run(here, capsys, monkeypatch, words, dry):
    monkeypatch.setattr("emlib.cli.em.task_of", lambda *_: pytest.fail("pictures were read"))
    before = listing(here)
    assert main(["em", *words, *dry]) == 2
    out, err = capsys.readouterr()
    assert "name another" in out + err
    assert "Traceback" not in out + err
    assert listing(here) == before


@pytest.mark.parametrize(
    "name", ["dir", "file/x.safetensors", "thesis.png", "thesis.txt", "a\udcff/x.safetensors", "x"]
)
def test_train_tries_its_place_before_any_update(here, capsys, monkeypatch, name):
    monkeypatch.setattr("emlib.cli.train.make_task", lambda *_, **__: pytest.fail("pictures were read"))
    before = listing(here)
    assert main(["train", "--out", name]) == 2
    assert "name another" in capsys.readouterr().err
    assert listing(here) == before


@pytest.mark.parametrize("name", ["dir", "file/x.png", "x.bmp", "thesis.png"])
def test_reconstruct_tries_its_place_before_it_reads_the_prior(here, capsys, name):
    before = listing(here)
    assert main(["reconstruct", "--prior", "absent.safetensors", "--picture", name]) == 2
    assert "name another" in capsys.readouterr().err
    assert listing(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ["em", "--dry-run", "--data"],
        ["train", "--out", "w.safetensors", "--data"],
        ["restore", "pictures", "--clean"],
        ["restore", "pictures", "--start", "preprocessed", "--masks"],
        ["restore"],
        ["evaluate", "--prior", "w.safetensors", "--data"],
        ["experiment", "table-embedded-mask", "--preset", "smoke", "--data"],
        ["reconstruct", "--prior"],
    ],
    ids=" ".join,
)
def test_a_word_that_is_no_utf_8_is_refused_before_anything(here, capsys, monkeypatch, words):
    """Such a folder may well be there, and is kept by name in notes that are UTF-8."""
    for reader in ("emlib.runs.task.load", "emlib.cli.restore.restore", "emlib.cli.evaluate.load_pretrained"):
        monkeypatch.setattr(reader, lambda *_, **__: pytest.fail("work began"))
    try:
        (here / "a\udcff").mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system holds UTF-8 alone")
    (here / "pictures").mkdir()
    before = listing(here)
    assert main([*words, "a\udcff"]) == 2
    err = capsys.readouterr().err
    assert r"a\udcff is no word in UTF-8" in err
    assert "name another" in err
    assert len(err.splitlines()) == 1
    assert listing(here) == before


def test_evaluate_experiment_export_and_restore_try_theirs(here, capsys):
    table = {"about": "x", "preset": "smoke", "operator": "mask", "methods": ["observed"], "seeds": [0]}
    (here / "table.json").write_text(json.dumps(table))
    (here / "in").mkdir()
    Image.new("L", (32, 32)).save(here / "in" / "x.png")
    before = listing(here)
    for words in (
        ["evaluate", "--prior", "absent.safetensors", "--out", "thesis.txt"],
        ["experiment", "table.json", "--out", "t.png"],
        ["experiment", "table.json", "--out", "mine.json"],
        ["experiment", "table.json", "--out", "t.json", "--folder", "file"],
        ["export", "--prior", "absent.safetensors", "--out", "file"],
        ["export", "--prior", "absent.safetensors", "--out", "in"],
        ["restore", "in", "--start", "preprocessed", "--noise", "0.1", "--out", "file"],
    ):
        assert main(words) == 2, words
        assert "name another" in capsys.readouterr().err
    (here / "full").mkdir()
    (here / "full" / "report.html").write_text("mine")
    assert main(["restore", "in", "--start", "preprocessed", "--noise", "0.1", "--out", "full"]) == 2
    assert "report.html is there already" in capsys.readouterr().err
    (here / "full" / "report.html").unlink()
    (here / "full").rmdir()
    assert listing(here) == before


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "link to a pipe", "link to itself"])
def test_nothing_but_a_regular_file_is_ever_replaced(here, kind):
    place = here / "x.json"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind("x.json")
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(here / "pipe")
        place.symlink_to("pipe" if kind == "link to a pipe" else "x.json")
    before = listing(here), place.stat(follow_symlinks=False).st_mode
    with pytest.raises(OSError, match="no regular file, so nothing is written in its place"):
        write_json(place, {})
    assert (listing(here), place.stat(follow_symlinks=False).st_mode) == before


def test_ours_are_replaced(here, tiny):
    emlib.save_unet(emlib.build_unet(tiny, 0), here / "w.safetensors")
    try_weights(here / "w.safetensors")
    emlib.runs.record.write_result("r.json", "em", {}, [], 1.0)
    (here / "r.png").write_bytes(b"a picture of an older release, which had no mark")
    try_result(here / "r.json", "em", ".png")
    with pytest.raises(ValueError, match="not a recorded run of evaluate"):
        try_result(here / "r.json", "evaluate")
    for kind in ("png", "pdf", "svg"):
        save_grid({"x": emlib.load("embedded").clean[:2]}, here / f"g.{kind}")
        try_picture(here / f"g.{kind}")
    try_folder(here / "new" / "deep")
    assert not (here / "new").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["em", "--folder", "dir/run", "--dry-run"],
        ["em", "--folder", "dir"],
        ["em", "--out", "dir/x.json", "--dry-run"],
        ["em", "--tensorboard", "dir", "--dry-run"],
        ["train", "--out", "dir/x.safetensors"],
        ["restore", "in", "--noise", "0.1", "--start", "preprocessed", "--out", "dir/new"],
        ["evaluate", "--prior", "w.safetensors", "--samples", "4", "--steps", "1", "--folder", "dir"],
        ["export", "--prior", "w.safetensors", "--out", "dir/new"],
    ],
    ids=" ".join,
)
def test_a_read_only_folder_is_noticed_before_any_work(here, capsys, monkeypatch, words):
    monkeypatch.setattr("emlib.cli.evaluate.choose_features", lambda *_: ([], []))
    (here / "in").mkdir()
    Image.new("L", (32, 32)).save(here / "in" / "x.png")
    emlib.save_unet(emlib.build_unet(emlib.UNetConfig(channels=(8, 16), groups=4), 0), here / "w.safetensors")
    (here / "dir").chmod(0o500)
    before = listing(here)
    with bound() as binds:
        if not binds:
            pytest.skip("the superuser may write everywhere and cannot lay that right down on this system")
        assert main(words) == 2
    said = "".join(capsys.readouterr())
    assert "cannot be written to (Permission denied); name another" in said
    assert listing(here) == before


def test_commands_that_start_together_do_not_take_each_others_folders_away(here, monkeypatch):
    """A folder made for a trial was found by the other command, and gone when that wrote to it."""
    before = listing(here)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("a folder was made"))
    try_folder(Path("new/er"))
    assert listing(here) == before


def test_a_disk_without_room_is_noticed(here):
    """A limit on the size of files is what can be had of a full disk without one."""
    code = (
        "import resource, pathlib; from emlib.runtime.places import try_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: try_folder(pathlib.Path('dir'))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "dir cannot be written to (File too large)" in done.stdout, done.stderr
    assert list((here / "dir").iterdir()) == []


def test_a_figure_is_saved_without_a_change_to_the_callers_backend(here):
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("svg")
    try:
        mine = plt.figure()
        save_grid({"x": emlib.load("embedded").clean[:2]}, here / "g.png")
        assert matplotlib.get_backend() == "svg"
        assert plt.get_fignums() == [mine.number]
    finally:
        plt.close("all")
        matplotlib.use("Agg")
    with pytest.raises(ValueError, match="does not end in .png"):
        save_grid({"x": emlib.load("embedded").clean[:2]}, here / "g.bmp")


def test_statistics_that_cannot_be_kept_are_said_and_used(here, monkeypatch):
    """A folder of data sets that takes no file costs no sample that is drawn."""
    from emlib.metrics.reference import Feature, real_statistics

    monkeypatch.setenv("EMLIB_DATASETS", str(here / "file"))
    flat = Feature("FD", lambda: "flat", 784, lambda: "", lambda pixels, device: pixels.flatten(1).float())
    with pytest.warns(UserWarning, match="were not kept for the next time"):
        found = real_statistics(flat, emlib.load("embedded"), 0, 8)
    assert found.n == 8


def test_more_samples_than_the_disk_holds_are_refused_before_any(here, capsys, tiny):
    unet = emlib.UNetConfig(channels=(8, 16), groups=4)
    emlib.save_unet(emlib.build_unet(unet, 0), here / "w.safetensors")
    before = listing(here)
    assert main(["evaluate", "--prior", "w.safetensors", "--samples", "1" + "0" * 15, "--steps", "1"]) == 2
    assert "GB free; ask for less" in capsys.readouterr().err
    assert listing(here) == before

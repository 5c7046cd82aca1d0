"""The scripts behind ``make reproduce`` and ``make validate``: what they compare, and what they say."""

import json
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from reproduce import RESULTS, TOLERANCE, compared, unmade
from reproduce import main as reproduce
from validate import main as validate

from emlib.em.identity import completed
from emlib.em.initial import fit_gaussian
from emlib.experiments.config import Experiment, read_experiment
from emlib.experiments.methods import METHODS
from emlib.experiments.recorded import Recorded, as_recorded
from emlib.experiments.run import run_missing
from emlib.experiments.table import gather
from emlib.posterior import SAMPLERS
from emlib.runs import presets


def write_pictures(folder, count):
    g = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        Image.fromarray(g.integers(0, 255, (28, 28), dtype=np.uint8)).save(folder / f"{i}.png")


def test_numbers_are_held_against_the_record_row_by_row():
    row = {"method": "em-mmps", "by": "MMPS", "seed": 0, "PSNR": 22.0, "FD-AlexNet": 100.0, "seconds": 3.0}
    recorded = {"rows": [row, {**row, "seed": 1}]}
    near = {**row, "PSNR": 22.0 + 0.9 * TOLERANCE["PSNR"][0], "FD-AlexNet": 104.0, "seconds": 99.0}
    assert [(column, well) for _, column, *_, well in compared(recorded, {"rows": [near]})] == [
        ("PSNR", True),
        ("FD-AlexNet", True),
    ]
    far = {**row, "PSNR": 21.8, "FD-AlexNet": float("nan")}
    assert [well for *_, well in compared(recorded, {"rows": [far]})] == [False, False]
    assert list(compared(recorded, {"rows": [{**row, "method": "another"}]})) == []


def test_what_cannot_be_run_again_is_named_with_what_made_it(capsys):
    assert reproduce(["no-such-table"]) == 2
    assert "no recorded run at" in capsys.readouterr().err
    assert reproduce(["em-mask-pocket"]) == 2
    said = capsys.readouterr().err
    assert "a record of em is no table of methods" in said
    assert re.search(r"made by `python -m emlib em .*` at commit [0-9a-f]{12}", said)
    assert reproduce(["table-embedded-mask", "--methods", "em-mmps", "magic"]) == 2
    assert "no row of method magic; there are observed, classical, " in capsys.readouterr().err


TABLES = sorted(
    {path.parent.name for path in RESULTS.glob("*/seed-*") if (RESULTS / f"{path.parent.name}.json").is_file()}
)


def test_every_recorded_table_can_be_run_at_its_own_settings():
    """As they were written: the recipe has had another optimiser, network and solver since."""
    assert len(TABLES) >= 12
    for name in TABLES:
        record = json.loads((RESULTS / f"{name}.json").read_text())
        was = as_recorded(record, RESULTS / name)
        written = json.loads((RESULTS / name / f"seed-{was.experiment.seeds[0]}" / "settings.json").read_text())
        now = json.loads(json.dumps({**asdict(was.sizes), "solver": was.solver}))
        assert {key: now[key] for key in completed(written, now) if key in now} == {
            key: value for key, value in completed(written, now).items() if key in now
        } | {"data": record["settings"]["sizes"]["data"]}
        assert set(was.experiment.methods) == {row["method"] for row in record["rows"]}


@pytest.fixture
def recorded(toy_preset, monkeypatch):
    """A table recorded by a recipe of before, in whose place presets and the experiment have had another since."""
    # sixteen eigenvalue problems of 784 numbers are most of the time of a toy
    monkeypatch.setattr("emlib.baselines.diem.fit_gaussian", partial(fit_gaussian, iterations=1))
    before = replace(toy_preset, em=replace(toy_preset.em, optimizer="adamw", clean_copies=0))
    monkeypatch.setitem(presets.PRESETS, "toy", before)
    results = Path("data") / "results"
    said = {"about": "A toy.", "preset": "toy", "operator": "blur", "seeds": [0, 1]}
    said["methods"] = ["observed", "em-mmps", "diem", "em-dps-paper"]
    Path("experiments").mkdir()
    Path("experiments/toy.json").write_text(json.dumps(said))
    experiment = read_experiment("toy")
    for seed, methods in {0: said["methods"][:3], 1: ["observed"]}.items():
        folders = (Path("runs") / str(seed), results / "toy" / f"seed-{seed}")
        with monkeypatch.context() as then:
            then.setitem(SAMPLERS, "mmps", SAMPLERS["mmps-plain"])  # all the MMPS that there was
            for _ in run_missing(experiment, methods, seed, *folders, "embedded"):
                pass
    gather(experiment, "toy", results / "toy", results / "toy.json", "as it was")
    for file in [results / "toy.json", *results.glob("toy/seed-*/settings.json")]:  # older than these names
        text = json.loads(file.read_text())
        inner = text.get("settings", text)
        sizes = inner.get("sizes", inner)
        del inner["solver"], sizes["unet"]["refine"]
        sizes["data"] = "pictures of somebody's"  # a folder, which may lie anywhere
        for name in ("optimizer", "clean_copies", "last_updates"):
            sizes["em"].pop(name)
        file.write_text(json.dumps(text))
    em, unet = replace(toy_preset.em, m_updates=3), replace(toy_preset.unet, refine=8)
    other = replace(toy_preset, em=em, unet=unet, cg_steps=2, held_out=2)
    monkeypatch.setitem(presets.PRESETS, "toy", other)
    Path("experiments/toy.json").write_text(json.dumps({**said, "operator": "mask"}))
    monkeypatch.setattr("reproduce.RESULTS", results)
    return results / "toy.json"


def test_a_record_is_run_again_at_its_own_settings_whatever_they_are_today(recorded, capsys, monkeypatch):
    before = recorded.read_bytes()
    assert reproduce(["toy"]) == 2
    assert "name their place by --data" in capsys.readouterr().err
    assert reproduce(["toy", "--data", "embedded"]) == 0
    said = capsys.readouterr().out
    assert "at the sizes of its record (toy, adamw, plain MMPS)" in said
    assert "OTHER" not in said
    assert recorded.read_bytes() == before
    was, now = (json.loads(file.read_text()) for file in (recorded, Path("runs/reproduced/toy.json")))
    drop = {"seconds", "processor seconds", "threads"}
    rows, again = ([{k: v for k, v in row.items() if k not in drop} for row in x["rows"]] for x in (was, now))
    assert again == rows  # on the same machine to the last bit
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("observed", 0),
        ("em-mmps", 0),
        ("diem", 0),
        ("observed", 1),
    ]
    # what has run is not run again; a number that is another one is told with the commit of its code
    monkeypatch.setattr("emlib.experiments.run.make_task", None)
    part = recorded.parent / "toy" / "seed-0" / "em-mmps.json"
    kept = json.loads(part.read_text())
    part.write_text(json.dumps({**kept, "commit": "c0ffee+changes"}))
    was["rows"][1]["PSNR"] += 1
    recorded.write_text(json.dumps(was))
    assert reproduce(["toy", "--data", "embedded"]) == 1
    said = capsys.readouterr().out
    assert said.count("OTHER") == 1
    assert "em-mmps (seed 0) was recorded by the code of c0ffee+changes: git checkout c0ffee" in said


def test_a_row_that_is_not_made_is_no_success():
    rows = [{"method": "em-mmps", "by": by, "seed": 0, "PSNR": 20.0} for by in ("MMPS", "DPS")]
    experiment = Experiment("", "smoke", "mask", ("em-mmps",), (0,))
    was = Recorded(experiment, experiment.sizes(), "plain")
    assert unmade({"rows": rows}, {"rows": rows[:1]}, was) == ["em-mmps, DPS, 0"]
    assert unmade({"rows": [*rows, {**rows[0], "seed": 1}]}, {"rows": rows}, was) == []


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A recorded table in a folder of its own, where a test may change it."""
    shutil.copytree(RESULTS / "worth-embedded", tmp_path / "worth-embedded")
    shutil.copy(RESULTS / "worth-embedded.json", tmp_path)
    monkeypatch.setattr("reproduce.RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "worth-embedded.json"


@pytest.mark.parametrize(("data", "says"), [("mine", "mine holds 'folder mine', fingerprint "), ("nowhere", "nowhere")])
def test_other_pictures_than_the_records_are_refused(copied, capsys, data, says):
    write_pictures(Path("mine"), 40)
    assert reproduce(["worth-embedded", "--data", data]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "the record's pictures are 'Fashion-MNIST (10,000 test pictures)', fingerprint cc1d090a38ace84d" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda said: said["sizes"].update(colour="blue"), "the record's sizes are not those of a preset of today"),
        (lambda said: said["sizes"].pop("samples"), "the record's sizes are not those of a preset of today"),
        (lambda said: said["sizes"].update(em=None), "the record's sizes are not those of a preset of today"),
        (lambda said: said.update(operator="haze"), "unknown operator 'haze'"),
        (lambda said: said.update(solver="magic"), "nothing here solves for MMPS as 'magic'; there are preconditioned"),
        (lambda said: said.pop("sizes"), "no table of methods"),
        (lambda said: shutil.rmtree("worth-embedded"), "the record does not say how MMPS solved"),
    ],
)
def test_a_record_that_todays_code_cannot_run_names_the_code_that_can(copied, capsys, change, says):
    record = json.loads(copied.read_text())
    change(record["settings"])
    copied.write_text(json.dumps({**record, "commit": "c0ffee"}))
    assert reproduce(["worth-embedded"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "made by `python -m emlib experiment worth-embedded` at commit c0ffee" in said


def test_a_method_that_is_gone_is_named(copied, capsys, monkeypatch):
    monkeypatch.delitem(METHODS, "clean-300")
    assert reproduce(["worth-embedded"]) == 2
    assert "nothing here runs clean-300 any more" in capsys.readouterr().err


@pytest.fixture
def notebook(tmp_path):
    def write(*cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbformat.write(book, tmp_path / "mine.ipynb")
        return str(tmp_path / "mine.ipynb")

    return write


def test_a_notebook_that_runs_is_said_to(notebook, capsys, tmp_path):
    assert validate([notebook("x = 1", "print(x)")]) == 0
    assert capsys.readouterr().out == "mine.ipynb: every cell runs\n"
    assert [file.name for file in tmp_path.iterdir()] == ["mine.ipynb"]


def test_the_cell_that_failed_is_named_with_its_reason(notebook, capsys):
    assert validate([notebook("x = 1", "# a look\nprint(x / 0)", "print(x)")]) == 1
    said = capsys.readouterr().out
    assert "mine.ipynb: 1 cell(s) failed, the first is" in said
    assert "code cell 2 (# a look): ZeroDivisionError: division by zero" in said
    assert validate(["absent.ipynb"]) == 1


def test_the_chapters_that_differ_from_the_last_commit_are_found(tmp_path, monkeypatch, capsys):
    book = tmp_path / "book"
    book.mkdir()
    names = ["a.md", "a.ipynb", "b.md", "b.ipynb", "c.ipynb", "gone.ipynb", "page.md", "same.md", "ö b.md"]
    for name in names:
        (book / name).write_text("---\njupytext:\n" if name != "page.md" else "# A page")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr("validate.ROOT", tmp_path)
    asked = []
    monkeypatch.setattr("validate.validate", lambda path: asked.append(path.name) or [])
    assert validate([]) == 0
    assert "no chapter differs" in capsys.readouterr().out
    for name in ("a.md", "a.ipynb", "b.ipynb", "c.ipynb", "page.md", "ö b.md"):
        (book / name).write_text((book / name).read_text() + "changed")
    (book / "gone.ipynb").unlink()
    (book / "new.md").write_text("---\njupytext:\n")
    assert validate([]) == 0
    assert asked == ["a.md", "b.ipynb", "c.ipynb", "new.md", "ö b.md"]

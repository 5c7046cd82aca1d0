"""The scripts behind ``make reproduce`` and ``make validate``: what they compare, and what they say."""

import json
import subprocess
from dataclasses import asdict

import nbformat
import pytest
from reproduce import TOLERANCE, compared
from reproduce import main as reproduce
from validate import main as validate

from emlib.experiments.config import read_experiment


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


def test_an_experiment_that_was_never_recorded_is_named(capsys):
    assert reproduce(["no-such-table"]) == 2
    assert "no recorded run at" in capsys.readouterr().err


def test_a_record_of_other_sizes_is_refused_with_its_commit(capsys, monkeypatch):
    """Table 1's record is older than the optimiser's and the solver's name; those it used are known."""
    now = json.loads(json.dumps(asdict(read_experiment("table-embedded-mask").sizes())))
    old = {**now, "em": {k: v for k, v in now["em"].items() if k != "optimizer"} | {"m_updates": 77}}
    monkeypatch.setattr(
        "reproduce.read_result", lambda path: {"settings": {"sizes": old}, "commit": "c0ffee", "rows": []}
    )
    assert reproduce(["table-embedded-mask"]) == 2
    said = capsys.readouterr().err
    assert f"em.m_updates was 77, is {now['em']['m_updates']}; em.optimizer was 'adamw', is 'muon'" in said
    assert "git checkout c0ffee" in said


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

import json
import subprocess
import sys

import pytest

from emlib.runs.record import read_result, write_result
from emlib.runtime.files import atomic_file, write_json

ROWS = [{"iteration": 0, "PSNR": 20.75}, {"iteration": 1, "PSNR": 21.5, "note": "λ = 2"}]
SETTINGS = {"preset": "smoke", "seed": 0, "data": "Fashion-MNIST"}


def test_a_run_comes_back_as_it_was_written_with_its_provenance(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["emlib", "em", "--operator", "mask"])
    path = tmp_path / "results" / "em.json"
    write_result(path, "em", SETTINGS, ROWS, 12.34)
    record = read_result(path)
    assert (record["experiment"], record["settings"], record["rows"]) == ("em", SETTINGS, ROWS)
    assert record["seconds"] == 12.3
    assert record["command"] == "python -m emlib em --operator mask"
    assert {"commit", "torch", "python", "device", "recorded"} < set(record)
    assert [p.name for p in path.parent.iterdir()] == ["em.json"]


def test_the_commit_is_the_one_git_tells_or_it_says_there_is_none(tmp_path, monkeypatch):
    import torch

    from emlib.runs import record

    said = record.provenance()
    git = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    expected = git.stdout.strip() if git.returncode == 0 else "not in a git checkout"
    assert said["commit"].removesuffix("+changes") == expected
    assert said["torch"] == torch.__version__.split("+")[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.provenance()["commit"] == "not in a git checkout"


def test_a_strangers_repository_lends_no_commit(tmp_path, monkeypatch):
    """Installed into an environment below somebody's checkout, whose commit says nothing of emlib's code."""
    from emlib.runs import record

    here = tmp_path / ".venv" / "emlib" / "runs"
    here.mkdir(parents=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(record, "__file__", str(here / "record.py"))
    assert record.provenance()["commit"] == "not in a git checkout"


def test_a_benchmark_records_the_script_that_ran(monkeypatch):
    from emlib.runs.record import command_line

    monkeypatch.setattr(sys, "argv", ["/anywhere/benchmarks/samplers.py", "--quick"])
    assert command_line() == "python benchmarks/samplers.py --quick"


def test_the_command_keeps_words_that_hold_spaces_together(monkeypatch):
    import shlex

    from emlib.runs.record import command_line

    words = ["em", "--data", "my pictures", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", ["emlib", *words])
    assert shlex.split(command_line()) == ["python", "-m", "emlib", *words]


def test_a_run_that_was_never_recorded_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json; data/results/README\.md lists the command"):
        read_result(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"rows": []}', "lacks experiment, settings"), ("not json", "bad.json"), ("[1, 2]", "no JSON object, but list")],
    ids=["parts missing", "no JSON", "a list"],
)
def test_files_that_are_no_recorded_run_are_refused_by_name(tmp_path, text, says):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=says) as refusal:
        read_result(tmp_path / "bad.json")
    assert "bad.json" in str(refusal.value)


def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_half_one(tmp_path):
    path = tmp_path / "weights"
    path.write_text("old")

    def write():
        with atomic_file(path) as part:
            part.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_file(path) as part:
        part.write_text("first half, ")
        assert not path.exists()
        with part.open("a") as file:
            file.write("second half")
    assert path.read_text() == "first half, second half"
    assert [p.name for p in path.parent.iterdir()] == ["file"]

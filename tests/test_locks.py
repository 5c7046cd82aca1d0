"""One run a folder: another process is told, and a killed one leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import em_process
import pytest

from emlib.em.checkpoint import RunFolder
from emlib.runtime.files import atomic_file
from emlib.runtime.locks import FolderInUse, Hold, held_elsewhere

SCRIPT = Path(__file__).with_name("em_process.py")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_second_run_in_the_same_folder_is_told_and_the_first_goes_on(tmp_path):
    """Interleaved, they would sweep each other's shards."""
    moment = "1 E-step 4"
    command = [sys.executable, str(SCRIPT), str(tmp_path), "clean", moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD) as first:
        assert next((line for line in first.stdout if line.strip() == moment), None)
        before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
        assert held_elsewhere(tmp_path)
        with pytest.raises(FolderInUse, match="in use by another run; wait until it has ended"):
            em_process.loop(tmp_path, "clean")
        assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
        first.kill()
    assert not held_elsewhere(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"settings.json", "prior_00.safetensors", "shards_01"}, "a killed run leaves no trace of its lock"
    assert [event for event in em_process.loop(tmp_path, "clean")][-1].iteration == 2


def test_within_a_process_the_newest_run_has_the_folder(tmp_path):
    """A notebook's interrupted cell may be held by its traceback: the cell run again must not be refused."""
    first, second = em_process.loop(tmp_path, "clean"), em_process.loop(tmp_path, "clean")
    assert next(second).stage == "first prior"
    with pytest.raises(FolderInUse, match="began later in this process"):
        for _ in first:
            pass
    assert [event for event in second][-1].iteration == 2


def test_a_folder_is_free_once_nobody_has_the_run(tmp_path):
    keep = RunFolder(tmp_path)
    keep.hold()
    code = "import sys; from emlib.runtime.locks import held_elsewhere as held\n"
    code += "for folder in sys.stdin: print(held(folder.strip()), flush=True)"
    words = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen([sys.executable, "-c", code], **words) as another:

        def ask():
            another.stdin.write(f"{tmp_path}\n")
            return another.stdout.readline().strip()

        assert ask() == "True"
        other = Hold(tmp_path)  # takes over
        del keep
        assert ask() == "True"
        other.release()
        assert ask() == "False"


def test_a_folder_that_was_made_anew_is_locked_anew(tmp_path):
    """A notebook's interrupted cell still holds what was deleted meanwhile; the cell run again holds what is there."""
    folder = tmp_path / "run"
    folder.mkdir()
    first = Hold(folder)
    folder.rmdir()
    folder.mkdir()
    again = Hold(folder)
    code = f"from emlib.runtime.locks import held_elsewhere; print(held_elsewhere({str(folder)!r}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    assert (said, again.mine, first.mine) == ("True", True, False)


def test_two_processes_may_write_the_same_file_at_once(tmp_path):
    with atomic_file(tmp_path / "x") as part:
        part.write_text("ours")
        subprocess.run([sys.executable, "-c", WRITES, str(tmp_path / "x")], check=True)
        assert (tmp_path / "x").read_text() == "theirs"
    assert (tmp_path / "x").read_text() == "ours"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


WRITES = """
import sys
from emlib.runtime.files import atomic_file
with atomic_file(sys.argv[1]) as part:
    part.write_text("theirs")
"""


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_writing(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    (tmp_path / f"x.{done.pid}.part").write_text("half")
    (tmp_path / f"x.{os.getppid()}.part").write_text("another process is at it")
    (tmp_path / f"y.{done.pid}.part").write_text("not of this file")
    with atomic_file(tmp_path / "x") as part:
        part.write_text("whole")
    left = {"x", f"x.{os.getppid()}.part", f"y.{done.pid}.part"}
    assert {file.name for file in tmp_path.iterdir()} == left


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "x").symlink_to("real/x")
    with atomic_file(tmp_path / "x") as part:
        part.write_text("whole")
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "real" / "x").read_text() == "whole"


def test_a_table_may_be_filled_by_two_processes(tmp_path):
    """Its folder is claimed and not held: other methods are other files."""
    keep = RunFolder(tmp_path)
    keep.claim({"a": 1})
    (tmp_path / "method.json.1.part").write_text("another process is at it")
    RunFolder(tmp_path).claim({"a": 1})
    assert (tmp_path / "method.json.1.part").exists()

"""Ctrl-C: status 130, one sentence, and whether the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

from emlib.cli.main import COMMANDS, INTERRUPTED, RESUMES, main

NEEDED = {
    "evaluate": ["--prior", "x"],
    "reconstruct": ["--prior", "x"],
    "export": ["--prior", "x", "--out", "y"],
    "train": ["--out", "x.safetensors"],
    "restore": ["x"],
    "experiment": ["x"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_whether_it_goes_on(monkeypatch, capsys, command):
    def stopped(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"emlib.cli.{command}.run", stopped)
    assert main([command, *NEEDED.get(command, [])]) == INTERRUPTED == 130
    err = capsys.readouterr().err
    assert err.startswith(f"\nemlib {command}: stopped; ")
    assert ("the same command goes on" in err) == (command in RESUMES)
    assert ("nothing was kept" in err) == (command not in RESUMES)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another signal there")
def test_a_real_ctrl_c(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(240):
        Image.new("L", (28, 28), i).save(tmp_path / "pictures" / f"{i}.png")
    words = [sys.executable, "-m", "emlib", "em", "--preset", "smoke", "--data", "pictures", "--folder", "run"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        # a shell that starts tests in the background has them ignore Ctrl-C, and their children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert next(line for line in run.stdout if "observed" in line)  # the first row, once the folder is its own
        run.send_signal(signal.SIGINT)
        _, err = run.communicate()
    assert run.returncode == 130, err
    assert "emlib em: stopped; what is done is kept, and the same command goes on there" in err
    assert "Traceback" not in err
    assert (tmp_path / "run" / "settings.json").is_file()

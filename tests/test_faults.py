"""A few of the faults of ``python tests/faults``, which tries thousands; and those that once ended badly."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAULTS = Path(__file__).with_name("faults")


def words_of_faults():
    spec = importlib.util.spec_from_file_location("words_of_faults", FAULTS / "words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_runs_end_in_the_same_bits_or_in_a_sentence_whatever_happens_to_them():
    done = subprocess.run(
        [sys.executable, str(FAULTS), "--count", "1", "--fuzz", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("0 ended badly")
    kinds = ["kills", "kills_of_drawing", "kills_while_scoring", "full_disk", "read_only", "damage", "clock"]
    kinds += ["out_of_memory", "no_number", "two_at_once"]
    assert [line.split()[0] for line in done.stdout.splitlines() if " tried: " in line] == kinds


def test_two_hundred_command_lines_end_in_a_sentence():
    module = words_of_faults()
    bad = [(words, end) for words, end in module.fuzz(200, seed=7) if end not in ("ok", "refused")]
    assert bad == []


ONCE_BAD = [
    ["restore", "loop", "--draws", "2"],
    ["em", "--dry-run", "--train-batch", "1" + "0" * 30],
    ["em", "--dry-run", "--minutes", "1e300"],
    ["em", "--dry-run", "--folder", "n" * 300],
    ["em", "--dry-run", "--out", "a\udcff"],
    ["em", "--dry-run", "--start", "n" * 300],
    ["reconstruct", "--prior", "n" * 300],
    ["restore", "dir", "--start", "preprocessed", "--masks", "loop"],
    ["cost", "--device", "clean"],
    ["export", "--prior", "file", "--out", "new", "--result", "deep.json"],
]


def test_command_lines_that_once_ended_badly_do_not(monkeypatch):
    module = words_of_faults()
    lines = iter(ONCE_BAD)
    monkeypatch.setattr(module, "line", lambda dice: next(lines))
    assert [(words, end) for words, end in module.fuzz(len(ONCE_BAD)) if end != "refused"] == []


def test_a_hang_is_no_refusal(monkeypatch):
    """``main`` catches OSError, which TimeoutError is."""
    module = words_of_faults()
    monkeypatch.setattr(module, "LIMIT", 0.05)
    monkeypatch.setattr("emlib.cli.cost.run", lambda args: time.sleep(3600))
    assert module.tried(["cost"]) == "wrong: Hang: no answer after 0.05 s"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_run_that_says_nothing_has_hung(monkeypatch):
    monkeypatch.syspath_prepend(FAULTS)
    from toy import apart

    assert apart(lambda: time.sleep(3600), limit=0.05) == "broke: no answer after 0.05 s"
    assert apart(lambda: time.sleep(3600), seconds=0.05) == "killed"
    assert apart(lambda: None) == "done"


def test_nonsense_that_is_taken_is_a_fault(monkeypatch):
    module = words_of_faults()
    lines = iter([["em", "--dry-run", "--fraction", "7"], ["cost", "--scale", "nan"], ["cost", "--scale", "2"]])
    monkeypatch.setattr(module, "line", lambda dice: next(lines))
    monkeypatch.setattr(module, "main", lambda words: 0)
    ends = [end for _, end in module.fuzz(3)]
    assert ends == ["wrong: --fraction 7 was taken", "wrong: --scale nan was taken", "ok"]

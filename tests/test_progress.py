"""Bars on a terminal, lines in a log, curves for TensorBoard."""

import io
import math
import sys
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import emlib
from emlib.cli.main import main
from emlib.runs import presets, progress
from emlib.runs.tensorboard import board, told


class Terminal(io.StringIO):
    def isatty(self):
        return True


def stage(name, total, images, loss=math.nan, first=0):
    return [emlib.Progress(1, name, done, total, loss, images) for done in range(first, total + 1)]


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is ten seconds after the last."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(times)))


def test_a_log_file_gets_lines_and_a_terminal_a_bar(monkeypatch, clock):
    out = {}
    for kind in (io.StringIO, Terminal):
        monkeypatch.setattr(sys, "stderr", out.setdefault(kind, kind()))
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
        list(progress.watch(iter(stage("M-step", 3, 8, loss=0.5, first=1))))
    assert "\r" not in out[io.StringIO].getvalue()
    assert out[io.StringIO].getvalue().splitlines() == ["EM 1 M-step 3/3, loss 0.5000, 0.8 images/s, took 20 s"]
    assert "\r" in out[Terminal].getvalue()


def test_a_line_comes_now_and_then_with_speed_and_remaining_time(clock, capsys):
    events = [*stage("E-step", 12, 2), *stage("M-step", 2, 8, 0.25, first=1)]
    assert list(progress.lines(iter(events), every=60)) == events
    assert capsys.readouterr().err.splitlines() == [
        "EM 1 E-step 6/12, 0.2 images/s, 60 s left",
        "EM 1 E-step 12/12, 0.2 images/s, took 2 min",
        "EM 1 M-step 2/2, loss 0.2500, 0.8 images/s, took 10 s",
    ]


def test_a_stage_that_was_done_before_has_no_speed(clock, capsys):
    list(progress.lines(iter(stage("E-step", 4, 1, first=4))))
    assert capsys.readouterr().err == "EM 1 E-step 4/4, took 0 s\n"


def test_what_a_training_and_an_e_step_count_are_pictures(tiny, schedule):
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    m = emlib.measure(x[:6], emlib.random_mask(6, 8, 0.6, 0), 0.0, seed=0)
    em = replace(presets.SMOKE.em, iterations=1, init_updates=2, m_updates=2, train_batch=4, e_batch=2)

    def sampler(prior, k):
        return lambda *words: emlib.mmps(*words, steps=2)

    loop = emlib.run_em(m, x[6:], tiny, schedule, sampler, em)
    images = {event.stage: event.images for event in loop if isinstance(event, emlib.Progress)}
    assert images == {"first prior": 4, "E-step": 1, "M-step": 4}


def curves(folder):
    log = EventAccumulator(str(folder)).Reload()
    return {name: [(point.step, point.value) for point in log.Scalars(name)] for name in log.Tags()["scalars"]}


def test_losses_are_means_of_fifty_and_a_resumed_run_tells_no_point_twice(tmp_path):
    def training(first, last):
        return [emlib.Progress(0, "first prior", n, 120, float(n), 8) for n in range(first, last + 1)]

    for first, last in ((1, 75), (51, 120)):  # killed at 75, gone on from a snapshot at 50
        with board(tmp_path) as tell:
            list(told(iter(training(first, last)), tell))
    found = curves(tmp_path)
    assert found["loss/EM 00"] == [(50, 25.5), (100, 75.5), (120, 110.5)]
    assert [step for step, _ in found["images per second/first prior"]] == [0]


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with board(None) as tell:
        tell("loss", 1.0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_curves_in_its_folder_and_a_rerun_adds_none(tmp_path, monkeypatch, capsys):
    em = replace(presets.SMOKE.em, init_updates=2, m_updates=2)
    unet = emlib.UNetConfig(channels=(8, 16), groups=4)
    monkeypatch.setitem(presets.PRESETS, "toy", replace(presets.SMOKE, name="toy", em=em, samples=4, unet=unet))
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    words = ["em", "--preset", "toy", "--sampler", "dps", "--scale", "1.5", "--folder", str(tmp_path), "--tensorboard"]
    assert main(words) == 0
    found = curves(tmp_path / "tensorboard")
    rows = {row["iteration"]: row for row in emlib.runs.record.read_result(tmp_path / "result.json")["rows"]}
    assert found["EM/PSNR"] == [(k, pytest.approx(rows[k]["PSNR"])) for k in (1, 2)]
    assert found["EM/lambda"] == [(1, 1.5), (2, 1.5)]
    assert [step for step, _ in found["EM/seconds"]] == [0, 1, 2]
    assert {"loss/EM 00", "loss/EM 01", "loss/EM 02", "images per second/E-step"} < set(found)
    assert main(words) == 0
    assert curves(tmp_path / "tensorboard") == found

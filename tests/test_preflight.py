"""The dry run and the checks that come before a run."""

import shutil
import sys
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from PIL import Image

import emlib
from emlib.cli.main import main, parser
from emlib.data.sources import cifar10_absent
from emlib.planning import checks as planning_checks
from emlib.planning import cost, memory
from emlib.planning.checks import checks
from emlib.planning.dry_run import em_stages
from emlib.runs import presets
from emlib.runs.job import job_of
from emlib.runtime.distributed import Ranks

PLENTY = 10**14
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty folder, with room for everything, and CIFAR-10 there as far as a glance tells."""
    monkeypatch.chdir(tmp_path)
    for file in cifar10_absent(tmp_path / "sets"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"as far as a glance tells")
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "sets"))
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": PLENTY)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(PLENTY, 0, PLENTY))
    return tmp_path


@pytest.fixture
def toy(here, monkeypatch):
    """A preset of seconds, with both phases."""
    em = replace(
        presets.SMOKE.em,
        init_updates=2,
        m_updates=2,
        last_updates=0,
        shard=16,
        phases=emlib.Phases(subset=0.5, reset_iterations=1, reset_updates=2),
    )
    p = replace(presets.SMOKE, name="toy", em=em, samples=4, unet=emlib.UNetConfig(channels=(8, 16), groups=4))
    monkeypatch.setitem(presets.PRESETS, "toy", p)
    monkeypatch.setattr("emlib.planning.dry_run.rate_here", lambda *words: (1e12, "not timed"))
    monkeypatch.setattr("emlib.metrics.alexnet.alexnet_missing", lambda: "left out of this test")
    return here


def job(*words):
    return job_of(parser().parse_args(["em", *words]))


def found(*words, device="cpu"):
    """The checks by name."""
    asked = job(*words)
    return {check.name: check for check in checks(asked, em_stages(asked), device)}


def lines(said):
    """Lines of the checks by their first words."""
    return {line[9:].split(":")[0]: line for line in said.splitlines() if line.startswith(("ok ", "missing "))}


def test_the_papers_run_is_planned_without_its_pictures_and_leaves_nothing_behind(here, capsys, monkeypatch):
    monkeypatch.setattr("emlib.runs.task.load", lambda *_, **__: pytest.fail("pictures were read"))
    words = ["em", "--preset", "paper", "--data", "cifar10", "--operator", "mask", "--sampler", "dps", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for part in ("6 times: E-step by dps", "3 times: E-step on all", "M-step afresh", "9766 updates of 512", "TFLOP/s"):
        assert part in said
    assert "clean prior" not in said, "em does not train it"
    assert {"task, sampler, scale and start", "processes", "data", "run folder", "disk", "AlexNet"} < set(lines(said))
    assert said.strip().endswith("the run can start")
    assert [path.name for path in here.iterdir()] == ["sets"]


@pytest.mark.parametrize(
    ("words", "check", "remedy"),
    [
        (["--fraction", "1.5"], "task, sampler, scale and start", "got 1.5"),
        (["--sampler", "dps", "--scale", "much"], "task, sampler, scale and start", "'much'"),
        (["--sampler", "dps", "--scale", "sure"], "task, sampler, scale and start", "noise_std is 0; use residual"),
        (["--start", "nowhere"], "task, sampler, scale and start", "unknown start 'nowhere'"),
        (["--start", "none"], "task, sampler, scale and start", "holds 0 pictures; name a folder of at least 10"),
        (["--data", "nowhere"], "data", "unknown data 'nowhere'"),
        (["--data", "few"], "data", "take a smaller preset or more pictures"),
        (["--folder", "few/0.png"], "run folder", "no folder that can be written to; name another --folder"),
    ],
)
def test_what_is_missing_is_named_and_a_run_refuses_to_start(toy, capsys, words, check, remedy):
    (toy / "few").mkdir()
    (toy / "none").mkdir()
    for i in range(20):
        Image.new("L", (32, 32), i).save(toy / "few" / f"{i}.png")
    command = ["em", "--preset", "toy", *words]
    assert main([*command, "--dry-run"]) == 2
    out = capsys.readouterr().out
    assert lines(out)[check].startswith("missing")
    assert remedy in lines(out)[check]
    assert "the run cannot start" in out
    assert main(command) == 2
    err = capsys.readouterr().err
    assert remedy in err
    assert len(err.strip().splitlines()) == 1
    assert not (toy / "runs").exists()


@pytest.mark.parametrize("words", [["--dry-run"], []], ids=["dry", "real"])
def test_what_is_left_out_of_a_folder_is_said_once(toy, capsys, monkeypatch, words):
    """To the terminal, where the checks look at the folder, and once more whoever reads it."""
    monkeypatch.setattr("warnings.showwarning", lambda message, *_, **__: print(message, file=sys.stderr))
    monkeypatch.setattr("emlib.cli.em.run_em", lambda *_: iter(()))
    monkeypatch.setattr(planning_checks, "FEATURES", 10**6)
    (toy / "mine").mkdir()
    for i in range(260):
        Image.new("L", (32, 32), i % 256).save(toy / "mine" / f"{i}.png")
    (toy / "mine" / "._0.png").write_bytes(b"")
    assert main(["em", "--preset", "toy", "--data", "mine", *words]) == 0
    assert capsys.readouterr().err.count("of mine are left out: the hidden file ._0.png") == 1
    (toy / "mine" / "._1.png").write_bytes(b"")
    assert main(["em", "--preset", "toy", "--data", "mine", *words]) == 0
    assert "the hidden file ._0.png (1 more)" in capsys.readouterr().err


def test_data_that_em_would_fetch_is_missing_all_the_same(here):
    folder = here / "sets" / "cifar-10-batches-py"
    (folder / "data_batch_3").write_bytes(b"")  # as a download that was broken off leaves it
    for gone in ("data_batch_3", "data_batch_1"):
        check = found("--preset", "pocket-color")["data"]
        assert (check.ok, check.without) == (False, "fetches")
        assert "EMLIB_DATASETS" in check.said
        assert str(folder / gone) in check.said
        for file in folder.iterdir():
            file.unlink()
    planning_checks.refuse(iter([check]))  # em tries


def test_celeba_is_looked_for_and_never_fetched(here):
    check = found("--preset", "pocket-color", "--data", "celeba")["data"]
    assert (check.ok, check.without) == (False, "stops")
    assert "list_eval_partition.txt" in check.said


def test_alexnet_is_not_needed_to_start(toy):
    check = found("--preset", "toy")["AlexNet"]
    assert (check.ok, check.without) == (False, "goes on")


def test_a_run_folder_is_free_or_resumed_or_of_another_run(toy, capsys):
    assert "is free" in found("--preset", "toy")["run folder"].said
    assert main(["em", "--preset", "toy"]) == 0
    again = found("--preset", "toy")["run folder"]
    assert again.ok
    assert "goes on after EM iteration 3" in again.said
    other = found("--preset", "toy", "--seed", "3", "--folder", "runs/em-mask-mmps-toy")["run folder"]
    assert not other.ok
    assert "'seed': 0" in other.said
    assert "name another folder or delete it" in other.said
    assert found("--preset", "toy", "--e-batch", "4", "--folder", "runs/em-mask-mmps-toy")["run folder"].ok


def test_the_disk_that_a_run_takes_is_what_was_said(toy):
    asked = job("--preset", "toy", "--folder", "run")
    need = memory.disk_need(asked, em_stages(asked))
    assert main(["em", "--preset", "toy", "--folder", "run"]) == 0
    kept = [file for kind in ("prior_*", "reconstructions_*") for file in (toy / "run").glob(kind)]
    took = sum(file.stat().st_size for file in kept)
    # at the end there are neither shards nor a training halfway; headers are not counted
    passing = 4 * em_stages(asked)[0].weights + 24 * 28 * 28 * 4
    assert took == pytest.approx(need - passing, rel=0.15)
    (check,) = [check for name, check in found("--preset", "toy", "--folder", "run").items() if name == "disk"]
    assert check.said.startswith(
        memory.gigabytes(max(0, need - sum(f.stat().st_size for f in (toy / "run").iterdir())))
    )


def test_a_full_disk_is_noticed(toy, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(PLENTY, PLENTY, 1000))
    check = found("--preset", "toy")["disk"]
    assert not check.ok
    assert "larger disk" in check.said


def test_a_batch_must_divide_among_the_processes(toy, monkeypatch):
    monkeypatch.setattr(planning_checks, "ranks", lambda: Ranks(0, 3))
    check = found("--preset", "toy")["processes"]
    assert not check.ok
    assert "16 pictures does not divide among 3 processes" in check.said
    assert "--train-batch 15" in check.said
    assert found("--preset", "toy", "--train-batch", "15")["processes"].ok


def test_too_little_memory_is_noticed_with_the_batch_that_fits(here, monkeypatch):
    words, asked = ["--preset", "pocket"], job("--preset", "pocket")
    p, stages = asked.preset, {stage.name: stage for stage in em_stages(asked)}
    pictures = 3 * 4 * 28 * 28 * (p.observations + p.held_out)
    free = (stages["E-step"].activations + pictures) * 0.9
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": free)
    check = found(*words)["memory, E-step"]
    assert not check.ok
    batch = int(check.said.split("--e-batch ")[1].split()[0])
    assert 0 < batch < p.em.e_batch
    assert found(*words, "--e-batch", str(batch))["memory, E-step"].ok
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": 1000)
    assert "smaller preset" in found(*words)["memory, E-step"].said


def test_on_a_gpu_its_own_memory_counts_and_that_of_the_pictures(toy):
    names = set(found("--preset", "toy", device="cuda"))
    assert {"GPU, E-step", "GPU, training", "memory, pictures"} < names


@pytest.mark.parametrize(("backward", "train"), [(1, False), (2, False), (1, True)])
def test_the_batch_that_fits_fits_and_the_next_does_not(backward, train):
    cfg, free = emlib.UNetConfig(channels=(8, 16), groups=4), 30e6
    batch = memory.fitting_batch(cfg, 28, free, backward, train)
    weights = 4 * cost.network_cost(cfg, 28).parameters * (5 if train else 2)

    def need(n):
        return weights + cost.live_bytes(cfg, 28, n, backward, train)

    assert need(batch) <= 0.8 * free < need(batch + 16)
    assert memory.fitting_batch(cfg, 28, 1000, backward, train) == 0


@pytest.mark.parametrize("option", ["--e-batch", "--train-batch", "--iterations"])
def test_sizes_below_one_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        job(option, "0")


def test_tensorboard_must_be_there_if_it_is_asked_for(toy, monkeypatch):
    assert found("--preset", "toy", "--tensorboard")["TensorBoard"].said == "log in runs/em-mask-mmps-toy/tensorboard"
    real = planning_checks.importlib.util.find_spec
    find = lambda name: None if name == "tensorboard" else real(name)  # noqa: E731
    monkeypatch.setattr(planning_checks.importlib.util, "find_spec", find)
    check = found("--preset", "toy", "--tensorboard", "log")["TensorBoard"]
    assert not check.ok
    assert "install it with pip" in check.said


def test_what_a_container_has_read_from_files_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(emlib.runtime.device, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("3900\n")
    assert emlib.runtime.device.free_memory() == 100
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 3500\nactive_file 100\n")
    assert emlib.runtime.device.free_memory() == 3600


def test_free_memory_is_what_psutil_says():
    psutil = pytest.importorskip("psutil")
    assert emlib.runtime.device.free_memory() <= psutil.virtual_memory().total
    before = psutil.virtual_memory().available  # what else runs here takes some and gives it back
    ours = emlib.runtime.device._available()
    after = psutil.virtual_memory().available
    assert 0.8 * min(before, after) <= ours <= 1.2 * max(before, after)


def test_a_matmul_rate_is_a_rate():
    assert 0 < emlib.runtime.device.matmul_rate("cpu", torch.float32, 128) < float("inf")

"""The paper's pipeline on two processes: the same as on one, and what happens when one of them is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import paper_process
import pytest
import torch

import emlib
from emlib.runtime import distributed

SCRIPT = Path(__file__).with_name("paper_process.py")
TWO = [sys.executable, str(SCRIPT.with_name("pair.py")), str(SCRIPT)]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_by_two(folder):
    done = subprocess.run([*TWO, str(folder)], capture_output=True, text=True, env=ONE_THREAD, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert distributed.MESSAGE not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of an unbroken run by two processes."""
    folder = tmp_path_factory.mktemp("two")
    assert {line.split()[0] for line in run_by_two(folder).splitlines()} == {"0", "1"}
    return folder


def weights(folder, k):
    return emlib.load_unet(folder / f"prior_{k:02d}.safetensors").state_dict()


def test_each_stage_of_two_processes_is_that_of_one(two, tmp_path):
    """Each stage begins with what the two processes had: what training makes of a rounding error, a sampler would
    magnify, so whole runs cannot agree to 1e-5. Dropout is 0: each process drops other activations, by design, so that
    two do not train on one mask twice; with it trainings agree in distribution only."""
    phases = {}
    for k in range(4):
        one = tmp_path / f"one{k}"
        one.mkdir()
        for before in (
            "settings.json",
            *(f"{kind}_{j:02d}.*" for kind in ("prior", "reconstructions", "e_step") for j in range(k)),
        ):
            for file in two.glob(before):
                shutil.copy(file, one)
        step = next(
            event for event in paper_process.loop(one) if isinstance(event, emlib.Iteration) and event.iteration == k
        )
        phases[k] = step.phase
        if k:
            theirs = torch.from_numpy(np.load(two / f"reconstructions_{k:02d}.npy"))
            torch.testing.assert_close(theirs, step.reconstructions, rtol=0, atol=1e-5)
            assert json.loads((two / f"e_step_{k:02d}.json").read_text())["scale"] == step.scale
            assert len(theirs) == (9 if step.phase == 1 else 18)
        theirs = weights(two, k)
        for name, weight in step.prior.state_dict().items():
            torch.testing.assert_close(theirs[name], weight, rtol=0, atol=1e-4)
    assert phases == {0: 0, 1: 1, 2: 1, 3: 2}


def killed(folder, rank, moment):
    """Starts two processes, kills one of them (SIGKILL) at a moment, and gives the agent's status and what was said."""
    with subprocess.Popen(
        [*TWO, str(folder), str(rank), moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
    ) as process:
        # it waits at that moment, so that it has not gone on when the signal comes
        words = (line.split(maxsplit=2) for line in process.stdout)
        pid = next((pid for who, pid, said in words if (who, said.strip()) == (str(rank), moment)), None)
        assert pid, f"the run ended before {moment!r}"
        os.kill(int(pid), signal.SIGKILL)
        # far longer than it takes, far shorter than a process would wait for one that is lost (ranks.PATIENCE)
        _, said = process.communicate(timeout=1200)
    return process.returncode, said


def test_killing_either_process_ends_both_with_one_line_and_a_rerun_ends_as_an_unbroken_run(two, tmp_path):
    """First the second process in an E-step, then, in the rerun, the first one in the training after it."""
    broken = tmp_path / "broken"
    for rank, moment in ((1, "1 E-step 2"), (0, "1 M-step 12")):
        status, said = killed(broken, rank, moment)
        assert status != 0
        assert said.count(distributed.MESSAGE) == 1, said
        assert not (broken / "prior_01.safetensors").exists()
    run_by_two(broken)
    for k in range(4):
        if k:
            a, b = (np.load(folder / f"reconstructions_{k:02d}.npy") for folder in (broken, two))
            assert np.array_equal(a, b)
        theirs = weights(two, k)
        assert all(torch.equal(theirs[name], weight) for name, weight in weights(broken, k).items())


@pytest.mark.parametrize(("rank", "said"), [("", "both"), ("1", "the second")])
def test_a_process_says_itself_why_it_ends_and_two_the_same_thing_once(rank, said, tmp_path):
    """A full disk of the second one was told by the first, as a process that is lost."""
    script = textwrap.dedent(
        f"""
        import os, sys, time
        import emlib.cli.cost
        from emlib.cli.main import main

        def run(args):
            if {rank!r} in ("", os.environ["RANK"]):
                raise ValueError("{said} may not go on")
            time.sleep(600)

        emlib.cli.cost.run = run
        sys.exit(main(["cost"]))
        """
    )
    (tmp_path / "ends.py").write_text(script)
    done = subprocess.run([*TWO[:2], str(tmp_path / "ends.py")], capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode != 0
    assert done.stderr.count(f"emlib cost: {said} may not go on") == 1


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4321"), True),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), True),
        (RuntimeError("shape '[3]' is invalid for input of size 4"), False),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), False),
    ],
)
def test_a_lost_process_is_told_from_a_mistake(error, is_one):
    assert distributed.of_a_lost_process(error) == is_one


def test_a_mistake_of_ones_own_is_passed_on():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="my own"), distributed.noticed():
        raise RuntimeError("my own")
    assert signal.getsignal(signal.SIGTERM) == before


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="process 2 has no GPU: there are 2"), emlib.runtime.distributed.joined():
        pass

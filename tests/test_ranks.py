import itertools
import os
import subprocess
import sys
from pathlib import Path

import em_process
import numpy as np
import pytest
import torch

import emlib
from emlib.runtime.distributed import Ranks, ranks

SCRIPT = Path(__file__).with_name("em_process.py")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def finished(start, folder=None):
    return [event for event in em_process.loop(folder, start) if isinstance(event, emlib.Iteration)]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check_equal(a, b):
    for x, y in itertools.zip_longest(a, b):
        assert torch.equal(x.reconstructions, y.reconstructions)
        theirs = y.prior.state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in x.prior.state_dict().items())


@pytest.mark.parametrize(
    "moments",
    [["0 first prior 7", "1 E-step 4", "1 M-step 8"], ["1 E-step 16", "1 M-step 30", "2 M-step 12"], ["2 E-step 8"]],
    ids=["early", "late", "once"],
)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path, moments):
    """SIGKILL, which nothing can catch, at the moments named; the same run goes on each time."""
    command = [sys.executable, str(SCRIPT), str(tmp_path), "clean", *moments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD) as process:
        seen = next((line for line in process.stdout if line.strip() == moments[-1]), None)
        process.kill()
    assert seen, "the run ended before one of these moments"
    assert process.wait() == -9
    check_equal(finished("clean", tmp_path), finished("clean"))


def test_two_processes_draw_the_same_pictures_as_one(tmp_path):
    """gloo; the first E-step hangs on no training, so its pictures must agree to 1e-5 (they do to the bit).
    Gradients are summed in another order, so weights agree up to what training makes of a rounding error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    done = subprocess.run([*command, str(tmp_path), "gaussian"], capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr[-2000:]
    # both took part: eight of the eighteen pictures were the second process's
    assert "1 E-step 10" in done.stdout.splitlines()
    assert "1 E-step 8" in done.stdout.splitlines()
    one = finished("gaussian")
    two = [torch.from_numpy(np.load(tmp_path / f"reconstructions_{k:02d}.npy")) for k in (1, 2)]
    torch.testing.assert_close(two[0], one[1].reconstructions, rtol=0, atol=1e-5)
    torch.testing.assert_close(two[1], one[2].reconstructions, rtol=0, atol=1e-2)
    theirs = emlib.load_unet(tmp_path / "prior_01.safetensors").state_dict()
    for name, weight in one[1].prior.state_dict().items():
        torch.testing.assert_close(theirs[name], weight, rtol=0, atol=1e-4)
    # one process reads what two have written
    read = finished("gaussian", tmp_path)
    assert all(torch.equal(step.reconstructions, x) for step, x in zip(read[1:], two))


def test_shares_are_disjoint_and_complete():
    shares = [list(Ranks(rank, 3).share(8)) for rank in range(3)]
    assert sorted(sum(shares, [])) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_there_is_one_process_and_it_is_the_first():
    assert ranks() == Ranks(0, 1)
    assert ranks().first


def test_a_batch_that_does_not_divide_is_refused(tiny, schedule, monkeypatch):
    monkeypatch.setattr("emlib.training.loop.ranks", lambda: Ranks(0, 3))
    loop = emlib.train(emlib.build_unet(tiny, 0), schedule, torch.zeros(4, 1, 8, 8), 1, 8, 1e-3, 0)
    with pytest.raises(ValueError, match="8 pictures does not divide among 3 processes"):
        next(loop)


def test_several_processes_without_a_folder_are_refused(monkeypatch):
    monkeypatch.setattr("emlib.em.checkpoint.ranks", lambda: Ranks(0, 2))
    with pytest.raises(ValueError, match="share their work through a folder"):
        next(em_process.loop(None, "clean"))

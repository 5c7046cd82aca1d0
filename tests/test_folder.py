import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import emlib
from emlib.em.checkpoint import RunFolder
from emlib.em.identity import fingerprint
from emlib.operators import save_measurements

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@LINUX
def test_memory_does_not_grow_with_the_number_of_observations(tmp_path):
    """Private memory of a whole EM iteration, observations read from a file: 1,000 and 8,000 pictures of 3 kB, whose
    measurements, masks and reconstructions together are 8 MB and 63 MB."""
    # measured in a process that has not made them
    use = textwrap.dedent(
        """
        import sys
        from functools import partial
        import torch, emlib
        from emlib.operators import load_measurements

        def private():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

        torch.set_num_threads(1)
        m = load_measurements(sys.argv[1])
        settings = emlib.EMSettings(iterations=1, init_updates=1, m_updates=2, train_batch=8, init_lr=1e-3, m_lr=1e-3,
                                    ema_decay=0.9, e_batch=128)
        unet, schedule = emlib.UNetConfig(channels=(4, 4), groups=2), emlib.linear_schedule()
        most = 0
        e_step = lambda prior, k: partial(emlib.mmps, steps=1)
        for _ in emlib.run_em(m, torch.zeros(8, 1, 28, 28), unet, schedule, e_step, settings, sys.argv[2]):
            most = max(most, private())
        print(most)
        """
    )
    most, mask = {}, emlib.random_mask(1000, 28, 0.6, 0).mask
    for n in (1000, 8000):
        file, A = tmp_path / f"{n}.safetensors", emlib.PixelMask(mask.repeat(n // 1000, 1, 1, 1))
        save_measurements(emlib.measure(torch.zeros(n, 1, 28, 28), A, 0.1, 0), file)
        words = [sys.executable, "-c", use, str(file), str(tmp_path / f"run{n}")]
        most[n] = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert most[8000] - most[1000] < 15, most


def test_settings_within_settings_may_be_older_too(tmp_path):
    (tmp_path / "settings.json").write_text('{"name": "p", "em": {"seed": 0}}')
    RunFolder(tmp_path).claim({"name": "p", "em": {"seed": 0, "flip": False}})
    (tmp_path / "settings.json").write_text('{"name": "p", "em": {"seed": 0}}')
    for em in ({"seed": 0, "flip": True}, {"seed": 1, "flip": False}):
        with pytest.raises(ValueError, match="name another folder or delete it"):
            RunFolder(tmp_path).claim({"name": "p", "em": em})


def test_reconstructions_are_read_from_disk_and_a_callers_changes_stay_his_own(tmp_path):
    keep = RunFolder(tmp_path)
    parts = [torch.rand(n, 1, 4, 4) for n in (3, 3, 2)]
    for i, x in enumerate(parts):
        keep.save_shard(1, i, x)
    keep.join_shards(1, 3, 8, {"scale": 2.0})
    x, about = keep.reconstructions(1)
    assert torch.equal(x, torch.cat(parts))
    assert about == {"scale": 2.0}
    x.zero_()
    assert torch.equal(keep.reconstructions(1)[0], torch.cat(parts))
    assert not (tmp_path / "shards_01").exists()


def test_a_run_in_memory_and_one_on_disk_give_the_same_tensors(tmp_path):
    for keep in (RunFolder(None), RunFolder(tmp_path)):
        assert keep.reconstructions(1) is None
        keep.save_shard(1, 0, torch.ones(2, 1, 4, 4))
        keep.save_shard(1, 1, torch.zeros(1, 1, 4, 4))
        keep.join_shards(1, 2, 3, {})
        assert keep.reconstructions(1)[0].flatten(1).mean(1).tolist() == [1.0, 1.0, 0.0]


def test_a_broken_array_is_not_run_as_code(tmp_path):
    keep = RunFolder(tmp_path)
    np.save(tmp_path / "reconstructions_01.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        keep.reconstructions(1)


def test_a_fingerprint_tells_masks_noise_and_order_apart():
    x = torch.rand(3, 1, 8, 8)
    a = emlib.measure(x, emlib.random_mask(3, 8, 0.6, 0), 0.1, seed=0)
    others = [
        emlib.measure(x, emlib.random_mask(3, 8, 0.6, 1), 0.1, seed=0),
        emlib.measure(x, emlib.random_mask(3, 8, 0.6, 0), 0.1, seed=1),
        a.select([2, 1, 0]),
    ]
    assert fingerprint(a) == fingerprint(emlib.measure(x, emlib.random_mask(3, 8, 0.6, 0), 0.1, seed=0))
    assert len({fingerprint(a), *map(fingerprint, others)}) == 4
    assert fingerprint(a, torch.zeros(1)) != fingerprint(a)


def test_shards_left_by_a_kill_after_joining_are_swept_by_the_next_run(tmp_path):
    keep = RunFolder(tmp_path)
    keep.claim({"seed": 0})
    for i in range(2):
        keep.save_shard(1, i, torch.full((2, 1, 4, 4), float(i)))
    left = (tmp_path / "shards_01" / "00000.safetensors").read_bytes()
    keep.join_shards(1, 2, 4, {})
    (tmp_path / "shards_01").mkdir()
    (tmp_path / "shards_01" / "00000.safetensors").write_bytes(left)
    RunFolder(tmp_path).claim({"seed": 0})
    assert not (tmp_path / "shards_01").exists()
    assert RunFolder(tmp_path).reconstructions(1)[0].flatten(1)[:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]

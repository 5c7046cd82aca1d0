from dataclasses import replace

import numpy as np
import pytest
import torch

import emlib
from emlib.runtime import device

CPU = torch.device("cpu")


def test_on_the_cpu_pictures_stay_where_they_are():
    x = torch.zeros(2, 3, 4, 4)
    assert device.placed(x, CPU) is x
    assert device.sent(x, CPU) is x


@pytest.mark.parametrize(
    ("size", "free", "fit"), [(614e6, 14e9, True), (1.5e9, 14e9, True), (1.5e9, 11e9, False), (9.8e9, 78e9, False)]
)
def test_pictures_may_take_an_eighth_of_what_is_free(size, free, fit):
    assert device.fits(int(size), int(free)) == fit


class OnTheWay:
    """Stands for a tensor in main memory, and notes how it gets to the GPU that isn't here."""

    is_cuda, nbytes = False, 800

    def __init__(self):
        self.ways = []

    def pin_memory(self):
        self.ways.append("pinned")
        return self

    def to(self, device, non_blocking=False):
        self.ways.append((str(device), non_blocking))
        return self


@pytest.mark.parametrize(("free", "ways"), [(6400, [("cuda:1", False)]), (6300, [])])
def test_a_gpu_with_room_gets_the_pictures_and_one_without_their_batches(monkeypatch, free, ways):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - 300, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    gpu, x = torch.device("cuda", 1), OnTheWay()
    device.placed(x, gpu)
    assert x.ways == ways
    x = OnTheWay()
    device.sent(x, gpu)
    assert x.ways == ["pinned", ("cuda:1", True)]


def test_training_reads_a_mapped_file_as_it_reads_memory(tiny, schedule, tmp_path):
    images = torch.rand(6, 1, 8, 8) * 2 - 1
    np.save(tmp_path / "x.npy", images.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    last = []
    for x in (images, mapped):
        model = emlib.build_unet(replace(tiny, dropout=0.1), 0)
        for now in emlib.train(model, schedule, x, 4, 4, 1e-2, 0, flip=True):
            pass
        last.append(now.ema.conv_in.weight)
    assert torch.equal(*last)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_training_gives_the_same_wherever_the_pictures_lie(tiny, schedule, monkeypatch):
    images, losses = torch.rand(64, 1, 8, 8) * 2 - 1, []
    for share in (1 / 8, 0):
        monkeypatch.setattr(device, "SHARE", share)
        model = emlib.build_unet(tiny, 0).cuda()
        losses.append([now.loss for now in emlib.train(model, schedule, images, 4, 8, 1e-2, 0, flip=True)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)

"""Measurements that are no measurements: refused where they are made, with the remedy, or read back as they were."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import emlib
from emlib.operators import KINDS, ChannelMask, FourierMask, load_measurements, save_measurements

Y = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
MASK = emlib.random_mask(3, 8, 0.5, 0)
ROWS = (0, 1, 2)
PLAIN = emlib.Identity()


def gapped(fill: float) -> torch.Tensor:
    return torch.where(MASK.mask == 0, fill, Y)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((Y * 127.5 + 127.5, PLAIN, 0.1, ROWS), "y reaches 25.*, too far for pictures on .*; bring both to that scale"),
        (((Y * 127.5 + 127.5).byte(), PLAIN, 0.1, ROWS), r"got torch.uint8; from bytes that is y / 127.5 - 1"),
        ((Y.numpy(), PLAIN, 0.1, ROWS), "got ndarray; torch.as_tensor makes one"),
        ((Y[:, 0], PLAIN, 0.1, ROWS), r"must be \[N, C, H, W\] with nothing of it 0, got \[3, 8, 8\]"),
        ((Y[:0], PLAIN, 0.1, ()), "with nothing of it 0"),
        ((Y, PLAIN, -0.1, ROWS), "noise_std must be 0 or more .*, got -0.1"),
        ((Y, PLAIN, math.nan, ROWS), "noise_std must be 0 or more .*, got nan"),
        ((Y, PLAIN, math.inf, ROWS), "noise_std must be 0 or more .*, got inf"),
        ((Y, PLAIN, "0.1", ROWS), "noise_std must be 0 or more"),
        ((Y, PLAIN, 0.1, (0, 0, 1)), "index has 0 for 2 pictures, which would all be drawn with the same noise"),
        ((Y, PLAIN, 0.1, (0, 1)), r"3 pictures need as many numbers in index, got 2; tuple\(range\(3\)\)"),
        ((Y, PLAIN, 0.1, (0, 1, 2.5)), "index holds whole numbers, one a picture, got 2.5"),
        ((Y, emlib.Identity, 0.1, ROWS), "need an operator such as"),
        ((Y.where(Y < 0.9, math.nan), PLAIN, 0.1, ROWS), "y of picture 0 holds NaN or infinite numbers; hide them"),
        ((gapped(-1.0), MASK, 0.1, ROWS), "y holds numbers such as -1 where mask hides everything; such gaps read 0"),
        ((gapped(math.nan), MASK, 0.1, ROWS), "holds NaN or infinite numbers; hide them by a mask, and put 0 there"),
        ((Y[:2] * MASK.mask[:2], MASK, 0.1, (0, 1)), "3 masks of 1 x 8 x 8 do not fit pictures"),
        ((gapped(0.0)[..., :7], MASK, 0.1, ROWS), "masks of 1 x 8 x 8 do not fit pictures"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_made(words, said):
    with pytest.raises(ValueError, match=said):
        emlib.Measurements(*words)


def test_more_pictures_than_the_operator_has_are_noticed_in_large_sets():
    y = torch.zeros(1500, 1, 8, 8)
    with pytest.raises(ValueError, match="mask is for fewer pictures than y, which has 1500"):
        emlib.Measurements(y, emlib.random_mask(1200, 8, 0.5, 0), 0.0, tuple(range(1500)))


@pytest.mark.parametrize("kind", [emlib.PixelMask, ChannelMask, FourierMask])
@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (MASK.mask * 0.5, r"got 0 to 0.5; \(mask > t\).float\(\) makes one of shares"),
        (MASK.mask * 255, "got 0 to 255; divide it by 255"),
        (MASK.mask.where(MASK.mask == 0, math.nan), "a mask is 1 where a number is seen and 0 elsewhere"),
        (MASK.mask.numpy(), "a mask is a tensor .*, got ndarray"),
        (MASK.mask[:, 0], r"a mask is \[N, C, H, W\], got \[3, 8, 8\]; add the dimensions that are missing"),
    ],
)
def test_a_mask_is_of_zeros_and_ones(kind, mask, said):
    with pytest.raises(ValueError, match=said):
        kind(mask)


def test_a_mask_of_pixels_has_one_channel():
    with pytest.raises(ValueError, match=r"\[N, 1, H, W\], got \[3, 3, 8, 8\]; emlib.operators.ChannelMask hides each"):
        emlib.PixelMask(MASK.mask.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64])
def test_a_mask_of_any_type_hides_the_same(dtype):
    assert torch.equal(emlib.PixelMask(MASK.mask.to(dtype))(Y), MASK(Y))


def test_the_noise_asked_for_is_the_noise_found():
    m = emlib.measure(torch.zeros(64, 1, 8, 8), emlib.random_mask(64, 8, 0.5, 0), 0.2, 0)
    assert m.y[m.operator.mask == 1].std().item() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("noise_std", [0.0, 0.2, 3.0])
def test_noise_and_pictures_a_little_beyond_the_scale_are_taken(noise_std):
    """What a network draws, or a sensor sees, lies beyond [-1, 1] now and then."""
    noise = noise_std * torch.randn(Y.shape, generator=torch.Generator().manual_seed(1))
    assert len(emlib.Measurements(1.5 * Y + noise, PLAIN, noise_std, ROWS)) == 3


def test_rows_may_be_taken_twice_from_what_was_checked():
    m = emlib.Measurements(gapped(0.0), MASK, 0.1, ROWS)
    assert m.select([2, 2, 0]).index == (2, 2, 0)
    assert torch.equal(m.select([2, 2, 0]).y, m.y[[2, 2, 0]])


def test_float64_is_refused_where_the_network_is_not(net, schedule, tmp_path):
    m = emlib.Measurements(Y.double(), PLAIN, 0.1, ROWS)
    with pytest.raises(ValueError, match=r"y holds torch.float64 and the network torch.float32; make .* y.float\(\)"):
        next(emlib.reconstruct(partial(emlib.mmps, steps=2), net, schedule, m, 0, "x", 3))
    settings = emlib.EMSettings(1, 1, 1, 2, 1e-3, 1e-3, 0.9, 4)
    with pytest.raises(ValueError, match=r"measurements are float64 and the network float32; make .* y.float\(\)"):
        emlib.run_em(m, Y, net.cfg, schedule, lambda prior, k: None, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Mine(emlib.Identity):
    """A stranger's operator that forgot to take a name of its own."""


def test_a_strangers_operator_is_not_read_back_as_one_of_ours(tmp_path):
    m = emlib.Measurements(Y, Mine(), 0.1, ROWS)
    with pytest.raises(ValueError, match="Mine has the name 'noise' of emlib's own Identity.*a name of its own"):
        save_measurements(m, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_bit_that_turned_in_kept_measurements_is_found(tmp_path):
    save_measurements(emlib.Measurements(gapped(0.0), MASK, 0.1, ROWS), tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    for at in range(len(content) - 40, len(content)):
        (tmp_path / "m.safetensors").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match=r"m\.safetensors is damaged"):
            load_measurements(tmp_path / "m.safetensors")


def kept(path, **others):
    """A file of measurements with some of its tensors, or its note, replaced."""
    save_measurements(emlib.Measurements(gapped(0.0), MASK, 0.1, ROWS), path)
    tensors, note = load_file(path), {"operator": "mask", "noise_std": 0.1}
    note = others.pop("note", json.dumps({**note, **others.pop("about", {})}))
    tensors = {key: x for key, x in {**tensors, **others}.items() if x is not None}
    save_file(tensors, path, metadata={"measurements": note})


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"note": "{"}, "has a damaged note"),
        ({"note": "null"}, "has a damaged note"),
        ({"note": "[" * 100_000}, "has a damaged note"),
        ({"about": {"noise_std": "much"}}, "has a damaged note"),
        ({"about": {"noise_std": -1}}, "noise_std must be 0 or more"),
        ({"about": {"operator": "nonsense"}}, "through the operator 'nonsense', not one of mask"),
        ({"about": {"operator": "noise"}}, "holds no 'noise' as this version makes it"),
        ({"y": None}, "lacks y or index"),
        ({"index": None}, "lacks y or index"),
        ({"index": torch.zeros(3, dtype=torch.long)}, "index has 0 for 3 pictures"),
        ({"index": torch.tensor(3)}, "3 pictures need as many numbers"),
        ({"mask": None}, "holds no 'mask' as this version makes it"),
        ({"mask": torch.zeros(2, 2)}, "holds no 'mask' as this version makes it"),
        ({"extra": torch.zeros(2, 2)}, "holds no 'mask' as this version makes it"),
        ({"y": Y * math.nan}, "holds NaN or infinite numbers"),
        ({"y": Y[:, 0]}, r"must be \[N, C, H, W\]"),
        ({"y": (Y * 9).byte()}, "got torch.uint8"),
    ],
)
def test_a_file_that_is_not_right_is_named(tmp_path, others, said):
    path = tmp_path / "m.safetensors"
    kept(path, **others)
    with pytest.raises(ValueError, match=rf"m\.safetensors .*{said}"):
        load_measurements(path)


def test_every_kind_has_its_own_class():
    assert all(kind.name == name for name, kind in KINDS.items())
    assert np.unique(list(KINDS)).size == len(KINDS)

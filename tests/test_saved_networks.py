"""Files that claim to hold a network: whatever stands in them, a sentence names them, and no memory is asked for."""

import json

import pytest
import torch
from safetensors.torch import save_file

import emlib

TINY = emlib.UNetConfig(channels=(8, 16), groups=4)
SIZES = {"in_channels": 1, "channels": [8, 16], "blocks": 1, "attention": [False, False], "patch": 2, "groups": 4}


def write(path, note, **changes):
    state = {**emlib.build_unet(TINY, 0).state_dict(), **changes}
    state = {name: x.contiguous() for name, x in state.items() if x is not None}
    save_file(state, path, metadata={"unet": note})


@pytest.mark.parametrize(
    "note",
    [
        "null",
        "[]",
        "3",
        "",
        "{",
        "[" * 100_000,
        *(
            json.dumps(SIZES | odd)
            for odd in (
                {"groups": 0},
                {"groups": True},
                {"groups": "4"},
                {"channels": [8, -16]},
                {"channels": [2_000_000, 4_000_000]},
                {"channels": [8, 10**30]},
                {"channels": []},
                {"channels": 8},
                {"channels": None},
                {"blocks": 10**9},
                {"blocks": 1.5},
                {"patch": 0},
                {"in_channels": None},
                {"attention": [1, "no"]},
                {"dropout": 2},
                {"dropout": None},
                {"refine": -1},
                {"another": 1},
                {"channels": [8, 32]},
            )
        ),
    ],
    ids=lambda note: note[:60],
)
def test_sizes_that_cannot_be_are_named(tmp_path, note):
    write(tmp_path / "x.safetensors", note)
    with pytest.raises(ValueError, match=r"x\.safetensors .*name another file"):
        emlib.load_unet(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv_in.weight": None}, "1 of its tensors are missing, conv_in.weight first"),
        ({"strange": torch.zeros(1)}, "1 tensors too many, 'strange' first"),
        ({"conv_in.bias": torch.zeros(9)}, r"conv_in.bias is \(9,\), but the network's is \(8,\)"),
        ({"conv_in.bias": torch.zeros(8, dtype=torch.int64)}, "int64, which are no weights"),
        ({"conv_in.bias": torch.full((8,), torch.nan)}, "conv_in.bias holds numbers that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, changes, says):
    write(tmp_path / "x.safetensors", json.dumps(SIZES), **changes)
    with pytest.raises(ValueError, match=says):
        emlib.load_unet(tmp_path / "x.safetensors")


def test_what_fits_is_read(tmp_path):
    write(tmp_path / "x.safetensors", json.dumps(SIZES))
    assert emlib.load_unet(tmp_path / "x.safetensors").cfg == TINY

import json
import pickle
from dataclasses import asdict, replace

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file
from torch.nn import functional as F

import emlib

CONFIGS = {
    "two levels": emlib.UNetConfig(channels=(8, 16), groups=4, patch=1),
    "attention at the second of three levels": emlib.UNetConfig(
        in_channels=3, channels=(8, 16, 16), blocks=2, attention=(False, True, False), groups=4, patch=1
    ),
    "attention at the finest level": emlib.UNetConfig(channels=(8, 16), attention=(True, False), groups=8, patch=1),
}


def twin(cfg):
    """The same network in diffusers, with its own random weights."""
    down = ["AttnDownBlock2D" if a else "DownBlock2D" for a in cfg.attention]
    up = ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(cfg.attention)]
    return UNet2DModel(
        in_channels=cfg.in_channels,
        out_channels=cfg.in_channels,
        block_out_channels=cfg.channels,
        layers_per_block=cfg.blocks,
        down_block_types=down,
        up_block_types=up,
        norm_num_groups=cfg.groups,
        norm_eps=1e-6,
        downsample_padding=0,
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
    ).eval()


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
def test_our_weights_give_the_same_noise_in_diffusers(cfg, wake):
    ours, theirs = wake(emlib.build_unet(cfg, 0)), twin(cfg)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, t = torch.randn(3, cfg.in_channels, 16, 16), torch.tensor([0, 500, 999])
    with torch.no_grad():
        a, b = ours(x, t), theirs(x, t).sample
    assert a.abs().mean() > 0.01
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
def test_weights_of_diffusers_give_the_same_noise_here(cfg, wake):
    ours, theirs = emlib.build_unet(cfg, 0).eval(), wake(twin(cfg), seed=7)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, t = torch.randn(2, cfg.in_channels, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=1e-5, atol=1e-5)


def test_patch_2_is_the_deeper_network_on_folded_pixels(tiny, wake):
    """diffusers' network of 4 channels between torch's pixel_unshuffle and pixel_shuffle."""
    ours = wake(emlib.build_unet(tiny, 0))
    theirs = twin(replace(tiny, in_channels=4, patch=1))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([5, 600])
    with torch.no_grad():
        b = F.pixel_shuffle(theirs(F.pixel_unshuffle(x, 2), t).sample, 2)
        torch.testing.assert_close(ours(x, t), b, rtol=1e-5, atol=1e-5)


def test_the_papers_network_has_35_7_million_parameters():
    cfg = emlib.preset("paper").unet
    with torch.device("meta"):
        ours, theirs = emlib.UNet(cfg), twin(cfg)
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    assert shapes == {k: v.shape for k, v in theirs.state_dict().items()}
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 1) == 35.7


def test_a_fresh_network_ignores_the_picture_and_still_learns(tiny):
    model = emlib.build_unet(tiny, 0)
    x = torch.randn(2, 1, 8, 8)
    out = model(x, torch.tensor([1, 2]))
    assert torch.equal(out, model(-x, torch.tensor([900, 3]))), "the answer must not depend on the picture yet"
    (out - x).square().mean().backward()
    assert model.conv_out.weight.grad.abs().sum() > 0


def test_the_seed_alone_decides_the_fresh_weights(tiny):
    torch.manual_seed(1)
    a = emlib.build_unet(tiny, 3)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1)), "the caller's random numbers were disturbed"
    b, c = emlib.build_unet(tiny, 3), emlib.build_unet(tiny, 4)
    assert torch.equal(a.conv_in.weight, b.conv_in.weight)
    assert not torch.equal(a.conv_in.weight, c.conv_in.weight)


def test_a_picture_does_not_depend_on_its_batch(net):
    x, t = torch.randn(7, 1, 8, 8), torch.arange(7) * 100
    with torch.no_grad():
        one_by_one = torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(7)])
        torch.testing.assert_close(net(x, t), one_by_one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 10, 8), (2, 1, 8, 6), (1, 8, 8)])
def test_pictures_that_do_not_fit_are_refused(net, shape):
    with pytest.raises(ValueError, match=r"\[B, 1, H, W\] with sides in multiples of 4") as refusal:
        net(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long))
    assert str(shape) in str(refusal.value)


def test_sizes_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match=r"attention=\(False,\)"):
        emlib.UNetConfig(attention=(False,))
    with pytest.raises(ValueError, match=r"multiple of groups=16, got \[24\]"):
        emlib.UNetConfig(channels=(24, 48))


def test_a_network_comes_back_from_disk_as_it_was(net, tmp_path):
    path = tmp_path / "new" / "net.safetensors"
    emlib.save_unet(net, path, command="python -m emlib train")
    back = emlib.load_unet(path)
    assert back.cfg == net.cfg
    assert not back.training
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([9, 90])
    with torch.no_grad():
        torch.testing.assert_close(back(x, t), net(x, t), rtol=1e-6, atol=1e-6)
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in net.state_dict().items())


def test_a_missing_file_is_named_with_a_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors; .*run the command that writes it"):
        emlib.load_unet(tmp_path / "nothing.safetensors")


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"foreign\.safetensors carries no note 'unet'"):
        emlib.load_unet(tmp_path / "foreign.safetensors")


class Trap:
    def __reduce__(self):
        return (open, (Trap.path, "w"))


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch.save"])
def test_a_pickled_file_is_refused_and_nothing_in_it_runs(tmp_path, write):
    Trap.path = str(tmp_path / "sprung")
    path = tmp_path / "trap.safetensors"
    with path.open("wb") as file:
        write(Trap(), file)
    with pytest.raises(ValueError, match=r"trap\.safetensors"):
        emlib.load_unet(path)
    assert not (tmp_path / "sprung").exists()


def test_refining_begins_as_nothing_and_then_sees_single_pixels(tiny, wake):
    with_it = emlib.build_unet(replace(tiny, refine=6), 0)
    without = emlib.build_unet(tiny, 0)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 500])
    names = set(with_it.state_dict()) - set(without.state_dict())
    assert names == {f"refine_{end}.{part}" for end in ("in", "out") for part in ("weight", "bias")}
    with torch.no_grad():
        with_it.refine_out.bias.zero_()
        same = {name: w for name, w in with_it.state_dict().items() if name not in names}
        without.load_state_dict(same)
        assert torch.equal(with_it(x, t), without(x, t))
        # alone, with all else silent, it answers to a shift by one pixel with the same shift: no square is special
        wake(with_it)
        with_it.conv_out.weight.zero_()
        with_it.conv_out.bias.zero_()
        answer, moved = with_it(x, t), with_it(x.roll(1, dims=-1), t)
    torch.testing.assert_close(moved[..., 3:-2], answer.roll(1, dims=-1)[..., 3:-2])
    assert (answer - answer.roll(1, dims=-1)).abs().max() > 0.01


def test_a_refining_network_is_kept_and_one_from_before_is_read(tiny, tmp_path):
    model = emlib.build_unet(replace(tiny, refine=6), 0)
    emlib.save_unet(model, tmp_path / "new.safetensors")
    assert emlib.load_unet(tmp_path / "new.safetensors").cfg.refine == 6
    old = {key: value for key, value in asdict(tiny).items() if key != "refine"}
    state = {name: w.contiguous() for name, w in emlib.build_unet(tiny, 0).state_dict().items()}
    save_file(state, tmp_path / "old.safetensors", metadata={"unet": json.dumps(old)})
    assert emlib.load_unet(tmp_path / "old.safetensors").cfg == tiny

"""Networks in diffusers' layout, held against diffusers itself: through real folders, both ways, old names and new."""

import inspect
import json
import pickle
import re
import shutil
import sys
from functools import partial

import huggingface_hub
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from huggingface_hub.utils import EntryNotFoundError
from safetensors.torch import load_file, save_file
from test_unet import CONFIGS, twin

import emlib
from emlib.hub import diffusers as layout
from emlib.hub import pretrained

CFG = emlib.UNetConfig(in_channels=3, channels=(8, 16), attention=(True, False), groups=4, patch=1)

# What google's checkpoints of 2022 say of themselves: nothing of the keys that came later.
OLD = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_type": "positional",
}
GOOGLE = {
    "paper": {
        **OLD,
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "sample_size": 32,
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    },
    "paper-celeba": {
        **OLD,
        "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
        "sample_size": 256,
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
    },
}


@pytest.fixture
def theirs(wake):
    return wake(twin(CFG), seed=5)


@pytest.fixture
def folder(theirs, tmp_path):
    """A network as diffusers writes it."""
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def same(ours, theirs):
    x, t = torch.randn(3, ours.cfg.in_channels, 16, 16), torch.tensor([0, 500, 999])
    with torch.no_grad():
        a, b = ours(x, t), theirs(x, t).sample
    assert a.abs().mean() > 0.01
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def change(folder, **values):
    """Writes other values into config.json; a value of ``...`` takes the key out."""
    said = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({key: value for key, value in said.items() if value is not ...}))


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
def test_a_folder_that_diffusers_wrote_gives_the_same_noise_here(cfg, safe, wake, tmp_path):
    theirs = wake(twin(cfg), seed=3)
    theirs.save_pretrained(tmp_path, safe_serialization=safe)
    assert (tmp_path / (pretrained.WEIGHTS if safe else pretrained.PICKLED)).is_file()
    ours = emlib.load_pretrained(tmp_path)
    assert ours.cfg == cfg
    assert not ours.training
    assert all(p.requires_grad for p in ours.parameters())
    same(ours, theirs)


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
def test_a_folder_that_we_wrote_gives_the_same_noise_in_diffusers_and_here_again(cfg, wake, tmp_path):
    ours = wake(emlib.build_unet(cfg, 0), seed=4)
    emlib.save_pretrained(ours, tmp_path / "out", {"size": "16"})
    theirs, info = UNet2DModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.sample_size == 16
    same(ours, theirs.eval())
    again = emlib.load_pretrained(tmp_path / "out")
    assert again.cfg == ours.cfg
    assert all(torch.equal(x, again.state_dict()[key]) for key, x in ours.state_dict().items())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "config.json", pretrained.WEIGHTS]


def test_dropout_survives_both_ways(tmp_path):
    cfg = emlib.UNetConfig(channels=(8, 16), groups=4, patch=1, dropout=0.25)
    emlib.save_pretrained(emlib.build_unet(cfg, 0), tmp_path / "out")
    assert emlib.load_pretrained(tmp_path / "out").cfg == cfg
    assert UNet2DModel.from_pretrained(tmp_path / "out").down_blocks[0].resnets[0].dropout.p == 0.25


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("convolved", [False, True], ids=["matrices", "1 x 1 convolutions"])
def test_attention_under_its_old_names_loads(theirs, folder, suffix, convolved):
    """As in google/ddpm-cifar10-32: query, key, value and proj_attn; diffusers reads the matrices among them, too."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, x in load_file(folder / pretrained.WEIGHTS).items():
        for new, name in old.items():
            if f"{new}." in key:
                key, x = key.replace(new, name), x[:, :, None, None] if convolved and x.ndim == 2 else x
        state[key] = x
    assert sum(".query." in key for key in state) == 2 * (1 + 2 + 1)  # weight and bias: down, up twice, middle
    (folder / pretrained.WEIGHTS).unlink()
    if suffix == "bin":
        torch.save(state, folder / pretrained.PICKLED)
    else:
        save_file(state, folder / pretrained.WEIGHTS, metadata={"format": "pt"})
    same(emlib.load_pretrained(folder), theirs)
    if not convolved:
        same(emlib.load_pretrained(folder), UNet2DModel.from_pretrained(folder, use_safetensors=suffix != "bin").eval())


def test_half_precision_weights_become_float32(theirs, folder):
    theirs.half().save_pretrained(folder)
    ours = emlib.load_pretrained(folder)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    same(ours, theirs.float())


def test_a_whole_pipeline_loads(theirs, tmp_path):
    DDPMPipeline(theirs, DDPMScheduler()).save_pretrained(tmp_path)
    assert (tmp_path / "unet" / "config.json").is_file()
    same(emlib.load_pretrained(str(tmp_path)), theirs)


def test_a_file_of_our_own_loads_as_ever(net, tmp_path):
    emlib.save_unet(net, tmp_path / "net.safetensors")
    again = emlib.load_pretrained(tmp_path / "net.safetensors")
    assert again.cfg == net.cfg
    assert torch.equal(again.conv_in.weight, net.conv_in.weight)


@pytest.mark.parametrize(("name", "millions"), [("paper", 35.75), ("paper-celeba", 113.67)])
def test_the_papers_networks_are_googles(name, millions):
    cfg = emlib.preset(name).unet
    assert layout.to_sizes({**GOOGLE[name], "dropout": cfg.dropout}, "config.json") == cfg
    with torch.device("meta"):
        ours = emlib.UNet(cfg)
        for config in (GOOGLE[name], layout.from_sizes(cfg)):  # as the hub has it, and as we write it
            theirs = UNet2DModel.from_config(config)
            assert {k: v.shape for k, v in ours.state_dict().items()} == {
                k: v.shape for k, v in theirs.state_dict().items()
            }
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 2) == millions


def test_silence_means_what_it_means_to_diffusers():
    said = inspect.signature(UNet2DModel.__init__).parameters
    theirs = {key: p.default for key, p in said.items() if p.default is not inspect.Parameter.empty}
    known = {key: value for key, value in layout.DEFAULTS.items() if key in theirs}
    assert known == {key: value for key, value in theirs.items() if key in known}
    assert all(value in (None, False) for key, value in theirs.items() if key not in known), "new since; see to_sizes"
    assert set(OLD) - {"_class_name", "_diffusers_version"} <= set(known)


def test_the_noise_schedule_that_is_asked_for_is_ours():
    scheduler = inspect.signature(DDPMScheduler.__init__).parameters
    ours = inspect.signature(emlib.linear_schedule).parameters
    names = {"num_train_timesteps": "T", "beta_start": "beta_min", "beta_end": "beta_max"}
    for key, (value, *_) in layout.SCHEDULE.items():
        if key != "predict_epsilon":  # as it was called before prediction_type
            assert scheduler[key].default == value
        if key in names:
            assert ours[names[key]].default == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_class_name", "UNet2DConditionModel"),
        ("center_input_sample", True),
        ("time_embedding_type", "fourier"),
        ("time_embedding_dim", 64),
        ("freq_shift", 0),
        ("flip_sin_to_cos", True),
        ("down_block_types", ["AttnDownBlock2D", "SkipDownBlock2D"]),
        ("down_block_types", ["AttnDownBlock2D"]),
        ("down_block_types", "DownBlock2D"),
        ("up_block_types", ["UpBlock2D", "CrossAttnUpBlock2D"]),
        ("up_block_types", ["AttnUpBlock2D", "UpBlock2D"]),  # attention elsewhere than on the way down
        ("mid_block_type", None),
        ("mid_block_scale_factor", 1.4),
        ("downsample_padding", 1),
        ("downsample_type", "resnet"),
        ("upsample_type", "resnet"),
        ("act_fn", "gelu"),
        ("norm_eps", 1e-5),
        ("norm_num_groups", None),
        ("attn_norm_num_groups", 2),
        ("attention_head_dim", 4),
        ("attention_head_dim", 8),  # one head at the first resolution, two in the middle
        ("resnet_time_scale_shift", "scale_shift"),
        ("add_attention", False),
        ("class_embed_type", "timestep"),
        ("num_class_embeds", 10),
        ("out_channels", 6),  # a learned sigma
        ("in_channels", "3"),
        ("layers_per_block", [1, 2]),
        ("block_out_channels", 16),
        ("block_out_channels", [8, "16"]),
        ("dropout", 1.5),
        ("a_new_trick", 0.5),
    ],
)
def test_what_our_network_cannot_be_is_refused_by_key_and_value(folder, key, value):
    change(folder, **{key: value})
    (folder / pretrained.WEIGHTS).unlink()  # the refusal comes before the weights are asked for
    with pytest.raises(ValueError, match=rf"config\.json: {key} is {re.escape(repr(value))}, but .*; take another"):
        emlib.load_pretrained(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("freq_shift", 0),
        ("flip_sin_to_cos", True),
        ("downsample_padding", 1),
        ("norm_eps", 1e-5),
        ("attention_head_dim", 8),
    ],
)
def test_a_missing_key_is_refused_where_diffusers_default_does_not_suit_us(folder, key, value):
    change(folder, **{key: ...})
    assert UNet2DModel.from_pretrained(folder).config[key] == value
    with pytest.raises(ValueError, match=rf"{key} is {value!r} \(diffusers' default, since the file does not say\)"):
        emlib.load_pretrained(folder)


def test_widths_that_do_not_divide_into_groups_are_refused(folder):
    change(folder, norm_num_groups=5)
    with pytest.raises(ValueError, match=r"config\.json: each width must be a multiple of groups=5"):
        emlib.load_pretrained(folder)


def test_what_changes_nothing_is_let_through(theirs, folder):
    """One head by its width, another name of SiLU, the averaging's own notes, names of 2022, a later switch, off."""
    with torch.no_grad():
        deep = UNet2DModel.from_config({**theirs.config, "block_out_channels": [16, 16]}).eval()
    deep.save_pretrained(folder)
    change(
        folder,
        attention_head_dim=16,
        act_fn="swish",
        decay=0.9999,
        power=0.75,
        optimization_step=10,
        later=None,
        down_block_types=["UNetResAttnDownBlock2D", "UNetResDownBlock2D"],
    )
    same(emlib.load_pretrained(folder), UNet2DModel.from_pretrained(folder).eval())


@pytest.mark.parametrize("flat", [True, False], ids=["beside the network", "in a pipeline"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("beta_schedule", "squaredcos_cap_v2"), ("num_train_timesteps", 4000), ("prediction_type", "v_prediction")],
)
def test_a_network_of_another_noise_schedule_is_refused(theirs, tmp_path, key, value, flat):
    scheduler = DDPMScheduler(**{key: value})
    if flat:
        theirs.save_pretrained(tmp_path)
        scheduler.save_pretrained(tmp_path)
    else:
        DDPMPipeline(theirs, scheduler).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: {key} is '?{value}'?, but emlib's noise schedule"):
        emlib.load_pretrained(tmp_path)


def test_weights_of_another_network_are_refused_by_name(folder):
    change(folder, layers_per_block=2)
    with pytest.raises(ValueError, match=r"does not hold the network .*down_blocks\.0\.resnets\.1") as refusal:
        emlib.load_pretrained(folder)
    assert len(str(refusal.value)) < 1000


def test_what_is_missing_or_damaged_is_named(folder, tmp_path):
    (folder / pretrained.WEIGHTS).write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match=r"\.safetensors is no safetensors file"):
        emlib.load_pretrained(folder)
    (folder / pretrained.WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=rf"theirs holds no {pretrained.WEIGHTS} or {pretrained.PICKLED}; name"):
        emlib.load_pretrained(folder)
    for text, says in [("{", "is no JSON file"), ("[1]", "holds no JSON object, but list")]:
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=rf"config\.json {says}"):
            emlib.load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"theirs holds no unet/config\.json; name a folder"):
        emlib.load_pretrained(folder)
    with pytest.raises(FileNotFoundError, match=r"no file at .*gone\.safetensors"):
        emlib.load_pretrained(tmp_path / "gone.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file or folder at .*theirs/gone; check the path"):
        emlib.load_pretrained(folder / "gone")


class Trap:
    def __reduce__(self):
        return (open, (Trap.path, "w"))


@pytest.mark.parametrize("write", [partial(pickle.dump, protocol=2), torch.save], ids=["pickle", "torch.save"])
def test_nothing_in_a_pickled_file_runs(folder, tmp_path, write):
    Trap.path = str(tmp_path / "sprung")
    (folder / pretrained.WEIGHTS).unlink()
    with (folder / pretrained.PICKLED).open("wb") as file:
        write({"conv_in.weight": Trap()}, file)
    with pytest.raises(ValueError, match=r"\.bin is damaged or holds more than weights"):
        emlib.load_pretrained(folder)
    assert not (tmp_path / "sprung").exists()
    torch.save({"weights": [torch.zeros(2)]}, folder / pretrained.PICKLED)
    with pytest.raises(ValueError, match=r"\.bin holds no weights by name"):
        emlib.load_pretrained(folder)


# ---- the hub ----


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands in for the hub's server: hands out files of a folder, and notes which."""
    asked = []

    def download(repo, name):
        asked.append(name)
        if not (tmp_path / "hub" / repo).is_dir():
            raise OSError("404 Client Error.\nRepository Not Found")
        if not (tmp_path / "hub" / repo / name).is_file():
            raise EntryNotFoundError(name)
        return str(tmp_path / "hub" / repo / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(pretrained, "answers", lambda address: True)
    monkeypatch.chdir(tmp_path)
    return asked


def test_only_what_is_needed_is_fetched(hub, theirs, tmp_path):
    home = tmp_path / "hub" / "some" / "ddpm"
    theirs.save_pretrained(home)
    theirs.save_pretrained(home, safe_serialization=False)
    DDPMScheduler().save_pretrained(home)
    (home / "picture.png").write_bytes(b"")
    same(emlib.load_pretrained("some/ddpm"), theirs)
    assert set(hub) == {"config.json", "scheduler_config.json", pretrained.WEIGHTS}
    (home / pretrained.WEIGHTS).unlink()
    same(emlib.load_pretrained("some/ddpm"), theirs)
    assert hub[-1] == pretrained.PICKLED


def test_a_network_that_does_not_suit_us_costs_no_download(hub, theirs, tmp_path):
    DDPMPipeline(theirs, DDPMScheduler(prediction_type="sample")).save_pretrained(tmp_path / "hub" / "some" / "ddpm")
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        emlib.load_pretrained("some/ddpm")
    assert set(hub) == {"config.json", "unet/config.json", "scheduler/scheduler_config.json"}


def test_the_hubs_refusals_are_passed_on_in_one_line(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"some/where cannot be had from the .* \(404 Client Error\.\); check"):
        emlib.load_pretrained("some/where")
    (tmp_path / "hub" / "some" / "text").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"some/text at the Hugging Face hub holds no unet/config\.json; name"):
        emlib.load_pretrained("some/text")
    asked = len(hub)
    with pytest.raises(FileNotFoundError, match=r"no file or folder at hub/prior; check the path"):
        emlib.load_pretrained("hub/prior")  # hub is a folder here, so prior was looked for in it
    assert len(hub) == asked
    with pytest.raises(FileNotFoundError, match=r"no file or folder at a/b/c; .* such as google/ddpm-cifar10-32"):
        emlib.load_pretrained("a/b/c")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub's own client without a network, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_network_what_was_fetched_before_still_loads(offline, theirs, folder):
    home = offline / "models--google--ddpm-cifar10-32"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, home / "snapshots" / ("0" * 40))
    same(emlib.load_pretrained("google/ddpm-cifar10-32"), theirs)


def test_without_a_network_the_remedy_is_named(offline):
    with pytest.raises(FileNotFoundError, match=r"hub cannot be reached; .*`hf download google/x --local-dir FOLDER`"):
        emlib.load_pretrained("google/x")


def test_without_the_hubs_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"at google/x; to fetch it .* install huggingface_hub \(it comes"):
        emlib.load_pretrained("google/x")


# ---- writing ----


def test_folded_pixels_are_refused_before_anything_is_written(net, tmp_path):
    with pytest.raises(ValueError, match=r"folds pixels \(patch=2, refine=0\)"):
        emlib.save_pretrained(net, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_written_over(wake, tmp_path):
    ours = wake(emlib.build_unet(CFG, 0))
    (tmp_path / "out").mkdir()
    emlib.save_pretrained(ours, tmp_path / "out")  # it was empty
    before = (tmp_path / "out" / "config.json").read_bytes()
    with pytest.raises(ValueError, match="out is there already; name another folder or delete it"):
        emlib.save_pretrained(wake(ours, seed=1), tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_a_writing_that_fails_halfway_leaves_nothing(monkeypatch, tmp_path):
    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(pretrained, "model_card", fails)
    with pytest.raises(OSError, match="no space"):
        emlib.save_pretrained(emlib.build_unet(CFG, 0), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

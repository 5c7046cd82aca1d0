r"""The sizes of our U-Net in the words of diffusers' ``UNet2DModel``, and back; what ours cannot express is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from emlib.runtime.numbers import is_whole
from emlib.unet import UNetConfig

DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
"""What diffusers takes where ``config.json`` is silent. The checkpoints of 2022 (google/ddpm-cifar10-32) know only some
of these keys; a later version gave every new key the value that leaves the old network as it was."""


FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel",),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (1,),
    "flip_sin_to_cos": (False,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "norm_eps": (1e-6,),
    "resnet_time_scale_shift": ("default",),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
"""Where our network has no choice: what it is, and other names for the same."""


MOST = 2**16
"""Of widths, blocks and groups: no network that fits anywhere has more."""


SCHEDULE: dict[str, tuple[Any, ...]] = {
    "num_train_timesteps": (1000,),
    "beta_start": (1e-4,),
    "beta_end": (0.02,),
    "beta_schedule": ("linear",),
    "trained_betas": (None,),
    "prediction_type": ("epsilon",),
    "predict_epsilon": (True,),
    "rescale_betas_zero_snr": (False,),
}
"""What a scheduler beside the network may say: :func:`emlib.schedule.linear_schedule`, and a network that says eps."""


MOST = 2**16
"""Larger counts and widths than this no network has; nobody waits until one of them is built."""


AVERAGED = {"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"}
"""What diffusers' ``EMAModel`` writes into ``config.json`` beside the sizes."""


OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Parts of an attention block, as they were called before diffusers 0.15."""


def check_schedule(said: Mapping[str, Any], where: str) -> None:
    """Refuses a network that was trained with other noise levels than ours, or that predicts something else than eps.

    Args:
        said: a ``scheduler_config.json``.
        where: its name, for the refusal.

    Raises:
        ValueError: naming the key and its value.
    """
    for key, allowed in SCHEDULE.items():
        if key in said and said[key] not in allowed:
            raise ValueError(
                f"{where}: {key} is {said[key]!r}, but emlib's noise schedule has {allowed[0]!r}; take another network"
            )


def to_sizes(said: Mapping[str, Any], where: str) -> UNetConfig:
    """The sizes that a ``config.json`` of diffusers gives.

    Args:
        said: what it says; keys that it lacks have diffusers' defaults.
        where: its name, for the refusal.

    Raises:
        ValueError: if our network cannot be like that, naming the key and its value.
    """
    full = {"_class_name": "UNet2DModel", **DEFAULTS, **said}
    for key, fits, ours in _checks(full):
        if not fits:
            silent = "" if key in said else " (diffusers' default, since the file does not say)"
            raise ValueError(
                f"{where}: {key} is {full[key]!r}{silent}, but emlib's U-Net has {ours}; take another network"
            )
    try:
        return UNetConfig(
            in_channels=full["in_channels"],
            channels=tuple(full["block_out_channels"]),
            blocks=full["layers_per_block"],
            attention=_attention(full["down_block_types"], "Down") or (),
            patch=1,
            dropout=float(full["dropout"]),
            groups=full["norm_num_groups"],
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}; take another network") from None


def _checks(full: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Key, whether its value suits our network, and what that has; each may rely on the ones before it."""
    for key, allowed in FIXED.items():
        yield key, full[key] in allowed, repr(allowed[0])
    for key in sorted(full.keys() - DEFAULTS.keys() - FIXED.keys() - AVERAGED):
        # what a later diffusers added may be there and off
        yield key, key.startswith("_") or full[key] in (None, False), "no such thing"
    for key in ("in_channels", "layers_per_block", "norm_num_groups"):
        yield key, _count(full[key]), f"a whole number, 1 to {MOST}"
    yield "layers_per_block", full["layers_per_block"] <= 64, "64 at most"
    yield "dropout", isinstance(full["dropout"], (int, float)) and 0 <= full["dropout"] < 1, "a share in [0, 1)"
    # a learned sigma would double them
    yield "out_channels", full["out_channels"] == full["in_channels"], f"in_channels={full['in_channels']}: eps alone"
    channels = full["block_out_channels"]
    listed = isinstance(channels, (list, tuple)) and len(channels) > 0 and all(map(_count, channels))
    yield "block_out_channels", listed, "a list of widths"
    for key in ("down_block_types", "up_block_types"):
        yield key, isinstance(full[key], (list, tuple)) and len(full[key]) == len(channels), "one block a resolution"
    attention = _attention(full["down_block_types"], "Down")
    yield "down_block_types", attention is not None, "DownBlock2D and AttnDownBlock2D"
    mirrored = _attention(full["up_block_types"][::-1], "Up") == attention
    yield "up_block_types", mirrored, "UpBlock2D, and AttnUpBlock2D where the way down has attention"
    temb, groups = 4 * channels[0], full["norm_num_groups"]
    yield "time_embedding_dim", full["time_embedding_dim"] in (None, temb), f"four times the first width, {temb}"
    yield "attn_norm_num_groups", full["attn_norm_num_groups"] in (None, groups), f"{groups} groups everywhere"
    widths = {c for c, attends in zip(channels, attention or ()) if attends} | {
        channels[-1]
    }  # the middle always attends
    single = full["attention_head_dim"] is None or all(c == full["attention_head_dim"] for c in widths)
    yield "attention_head_dim", single, f"one head over all channels, {sorted(widths)} (or null)"


def _count(value: Any) -> bool:
    return is_whole(value) and 0 < value <= MOST


def _attention(types: list[str], way: str) -> tuple[bool, ...] | None:
    """Which blocks attend; None if one is of another kind. The first checkpoints wrote UNetRes before the name."""
    kinds = {f"{way}Block2D": False, f"Attn{way}Block2D": True}
    names = [str(name).removeprefix("UNetRes") for name in types]
    return tuple(kinds[name] for name in names) if set(names) <= set(kinds) else None


def from_sizes(cfg: UNetConfig, size: int | None = None) -> dict[str, Any]:
    """What diffusers' ``config.json`` says of our network.

    Args:
        cfg: its sizes.
        size: height and width of the pictures that it was trained on, which diffusers' pipelines ask for.

    Raises:
        ValueError: if pixels are folded first (``patch`` above 1), which diffusers has no word for.
    """
    if cfg.patch != 1 or cfg.refine:
        raise ValueError(
            f"this network folds pixels (patch={cfg.patch}, refine={cfg.refine}), for which diffusers has no word; "
            "keep it in emlib's own file, or train one of patch 1, such as those of the presets paper and paper-celeba"
        )
    return {
        **DEFAULTS,
        **{key: allowed[0] for key, allowed in FIXED.items()},
        "sample_size": size,
        "in_channels": cfg.in_channels,
        "out_channels": cfg.in_channels,
        "down_block_types": ["AttnDownBlock2D" if attends else "DownBlock2D" for attends in cfg.attention],
        "up_block_types": ["AttnUpBlock2D" if attends else "UpBlock2D" for attends in cfg.attention[::-1]],
        "block_out_channels": list(cfg.channels),
        "layers_per_block": cfg.blocks,
        "dropout": cfg.dropout,
        "attention_head_dim": None,
        "norm_num_groups": cfg.groups,
    }


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under today's names, in float32: old attention blocks had others, and 1 x 1 convolutions for matrices."""
    found = {}
    for key, x in state.items():
        old = re.fullmatch(r"(.+\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", key)
        key = f"{old[1]}.{OLD_NAMES[old[2]]}.{old[3]}" if old else key
        if re.search(r"\.attentions\.\d+\.to_", key) and x.ndim == 4:
            x = x.flatten(1)  # [C, C, 1, 1] -> [C, C]
        found[key] = x.float()
    return found

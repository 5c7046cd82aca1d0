r"""The U-Net eps_theta(x_t, t): it looks at a noisy picture and says which noise is in it.

The layout and the names of the parts are those of ``diffusers``' ``UNet2DModel`` with DDPM blocks, so
that its weights load here and ours load there. The one addition is ``patch``: the picture is folded
into fewer, deeper pixels first (pixel-unshuffle), which makes a small network several times faster.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emlib.runtime.tensors import read_tensors, write_tensors


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net.

    Attributes:
        in_channels: colours of a picture, 1 or 3.
        channels: width of each resolution, finest first; each a multiple of ``groups``.
        blocks: residual blocks a resolution.
        attention: whether each resolution has self-attention, one entry a resolution.
        patch: side of the square of pixels folded into one at the start; 1 for none, which costs patch^2 times as much
            and is worth trying for blurred photographs: what alternates within a square is a constant to a folded
            network, and a blur hardly tells where it goes wrong (``benchmarks/folding.py``).
        dropout: share of activations dropped in training, in [0, 1).
        groups: groups of each normalisation.
        refine: width of two convolutions on the unfolded picture, which see it and x_t; 0 for none. They cost next to
            nothing and take away most of what alternates within a square (see ``patch``).
    """

    in_channels: int = 1
    channels: tuple[int, ...] = (48, 96)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, False)
    patch: int = 2
    dropout: float = 0.0
    groups: int = 16
    refine: int = 0

    def __post_init__(self) -> None:
        self._check_kinds()
        if len(self.attention) != len(self.channels):
            raise ValueError(
                f"attention needs one entry a resolution: {len(self.channels)} widths {self.channels}, "
                f"but attention={self.attention}"
            )
        if bad := [c for c in self.channels if c % self.groups]:
            raise ValueError(f"each width must be a multiple of groups={self.groups}, got {bad}")

    def _check_kinds(self) -> None:
        """Sizes may come from a file, where anything may stand."""
        for name in ("channels", "attention"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise ValueError(f"{name} takes one entry a resolution, got {getattr(self, name)!r:.80}")
        if not self.channels:
            raise ValueError("a network has at least one resolution, got channels=()")
        if bad := [x for x in self.attention if x not in (True, False)]:
            raise ValueError(f"attention is True or False at each resolution, got {bad[0]!r:.80}")
        counts = {"in_channels": self.in_channels, "blocks": self.blocks, "patch": self.patch, "groups": self.groups}
        for name, value in [*counts.items(), *(("channels", width) for width in self.channels)]:
            if not _whole(value) or value < 1:
                raise ValueError(f"{name} takes whole numbers above 0, got {value!r:.80}")
        if not _whole(self.refine) or self.refine < 0:
            raise ValueError(f"refine takes a whole number, 0 or more, got {self.refine!r:.80}")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout takes a share in [0, 1), got {self.dropout!r:.80}")

    @property
    def stride(self) -> int:
        """Height and width of a picture must be a multiple of this."""
        return self.patch * 2 ** (len(self.channels) - 1)


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of the time, [B] -> [B, dim] (Ho et al. 2020, appendix B)."""
    half = dim // 2
    # frequencies 10000^(-i / (half - 1)), as in DDPM's own code
    frequency = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=t.device))
    angle = t.float()[:, None] * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class TimeMLP(nn.Module):
    """Turns the sines and cosines into a vector that every block reads."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


def norm_silu(x: Tensor, norm: nn.GroupNorm, shift: Tensor | None = None) -> Tensor:
    """What stands before a convolution: silu(norm(x + shift)), [B, C, H, W] and [B, C] -> [B, C, H, W]."""
    return F.silu(norm(x if shift is None else x + shift[:, :, None, None]))


class ResBlock(nn.Module):
    """Two convolutions with a shortcut; the time shifts what passes between them."""

    between = staticmethod(norm_silu)  # on a GPU another one does the same (`emlib.runtime.fused`)

    def __init__(self, cin: int, cout: int, temb: int, cfg: UNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(cfg.groups, cin, eps=1e-6)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, cout)
        self.norm2 = nn.GroupNorm(cfg.groups, cout, eps=1e-6)
        self.dropout = nn.Dropout(cfg.dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.conv_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(self.between(x, self.norm1))
        h = self.conv2(self.dropout(self.between(h, self.norm2, self.time_emb_proj(F.silu(temb)))))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Attention(nn.Module):
    """Every pixel looks at every other one: single-head self-attention with a shortcut."""

    def __init__(self, channels: int, cfg: UNetConfig) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(cfg.groups, channels, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)  # [B, H W, C]
        q, k, v = self.to_q(h), self.to_k(h), self.to_v(h)
        # softmax(q k^T / sqrt(C)) v
        if h.is_cuda:  # whose kernels want to be told that there is one head
            h = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        else:
            h = F.scaled_dot_product_attention(q, k, v)
        return x + self.to_out[0](h).transpose(1, 2).reshape(x.shape)


class Resample(nn.Module):
    """Halves the resolution by a strided convolution, or doubles it and smooths."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # DDPM pads only right and below


class Level(nn.Module):
    """The blocks of one resolution on the way down, in the middle or on the way up."""

    attentions: nn.ModuleList
    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(self, widths: list[tuple[int, int]], attention: bool, temb: int, cfg: UNetConfig) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(cin, cout, temb, cfg) for cin, cout in widths)
        if attention:
            self.attentions = nn.ModuleList(Attention(cout, cfg) for _, cout in widths)

    def step(self, i: int, x: Tensor, temb: Tensor) -> Tensor:
        x = self.resnets[i](x, temb)
        return self.attentions[i](x) if hasattr(self, "attentions") else x


class UNet(nn.Module):
    """eps_theta: [B, C, H, W] noisy pictures and [B] times -> [B, C, H, W] noise estimates."""

    between = staticmethod(norm_silu)

    def __init__(self, cfg: UNetConfig) -> None:
        super().__init__()
        self.cfg = cfg
        width, temb = cfg.channels, 4 * cfg.channels[0]
        pixels = cfg.in_channels * cfg.patch**2
        self.conv_in = nn.Conv2d(pixels, width[0], 3, padding=1)
        self.time_embedding = TimeMLP(width[0], temb)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, cin, last = [width[0]], width[0], len(width) - 1
        for i, cout in enumerate(width):
            level = Level([(cin if j == 0 else cout, cout) for j in range(cfg.blocks)], cfg.attention[i], temb, cfg)
            skips += [cout] * cfg.blocks
            if i < last:
                level.downsamplers = nn.ModuleList([Resample(cout, up=False)])
                skips.append(cout)
            self.down_blocks.append(level)
            cin = cout
        # The middle: block, attention, block.
        self.mid_block = Level([(cin, cin)] * 2, False, temb, cfg)
        self.mid_block.attentions = nn.ModuleList([Attention(cin, cfg)])
        for i, cout in reversed(list(enumerate(width))):
            widths = []
            for _ in range(cfg.blocks + 1):
                widths.append((cin + skips.pop(), cout))
                cin = cout
            level = Level(widths, cfg.attention[i], temb, cfg)
            if i > 0:
                level.upsamplers = nn.ModuleList([Resample(cout, up=True)])
            self.up_blocks.append(level)
        self.conv_norm_out = nn.GroupNorm(cfg.groups, width[0], eps=1e-6)
        self.conv_out = nn.Conv2d(width[0], pixels, 3, padding=1)
        last_layers = [self.conv_out]
        if cfg.refine:
            self.refine_in = nn.Conv2d(2 * cfg.in_channels, cfg.refine, 3, padding=1)
            self.refine_out = nn.Conv2d(cfg.refine, cfg.in_channels, 3, padding=1)
            last_layers.append(self.refine_out)
        # As in DDPM's own code: each block starts as its shortcut, the network with an answer that ignores x.
        for final in [*last_layers, *(m.conv2 for m in self.modules() if isinstance(m, ResBlock))]:
            nn.init.zeros_(final.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.cfg.in_channels or any(side % self.cfg.stride for side in x.shape[2:]):
            raise ValueError(
                f"this network takes [B, {self.cfg.in_channels}, H, W] with sides in multiples of {self.cfg.stride}, "
                f"got {tuple(x.shape)}; resize the pictures or build another UNetConfig"
            )
        temb = self.time_embedding(time_embedding(t.expand(len(x)), self.cfg.channels[0]).to(x.dtype))
        h = self.conv_in(F.pixel_unshuffle(x, self.cfg.patch))
        skips = [h]
        for level in levels(self.down_blocks):
            for i in range(len(level.resnets)):
                h = level.step(i, h, temb)
                skips.append(h)
            if hasattr(level, "downsamplers"):
                h = level.downsamplers[0](h)
                skips.append(h)
        h = self.mid_block.resnets[0](h, temb)
        h = self.mid_block.resnets[1](self.mid_block.attentions[0](h), temb)
        for level in levels(self.up_blocks):
            for i in range(len(level.resnets)):
                h = level.step(i, torch.cat([h, skips.pop()], dim=1), temb)
            if hasattr(level, "upsamplers"):
                h = level.upsamplers[0](h)
        h = self.conv_out(self.between(h, self.conv_norm_out))
        h = F.pixel_shuffle(h, self.cfg.patch)
        return h + self.refine_out(F.silu(self.refine_in(torch.cat([h, x], dim=1)))) if self.cfg.refine else h


def levels(blocks: nn.ModuleList) -> list[Level]:
    """The levels of a way down or up, which torch's own list knows as modules of any kind."""
    return cast("list[Level]", blocks)


def build_unet(cfg: UNetConfig, seed: int) -> UNet:
    """A fresh network with weights drawn from ``seed``, laid out in memory for fast convolutions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(cfg).to(memory_format=torch.channels_last)


def save_unet(model: UNet, path: str | Path, **notes: str) -> None:
    """Writes weights and sizes to one safetensors file, whole or not at all.

    Args:
        model: the network.
        path: file to write; its folder is made.
        notes: words to keep with the weights, such as the command that trained them.
    """
    write_tensors(path, model.state_dict(), {"unet": json.dumps(asdict(model.cfg)), **notes})


def load_unet(path: str | Path, remedy: str = "name another file") -> UNet:
    """Reads a network that :func:`save_unet` wrote; no code in the file is run.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the refusal.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file does not hold one of our networks, or is damaged.
    """
    note, state = read_tensors(path, "unet", remedy)
    try:
        cfg = _sizes(note)
        # before anything is made: a note may ask for more than any memory holds
        most, largest = len(state), max((x.numel() for x in state.values()), default=0)
        if (
            cfg.blocks * len(cfg.channels) > most
            or max(*cfg.channels, cfg.in_channels, cfg.patch, cfg.refine) > largest
        ):
            raise ValueError(f"{cfg} is more than {most} tensors of at most {largest} numbers can hold")
        with torch.device("meta"):
            wanted = UNet(cfg).state_dict()
        check_weights(state, wanted)
    except ValueError as error:
        raise ValueError(f"{path} does not hold a network of emlib's: {error}; {remedy}") from None
    model = UNet(cfg)
    model.load_state_dict(state)
    return model.eval()


def _sizes(note: str) -> UNetConfig:
    """The sizes that a file's note gives.

    Raises:
        ValueError: if it gives none.
    """
    try:
        said = json.loads(note)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its note of sizes is no JSON ({error})") from None
    if not isinstance(said, dict):
        raise ValueError(f"its note of sizes is no JSON object, but {type(said).__name__}")
    if strange := said.keys() - UNetConfig.__dataclass_fields__.keys():
        raise ValueError(f"its note of sizes has {', '.join(sorted(strange))[:80]}, which this release does not know")
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    return UNetConfig(**sizes)


def check_weights(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuses tensors that are not a network's weights.

    Args:
        state: what was read, by name.
        wanted: names and shapes of the network's own.

    Raises:
        ValueError: naming the first that is missing, too many, of another shape, or holds no finite numbers.
    """
    if missing := sorted(wanted.keys() - state.keys()):
        raise ValueError(f"{len(missing)} of its tensors are missing, {missing[0]} first")
    if extra := sorted(state.keys() - wanted.keys()):
        raise ValueError(f"it has {len(extra)} tensors too many, {extra[0]!r} first")
    for name, x in state.items():
        if x.shape != wanted[name].shape:
            raise ValueError(f"{name} is {tuple(x.shape)}, but the network's is {tuple(wanted[name].shape)}")
        if not x.is_floating_point():
            raise ValueError(f"{name} holds {x.dtype}, which are no weights")
        if not x.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")

r"""The U-Net eps_theta(x_t, t): it looks at a noisy picture and says which noise is in it.

The layout and the names of the parts are those of ``diffusers``' ``UNet2DModel`` with DDPM blocks, so
that its weights load here and ours load there. The one addition is ``patch``: the picture is folded
into fewer, deeper pixels first (pixel-unshuffle), which makes a small network several times faster.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emlib.unet.sizes import UNetConfig


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

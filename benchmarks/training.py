"""Speed of training: one update of our U-Net against one of diffusers' UNet2DModel with the same weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import diffusers
import torch
from e_step import alternated, options, parse, ratio, report
from torch import Tensor, nn

import emlib
from emlib.runtime.precision import FLOAT32


def twin(ours: emlib.UNet) -> nn.Module:
    """diffusers' network of the same sizes with the weights of ours, which must not fold pixels (patch 1)."""
    cfg = ours.cfg
    theirs = diffusers.UNet2DModel(
        in_channels=cfg.in_channels,
        out_channels=cfg.in_channels,
        block_out_channels=cfg.channels,
        layers_per_block=cfg.blocks,
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in cfg.attention],
        up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(cfg.attention)],
        norm_num_groups=cfg.groups,
        norm_eps=1e-6,
        downsample_padding=0,
        attention_head_dim=None,
        dropout=cfg.dropout,
        flip_sin_to_cos=False,
        freq_shift=1,
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs


class Sampled(nn.Module):
    """diffusers' network, which wraps its answer, as ours gives it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.model(x, t).sample


def updater(model: nn.Module, x0: Tensor, seed: int, speed: emlib.Speed = FLOAT32) -> Callable[[], float]:
    """A function that makes one update, always on the same noise, and returns the loss before it."""
    schedule, g = emlib.linear_schedule().to(x0.device), torch.Generator().manual_seed(seed)
    t, eps = torch.randint(schedule.T, (len(x0),), generator=g), torch.randn(x0.shape, generator=g)
    t, eps = t.to(x0.device), eps.to(x0.device)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4, fused=x0.is_cuda or None)
    net = emlib.quick(model if isinstance(model, emlib.UNet) else Sampled(model), speed)

    def update() -> float:
        loss = emlib.diffusion_loss(net, schedule, x0, t, eps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return update


def main(words: list[str] | None = None) -> None:
    parser = options(__doc__, pictures=32, repeats=15)
    parser.add_argument("--preset", help="whose network, with patch 1 (default: EMLIB_PRESET, then pocket)")
    args = parse(parser, words, pictures=2, repeats=1, preset="smoke")
    start = time.perf_counter()
    p = emlib.preset(args.preset)
    cfg, side = replace(p.unet, patch=1, refine=0, dropout=0.0), p.size
    g = torch.Generator().manual_seed(args.seed)
    x0 = torch.rand(args.pictures, cfg.in_channels, side, side, generator=g) * 2 - 1  # time does not depend on pictures
    ours = emlib.build_unet(cfg, args.seed)
    work = {
        "diffusers": updater(twin(ours), x0, args.seed),
        "diffusers, channels last": updater(twin(ours).to(memory_format=torch.channels_last), x0, args.seed),
        "ours": updater(ours, x0, args.seed),
        "ours, folded as in the preset": updater(emlib.build_unet(p.unet, args.seed), x0, args.seed),
    }
    if p.unet.patch == 1:
        del work["ours, folded as in the preset"]
    losses = {name: [update() for _ in range(2)] for name, update in work.items()}  # warms up
    for name in ("diffusers, channels last", "ours"):  # the same network, and its update the same
        torch.testing.assert_close(torch.tensor(losses[name]), torch.tensor(losses["diffusers"]), rtol=1e-3, atol=1e-4)
    seconds = alternated(work, args.repeats)
    rows = [
        {
            "network": name,
            "seconds": statistics.median(seconds[name]),
            "images_per_s": args.pictures / statistics.median(seconds[name]),
            **ratio(seconds, name, "diffusers"),
            "ratio_to_channels_last": ratio(seconds, name, "diffusers, channels last")["ratio"],
        }
        for name in work
    ]
    settings = {
        "preset": p.name,
        "pictures": args.pictures,
        "side": side,
        "parameters": sum(w.numel() for w in ours.parameters()),
        "diffusers": diffusers.__version__,
    }
    report(args, "training", settings, rows, time.perf_counter() - start)


if __name__ == "__main__":
    main()

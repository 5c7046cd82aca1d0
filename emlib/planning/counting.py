r"""What one evaluation of a network costs, counted on PyTorch's "meta" device: shapes without numbers."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from emlib.unet import UNet, UNetConfig

FLOAT = 4
"""Bytes of a number."""


@dataclass(frozen=True)
class NetworkCost:
    """One evaluation of a network for one picture.

    Attributes:
        parameters: how many numbers the network learns.
        forward: FLOPs of eps_theta(x_t, t); a multiplication and an addition count as two.
        gradient: FLOPs of a gradient by x_t after it, about as many: weights get no gradient.
        update: FLOPs of a gradient by the weights after it, about twice as many.
    """

    parameters: int
    forward: int
    gradient: int
    update: int


@cache
def network_cost(cfg: UNetConfig, side: int) -> NetworkCost:
    """Counts the FLOPs of a network on pictures of ``side`` x ``side`` pixels, attention included."""
    model = _on_meta(cfg)
    counts = []
    for train in (False, True):
        model.requires_grad_(train)
        x, t = _inputs(cfg, side, 1)
        with FlopCounterMode(display=False) as forward:
            y = model(x.requires_grad_(not train), t)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(y, list(model.parameters()) if train else x, torch.empty_like(y))
        counts.append((forward.get_total_flops(), backward.get_total_flops()))
    (forward, gradient), (_, update) = counts
    return NetworkCost(sum(p.numel() for p in model.parameters()), forward, gradient, update)


@cache
def live_bytes(cfg: UNetConfig, side: int, batch: int, backward: int, train: bool = False) -> int:
    """Most bytes that a forward pass and the backward passes after it hold at once, weights left out.

    Args:
        cfg: sizes of the network.
        side: height and width of a picture in pixels.
        batch: pictures at a time.
        backward: backward passes through the one forward pass; 0 keeps nothing for them.
        train: whether they go to the weights instead of the pictures.
    """
    model = _on_meta(cfg).requires_grad_(train).train(train)  # dropout keeps what it dropped
    with _Peak() as memory, torch.set_grad_enabled(backward > 0):
        x, t = _inputs(cfg, side, batch)
        y = model(x.requires_grad_(backward > 0 and not train), t)
        for left in reversed(range(backward)):
            wanted = list(model.parameters()) if train else x
            torch.autograd.grad(y, wanted, torch.empty_like(y), retain_graph=left > 0)
    return memory.peak


class _Peak(TorchDispatchMode):
    """Adds up the storages that exist while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for storage in (x.untyped_storage() for x in tree_leaves(out) if isinstance(x, Tensor)):
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _on_meta(cfg: UNetConfig) -> nn.Module:
    with torch.device("meta"):
        return UNet(cfg).eval()


def _inputs(cfg: UNetConfig, side: int, batch: int) -> tuple[Tensor, Tensor]:
    shape = (batch, cfg.in_channels, side, side)
    return torch.empty(shape, device="meta"), torch.empty(batch, dtype=torch.long, device="meta")

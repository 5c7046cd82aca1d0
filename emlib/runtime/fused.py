r"""What stands between two convolutions, written so that a compiler makes two kernels of it.

PyTorch's own GroupNorm on a GPU wants the pixels of a channel side by side, convolutions in sixteen bits the channels
of a pixel, so pictures are turned around before and after each convolution, which takes longer than it does. The same
arithmetic by sums over pixels leaves them as they lie.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def norm_silu_as_it_lies(x: Tensor, norm: nn.GroupNorm, shift: Tensor | None = None) -> Tensor:
    """silu(norm(x + shift)), [B, C, H, W] and [B, C] -> [B, C, H, W], channels last in memory, summed in float32."""
    n, c, height, width = x.shape
    h = x.permute(0, 2, 3, 1).reshape(n, height * width, c).float()
    h = h if shift is None else h + shift.float()[:, None]
    # mean and variance of a group from those of its channels, whose pixels lie one after another
    mean = h.mean(1).view(n, norm.num_groups, -1).mean(-1, keepdim=True)
    square = h.square().mean(1).view(n, norm.num_groups, -1).mean(-1, keepdim=True)
    scale = norm.weight.float().view(norm.num_groups, -1) * (square - mean.square() + norm.eps).rsqrt()
    offset = norm.bias.float().view(norm.num_groups, -1) - mean * scale
    h = F.silu(h * scale.view(n, 1, c) + offset.view(n, 1, c)).to(x.dtype)
    return h.view(n, height, width, c).permute(0, 3, 1, 2)


def fuse(model: nn.Module) -> nn.Module:
    """Makes the network, in place, take :func:`norm_silu_as_it_lies`, wherever it has a function ``between``."""
    for module in model.modules():
        if hasattr(module, "between"):
            module.__dict__["between"] = norm_silu_as_it_lies
    return model

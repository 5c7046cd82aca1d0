"""Bytes and numbers: pictures as files have them, and as float32 [N, C, H, W] on [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1000
"""Pictures that are turned from bytes into numbers at a time."""


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Bytes, or numbers of 16 bits, [N, H, W] or [N, H, W, C] -> float32 [N, C, H, W] on [-1, 1]."""
    return _rows(pixels, np.arange(len(pixels)))


def _rows(pixels: np.ndarray, rows: np.ndarray) -> Tensor:
    """Some of the pictures, in this order; memory holds the answer and one chunk of bytes."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    _, height, width, channels = pixels.shape
    x = torch.empty(len(rows), channels, height, width)
    for first in range(0, len(rows), CHUNK):
        chunk = pixels[rows[first : first + CHUNK]]  # a copy
        if chunk.dtype == np.uint16:  # which PyTorch hardly knows
            chunk = chunk.astype(np.int32)
        x[first : first + CHUNK] = torch.from_numpy(chunk).permute(0, 3, 1, 2)
    return x.div_(32767.5 if pixels.dtype == np.uint16 else 127.5).sub_(1)


def from_pixels(pixels: Tensor) -> Tensor:
    """Bytes, or numbers from 0 to 255, of any shape -> float32 on [-1, 1], same shape; undoes :func:`to_pixels`."""
    return pixels.float() / 127.5 - 1


def to_pixels(x: Tensor) -> Tensor:
    """Pictures [N, C, H, W] on [-1, 1] -> the nearest bytes, same shape; what lies outside is clipped."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte()


def fitted(images: Tensor, size: int, channels: int) -> Tensor:
    """Pictures of another set as a network takes them: scaled to ``size``, made grey or given three equal channels.

    Args:
        images: [N, 1 or 3, H, W] on [-1, 1].
        size: height and width wanted, in pixels.
        channels: 1 for grey, 3 for colour.
    """
    if channels == 1 and images.shape[1] == 3:
        # luma = 0.299 R + 0.587 G + 0.114 B, as Pillow and television have it
        images = torch.einsum("nchw,c->nhw", images, images.new_tensor([0.299, 0.587, 0.114]))[:, None]
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return images.expand(-1, channels, -1, -1).contiguous()

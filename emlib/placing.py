"""Where pictures lie while a network learns from them: beside it on the GPU if they fit, else in main memory."""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 1 / 8
"""Most of a GPU's free memory that pictures may take; the rest is for the network, its gradients and activations."""


def placed(images: Tensor, device: torch.device) -> Tensor:
    """The pictures on the device, if it is a GPU with room for them; else as they are, perhaps still in a file."""
    if device.type != "cuda" or images.is_cuda or not fits(images.nbytes, free_bytes(device)):
        return images
    return images.to(device)


def fits(size: int, free: int) -> bool:
    """Whether so many bytes of pictures may lie on a GPU with so many bytes free."""
    return size <= SHARE * free


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that is free, what PyTorch holds back for later included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; by way of pinned memory to a GPU, so that the CPU goes on meanwhile."""
    if device.type == "cuda" and not x.is_cuda:
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)

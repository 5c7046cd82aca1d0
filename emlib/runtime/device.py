"""What this machine offers: its memory, its speed, and where pictures lie while a network learns from them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells the limits of a container."""
RESERVE = 0.8
"""Share of the free memory that a batch may be sized to: allocators round up and convolutions take working space."""


def pick_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def free_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that a program may still take: of the GPU, or of main memory within the limit of a container."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [_available()]
    limit, used, stat = (CGROUP / name for name in ("memory.max", "memory.current", "memory.stat"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        known = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
        cached = int(known.get("inactive_file", 0))  # read from files, and given up when it is wanted
        free.append(max(0, int(most) - int(used.read_text()) + cached))
    return min(free)


def _available() -> int:
    """Main memory that is not in use; where the system does not tell, all that it has."""
    file = Path("/proc/meminfo")
    if file.is_file():
        for line in file.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def matmul_rate(device: str, precision: torch.dtype, side: int, repeats: int = 10) -> float:
    """FLOP/s of products of two matrices of ``side`` x ``side``: what a card reaches at best, measured."""
    a = torch.randn(side, side, device=device).to(precision)
    return 2 * side**3 / median_seconds(lambda: a @ a, device, repeats)


def median_seconds(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Seconds that a piece of work takes on a device, the first, which warms up, left out."""
    seconds = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def synchronize(device: str | torch.device) -> None:
    """Waits until a GPU has done what it was given; a CPU has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


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

"""What this machine offers: its memory, its speed, and the batch that fits."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

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
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free.append(max(0, int(most) - int(used.read_text())))
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

"""What a program stands on: random streams, files, devices, processes, and how a network computes."""

from emlib.runtime.device import pick_device
from emlib.runtime.precision import FLOAT32, Speed, quick
from emlib.runtime.rng import randn, streams

__all__ = [
    "FLOAT32",
    "Speed",
    "pick_device",
    "quick",
    "randn",
    "streams",
]

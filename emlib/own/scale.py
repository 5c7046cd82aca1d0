"""From a file's units to the scale of networks, [-1, 1], and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emlib.own.pictures import Picture

PERCENT = (0.1, 99.9)
"""What lies below and above may be a cosmic ray or a dead pixel."""

WIDER = 0.1
"""Share of the range between these that is added at either end."""

ENOUGH = 1_000_000
"""Values of a picture that are looked at."""


@dataclass(frozen=True)
class Scale:
    """A range of the files' units: ``low`` becomes -1 and ``high`` 1; what lies beyond goes on in the same steps."""

    low: float
    high: float

    def to_unit(self, pixels: np.ndarray | Tensor) -> Tensor:
        """File's units, any shape -> float32, the same shape; on [-1, 1] but for what lies beyond low and high."""
        x = torch.as_tensor(pixels).to(torch.float32)
        return (x - self.low) * (2 / (self.high - self.low)) - 1

    def from_unit(self, x: Tensor) -> np.ndarray:
        """Undoes :meth:`to_unit`: any shape -> float32, the same shape, in the file's units; nothing is clipped."""
        units = (x.detach().to("cpu", torch.float64) + 1) * ((self.high - self.low) / 2) + self.low
        return units.to(torch.float32).numpy()

    def noise(self, std: float) -> float:
        """Standard deviation in the file's units -> the same on [-1, 1]."""
        return std * 2 / (self.high - self.low)

    def spread(self, std: float) -> float:
        """Undoes :meth:`noise`: a standard deviation or a root mean square error on [-1, 1] -> file's units."""
        return std * (self.high - self.low) / 2


def find_scale(pictures: Sequence[Picture]) -> Scale:
    """The range that pictures of one type share.

    It is 0..255 for 8 bits. Otherwise it holds nearly all seen values of all pictures, without the outermost
    thousandths, widened by a tenth at either end but never beyond what an integer type holds.

    Raises:
        ValueError: if there are no pictures, their types differ, or all seen pixels have one value.
    """
    if not pictures:
        raise ValueError("a scale needs at least one picture; give some")
    first = pictures[0]
    for other in pictures:
        if other.form.dtype != first.form.dtype:
            raise ValueError(
                f"{first.name} holds {first.form.dtype} and {other.name} {other.form.dtype}, which have no common "
                "scale; put them into folders of their own"
            )
    low = min(float(_seen(picture).min()) for picture in pictures)
    high = max(float(_seen(picture).max()) for picture in pictures)
    if low == high:
        raise ValueError(
            f"all seen pixels of {len(pictures)} pictures are {low:g}, so nothing can be learned from them"
        )
    return Scale(0.0, 255.0) if first.form.dtype == "uint8" else _range(pictures, low, high)


def _range(pictures: Sequence[Picture], low: float, high: float) -> Scale:
    """The widened percentiles; all the values, from low to high, where the percentiles are the same."""
    values = np.concatenate([_thinned(_seen(picture)) for picture in pictures])
    near, far = (float(value) for value in np.percentile(values.astype(np.float64), PERCENT))
    if near == far:  # black sky with a few stars
        near, far = low, high
    low, high = near - WIDER * (far - near), far + WIDER * (far - near)
    dtype = np.dtype(pictures[0].form.dtype)
    if dtype.kind in "ui":
        low, high = max(low, float(np.iinfo(dtype).min)), min(high, float(np.iinfo(dtype).max))
    return Scale(low, high)


def _seen(picture: Picture) -> np.ndarray:
    """Values of a picture that were seen, [n]."""
    return picture.pixels[np.broadcast_to(picture.seen, picture.pixels.shape)]


def _thinned(values: np.ndarray) -> np.ndarray:
    return values[:: 1 + len(values) // ENOUGH]

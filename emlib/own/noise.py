r"""How noisy pictures are, from the pictures themselves.

The finest diagonal details of a photograph are nearly all noise, and their median is not moved by the few that are
edges: Donoho & Johnstone 1994, as in ``skimage.restoration.estimate_sigma``, with Daubechies' wavelet of four taps.
Here a detail counts only if each of its 4 x 4 pixels was seen, so nothing has to be filled in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import correlate1d, minimum_filter

from emlib.own.pictures import Picture

ROOT = 3**0.5
TAPS = np.array([1 - ROOT, -(3 - ROOT), 3 + ROOT, -(1 + ROOT)]) / (4 * 2**0.5)
"""High-pass filter of Daubechies' wavelet with two vanishing moments; its squares sum to one."""

QUARTILE = 0.6744897501960817
"""Median of abs(n) for standard normal n."""

ENOUGH = 200
"""Details that an estimate needs."""


def estimate_noise(pictures: Sequence[Picture]) -> float:
    """Standard deviation of the noise in the file's units, the median over pictures.

    The noise is taken to be independent from pixel to pixel; what a camera has smoothed, or JPEG, comes out too small,
    and a picture's own grain, such as grass, counts as noise.
    Pixels at either end of an integer type are left out, since noise is cut off there.

    Raises:
        ValueError: if no picture has enough places where 4 x 4 pixels were seen.
    """
    found = [std for picture in pictures if (std := _one(picture)) is not None]
    if not found:
        raise ValueError(
            f"none of {len(pictures)} pictures has {ENOUGH} places where 4 x 4 pixels were seen, so their noise cannot "
            "be measured; give it with --noise-std, in the files' units"
        )
    return float(np.median(found))


def _one(picture: Picture) -> float | None:
    """Mean over the channels of one picture; None if a channel has too few details."""
    seen = np.broadcast_to(picture.seen, picture.pixels.shape)
    if picture.form.top is not None:  # noise is cut off at the ends of integers
        lowest = np.iinfo(picture.form.dtype).min
        seen = seen & (picture.pixels > lowest) & (picture.pixels < picture.form.top)
    stds = [_channel(values, known) for values, known in zip(picture.pixels, seen)]
    known = [std for std in stds if std is not None]
    return float(np.mean(known)) if len(known) == len(stds) else None


def _channel(values: np.ndarray, seen: np.ndarray) -> float | None:
    """values, seen [H, W] -> noise std."""
    if min(values.shape) < len(TAPS):
        return None
    inner = slice(2, -1)  # a window of four begins two before its centre
    whole = minimum_filter(seen, len(TAPS))[inner, inner]
    if whole.sum() < ENOUGH:
        return None
    # d = sum_ij g_i g_j y_ij has the std of the noise, since sum g^2 = 1;   std = median abs(d) / 0.6745
    y = values.astype(np.float64)
    d = correlate1d(correlate1d(y, TAPS, axis=0), TAPS, axis=1)[inner, inner]
    return float(np.median(np.abs(d[whole])) / QUARTILE)

r"""What needs no network: the classical methods, each from one picture alone (scikit-image, scipy).

They stand beside EM in every report, since on smooth pictures, or where little is missing, one of them is better. Each
takes a picture with gaps, its noise and perhaps its blur, and has one number to choose at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.interpolate import CloughTocher2DInterpolator, NearestNDInterpolator
from skimage import restoration

Filter = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]
"""(y [C, H, W] on [-1, 1], seen [H, W], noise_std, strength) -> [C, H, W]."""

LARGE = 160 * 160
"""Pixels from which on holes are filled by triangles and no longer by solving for all of them at once."""


@dataclass(frozen=True)
class Classical:
    """A method and the strengths that it is tried at; what is withheld chooses among them.

    Attributes:
        name: as a reader knows it.
        mend: the method.
        strengths: 1 is what a textbook would take.
    """

    name: str
    mend: Filter
    strengths: Sequence[float] = (1.0,)


def nearest(y: np.ndarray, seen: np.ndarray, noise_std: float, strength: float) -> np.ndarray:
    """Each gap takes the nearest pixel that was seen."""
    where = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return y[:, where[0], where[1]]


def smooth(y: np.ndarray, seen: np.ndarray, noise_std: float, strength: float) -> np.ndarray:
    """The smoothest surface through what was seen: biharmonic, or piecewise cubic where a picture is large."""
    if seen.all():
        return y
    if seen.size <= LARGE:
        return restoration.inpaint_biharmonic(y.astype(np.float64), ~seen, channel_axis=0).astype(y.dtype)
    at, gaps = np.argwhere(seen), np.argwhere(~seen)
    filled = y.copy()
    for channel in filled:
        values = channel[seen]
        within = CloughTocher2DInterpolator(at, values)(gaps)
        outside = np.isnan(within)  # beyond the outermost pixels
        within[outside] = NearestNDInterpolator(at, values)(gaps[outside]) if outside.any() else 0
        channel[~seen] = within
    return filled


def total_variation(y: np.ndarray, seen: np.ndarray, noise_std: float, strength: float) -> np.ndarray:
    """Total variation (Chambolle 2004), which keeps edges and flattens the rest."""
    filled = smooth(y, seen, noise_std, strength)
    return restoration.denoise_tv_chambolle(filled, weight=strength * max(noise_std, 1e-3), channel_axis=0)


def non_local_means(y: np.ndarray, seen: np.ndarray, noise_std: float, strength: float) -> np.ndarray:
    """Non-local means (Buades et al. 2005): patches that look alike are averaged."""
    filled = smooth(y, seen, noise_std, strength)
    h = 0.8 * strength * max(noise_std, 1e-3)
    last = np.moveaxis(filled, 0, -1)  # with channels first, scikit-image 0.26 takes a single one for a row
    found = restoration.denoise_nl_means(
        last, h=h, sigma=noise_std, patch_size=5, patch_distance=6, fast_mode=True, channel_axis=-1
    )
    return np.moveaxis(found.reshape(last.shape), -1, 0)


def local_wiener(y: np.ndarray, seen: np.ndarray, noise_std: float, strength: float) -> np.ndarray:
    """A Wiener filter in a window of 5 x 5 pixels: as much of a pixel's detail as its neighbourhood has above noise."""
    filled, variance = smooth(y, seen, noise_std, strength), strength * noise_std**2
    window = (1, 5, 5)
    mean = ndimage.uniform_filter(filled, window)
    spread = ndimage.uniform_filter(filled**2, window) - mean**2
    return mean + np.maximum(spread - variance, 0) / np.maximum(spread, 1e-12) * (filled - mean)


STRENGTHS = (0.25, 0.5, 1.0, 2.0)
FILL = (Classical("nearest pixel", nearest), Classical("smooth filling", smooth))
"""For gaps without noise."""
DENOISE = (
    Classical("total variation", total_variation, STRENGTHS),
    Classical("non-local means", non_local_means, STRENGTHS),
    Classical("local Wiener filter", local_wiener, STRENGTHS),
)
"""For noise, gaps or not."""


def methods(noise_std: float) -> tuple[Classical, ...]:
    """The methods for gaps and noise."""
    return DENOISE if noise_std > 0 else FILL

r"""What needs no network: the classical methods, each from one picture alone (scikit-image, scipy).

They stand beside EM in every report, since on smooth pictures, or where little is missing, one of them is better. Each
takes a picture with gaps, its noise and perhaps its blur, and has one number to choose at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage
from scipy.interpolate import CloughTocher2DInterpolator, NearestNDInterpolator
from scipy.spatial import Delaunay, QhullError
from skimage import restoration

from emlib.own.blur import Frame

Filter = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]
"""(y [C, H, W] on [-1, 1], seen [H, W], noise_std, strength) -> [C, H, W]."""

Undo = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(y [H, W] on [-1, 1], kernel, strength) -> [H, W]."""

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
    try:
        triangles = Delaunay(at)
    except (QhullError, ValueError):  # few pixels, or all on one line, span none
        return nearest(y, seen, noise_std, strength) if len(at) else y
    filled = y.copy()
    for channel in filled:
        values = channel[seen]
        within = CloughTocher2DInterpolator(triangles, values)(gaps)
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


def methods(noise_std: float, frame: Frame) -> tuple[Classical, ...]:
    """The methods for what is wrong with pictures: blur, else noise, else gaps."""
    if frame.kernel is not None:
        kernel = frame.kernel.numpy()
        return tuple(
            Classical(name, partial(sharper, kernel=kernel, undo=undo), strengths) for name, undo, strengths in DEBLUR
        )
    return DENOISE if noise_std > 0 else FILL


def sharper(
    y: np.ndarray, seen: np.ndarray, noise_std: float, strength: float, kernel: np.ndarray, undo: Undo
) -> np.ndarray:
    """Gaps are filled, then each channel is deconvolved; what lies beyond the frame is taken for mirrored."""
    filled = smooth(y, seen, noise_std, strength)
    rows, columns = (min(2 * n, side - 1) for n, side in zip(kernel.shape, y.shape[1:], strict=True))
    wide = np.pad(filled, ((0, 0), (rows, rows), (columns, columns)), mode="reflect")
    found = np.stack([undo(channel.astype(np.float64), kernel, strength) for channel in wide])
    return found[:, rows : rows + y.shape[1], columns : columns + y.shape[2]]


def richardson_lucy(y: np.ndarray, kernel: np.ndarray, strength: float) -> np.ndarray:
    """Richardson and Lucy's iterations, which keep brightness positive; ``strength`` times ten of them."""
    bright = np.clip((y + 1) / 2, 1e-3, None)
    return 2 * restoration.richardson_lucy(bright, kernel, num_iter=round(10 * strength), clip=False) - 1


def wiener(y: np.ndarray, kernel: np.ndarray, strength: float) -> np.ndarray:
    """Wiener's filter with a Laplacian as what pictures rarely are, weighed by ``strength``."""
    return restoration.wiener(y, kernel, balance=0.01 * strength, clip=False)


def unsupervised_wiener(y: np.ndarray, kernel: np.ndarray, strength: float) -> np.ndarray:
    """The same, whose weight is drawn from its posterior (Orieux et al. 2010)."""
    return restoration.unsupervised_wiener(y, kernel, clip=False, rng=0)[0]


DEBLUR: tuple[tuple[str, Undo, tuple[float, ...]], ...] = (
    ("Richardson-Lucy", richardson_lucy, (0.5, 1.0, 2.0, 4.0, 8.0)),
    ("Wiener filter", wiener, (0.001, 0.01, 0.1, 1.0, 10.0)),
    ("unsupervised Wiener filter", unsupervised_wiener, (1.0,)),
)
"""For blur, noise and gaps or not: name, method, strengths."""

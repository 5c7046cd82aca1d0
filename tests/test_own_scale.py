"""The scale that a reader's pictures share, and the noise in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from emlib.own.noise import estimate_noise
from emlib.own.pictures import Form, Picture
from emlib.own.scale import Scale, find_scale

data = pytest.importorskip("skimage.data", reason="scikit-image isn't installed")


def picture(values: np.ndarray, dtype: str = "float32", name: str = "x.tif", seen: np.ndarray | None = None) -> Picture:
    """Values [H, W] or [C, H, W] as a picture of this type."""
    pixels = np.atleast_3d(values.T).T.astype(np.float32)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else None
    seen = np.ones((1, *pixels.shape[1:]), bool) if seen is None else seen
    return Picture(name, Path(name), pixels, seen, Form(".tif", dtype, len(pixels) == 3, False, top))


def camera(std: float, low: float = 0, high: float = 255) -> np.ndarray:
    """A photograph of 512 x 512 pixels between these, with noise."""
    clean = data.camera() / 255 * (high - low) + low
    return clean + np.random.default_rng(0).normal(0, std, clean.shape)


def test_eight_bits_have_their_own_scale():
    values = np.full((5, 6), 40)
    values[2, 3] = 90
    assert find_scale([picture(values, "uint8")]) == Scale(0, 255)


def test_other_types_have_the_range_of_what_was_seen():
    rng = np.random.default_rng(0)
    many = [picture(rng.uniform(1000, 3000, (300, 300)), "uint16") for _ in range(3)]
    many[1].pixels[0, 5, 5] = 65535  # a hot pixel
    many[1].seen[0, :100] = False
    many[1].pixels[0, :100] = 50000  # not seen
    scale = find_scale(many)
    assert scale.low == pytest.approx(800, abs=10)
    assert scale.high == pytest.approx(3200, abs=10)
    assert find_scale([picture(rng.uniform(-4, 6, (200, 200)))]).low == pytest.approx(-5, abs=0.1)


def test_integers_are_never_widened_beyond_their_type():
    ramp = np.linspace(0, 65535, 10000).reshape(100, 100)
    assert find_scale([picture(ramp, "uint16")]) == Scale(0, 65535)


def test_a_black_sky_has_the_scale_of_its_stars():
    sky = np.zeros((100, 100))
    sky[5, 5], sky[9, 7] = 200, 1000
    scale = find_scale([picture(sky)])
    assert (scale.low, scale.high) == pytest.approx((-100, 1100))


def test_what_has_no_scale_is_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        find_scale([])
    mixed = [picture(np.eye(9), "uint8", "a.tif"), picture(np.eye(9), "uint16", "b/c.tif")]
    with pytest.raises(
        ValueError, match=r"a\.tif holds uint8 and b/c\.tif uint16, which have no common scale; put them"
    ):
        find_scale(mixed)
    for dtype in ("uint8", "uint16", "float32"):
        with pytest.raises(ValueError, match="all seen pixels of 2 pictures are 7, so nothing"):
            find_scale([picture(np.full((9, 9), 7), dtype)] * 2)


@pytest.mark.parametrize("scale", [Scale(0, 255), Scale(0, 65535), Scale(-3.7, 11.2), Scale(800.5, 3200.25)])
def test_there_and_back(scale):
    values = np.linspace(scale.low - 5, scale.high + 5, 65536, dtype=np.float32).reshape(1, 256, 256)
    x = scale.to_unit(values)
    assert (x.dtype, x.shape) == (torch.float32, values.shape)
    assert torch.allclose(scale.to_unit(np.array([scale.low, scale.high])), torch.tensor([-1.0, 1.0]))
    assert scale.from_unit(x).dtype == np.float32
    assert np.abs(scale.from_unit(x) - values).max() < (scale.high - scale.low) * 1e-6
    assert scale.noise((scale.high - scale.low) / 2) == pytest.approx(1)
    assert torch.equal(scale.to_unit(torch.from_numpy(values)), x)


def test_every_integer_comes_back():
    for top, dtype in ((255, np.uint8), (65535, np.uint16)):
        values = np.arange(top + 1, dtype=np.float32)
        assert np.array_equal(np.rint(Scale(0, top).from_unit(Scale(0, top).to_unit(values))).astype(dtype), values)


@pytest.mark.parametrize("std", [15, 30, 60])
def test_the_noise_of_a_photograph(std):
    assert estimate_noise([picture(camera(std))]) == pytest.approx(std, rel=0.1)


def test_noise_in_the_files_units():
    counts = np.clip(np.rint(camera(600, 2000, 12000)), 0, 65535)
    assert estimate_noise([picture(counts, "uint16")]) == pytest.approx(600, rel=0.1)
    colour = np.stack([camera(0.06, 0, 1) for _ in range(3)])
    assert estimate_noise([picture(colour)]) == pytest.approx(0.06, rel=0.1)


def test_noise_that_eight_bits_cut_off():
    cut = np.clip(np.rint(camera(15)), 0, 255)
    assert estimate_noise([picture(cut, "uint8")]) == pytest.approx(15, rel=0.1)


def test_noise_where_pixels_are_missing():
    rng = np.random.default_rng(1)
    for seen in (rng.random((1, 512, 512)) > 0.25, np.arange(512 * 512).reshape(1, 512, 512) < 512 * 60):
        values = np.where(seen[0], camera(15), 9999)
        assert estimate_noise([picture(values, seen=seen)]) == pytest.approx(15, rel=0.1)


def test_the_median_over_pictures_and_those_that_say_nothing():
    noisy = [picture(camera(std)) for std in (5, 15, 60)]
    holes = picture(camera(200), seen=np.random.default_rng(0).random((1, 512, 512)) > 0.8)
    tiny = picture(np.eye(3))
    assert estimate_noise([holes, *noisy, tiny]) == pytest.approx(15, rel=0.1)
    with pytest.raises(ValueError, match="none of 2 pictures has 200 places .* give it with --noise-std"):
        estimate_noise([holes, tiny])


def test_the_same_as_scikit_images():
    pytest.importorskip("pywt", reason="PyWavelets isn't installed")
    from skimage.restoration import estimate_sigma

    values = camera(15)
    assert estimate_noise([picture(values)]) == pytest.approx(estimate_sigma(values), rel=0.02)

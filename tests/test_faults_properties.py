"""What holds for all operators, shapes and noise levels, and for pictures of every depth: drawn at random, and kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tifffile
import torch
from fuzzing import tried
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import emlib
from emlib.data.clean import clean_picture
from emlib.data.png16 import write_png16
from emlib.operators import (
    BoxBlur,
    ChannelMask,
    Composed,
    Convolution,
    Downsample,
    FourierMask,
    Grey,
    MotionBlur,
    box_kernel,
    load_measurements,
    motion_kernel,
    save_measurements,
)
from emlib.own.reading import read_picture
from emlib.testing import operators as contract

side = st.integers(1, 12)


@st.composite
def operators(draw) -> tuple[emlib.Operator, tuple[int, int, int], int]:
    """(A, shape of a picture, number of pictures)."""
    kind = draw(
        st.sampled_from(["identity", "mask", "channels", "fourier", "blur", "convolution", "down", "grey", "two"])
    )
    count, channels = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3]))
    height, width = draw(side), draw(side)
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    bits = (
        torch.rand(draw(st.sampled_from([1, count])), 3, height, width, generator=g) < draw(st.floats(0, 1))
    ).float()
    if kind == "mask":
        return emlib.PixelMask(bits[:, :1]), (channels, height, width), count
    if kind == "channels":
        return ChannelMask(bits), (3, height, width), count
    if kind == "fourier":
        return FourierMask(bits[:, :1]), (channels, height, width), count
    if kind == "blur":
        taps = draw(st.sampled_from([taps for taps in (1, 3, 5) if taps // 2 < min(height, width)]))
        blur = emlib.GaussianBlur(height, width, draw(st.floats(0.1, 9)), taps)
        return blur, (channels, height, width), count
    if kind in ("convolution", "two"):
        kernels = [
            torch.rand(2 * draw(st.integers(0, 2)) + 1, 2 * draw(st.integers(0, 2)) + 1, generator=g) + 0.01,
            box_kernel(3),
            motion_kernel(draw(st.floats(1, 5)), draw(st.floats(-400, 400))),
        ]
        makers = (Convolution, BoxBlur, MotionBlur)
        i = draw(st.integers(0, 2))
        A = makers[i](kernels[i])
        rows, columns = kernels[i].shape
        shape = (channels, height + rows - 1, width + columns - 1)
        return (A if kind == "convolution" else Composed(emlib.PixelMask(bits[:, :1]), A)), shape, count
    if kind == "down":
        factor = draw(st.integers(1, 4))
        return Downsample(factor), (channels, factor * height, factor * width), count
    if kind == "grey":
        return Grey(), (3, height, width), count
    return emlib.Identity(), (channels, height, width), count


@tried(60)
@given(operators(), st.integers(0, 99))
def test_every_operator_keeps_the_contract(what, seed):
    A, shape, count = what
    g = torch.Generator().manual_seed(seed)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        x, z = (torch.rand(2, count, *shape, generator=g, dtype=torch.float64) * 2 - 1).to(dtype)
        for check in (contract._shapes, contract._linear, contract._adjoint, contract._apart, contract._gaps):
            check(A, x, z, tolerance)


@tried(40)
@given(operators(), st.floats(0, 5), st.integers(-999_999_999, 999_999_999), st.integers(0, 10**12))
@example((emlib.PixelMask(torch.zeros(1, 1, 2, 2)), (1, 2, 2), 2), 0.0, 0, 0)  # nothing is seen at all
def test_measurements_come_back_from_a_file_as_they_were(what, noise_std, seed, first):
    A, shape, count = what
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    m = emlib.measure(x, A, noise_std, seed, first)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        save_measurements(m, path)
        again = load_measurements(path)
        assert [file.name for file in Path(folder).iterdir()] == [path.name]
    assert torch.equal(again.y, m.y)
    assert (again.noise_std, again.index, again.image_shape) == (m.noise_std, m.index, shape)
    assert type(again.operator) is type(A)
    assert torch.equal(again.operator(x), A(x))


@tried(30)
@given(operators(), st.integers(0, 3), st.sampled_from(["bytes", "nan", "index", "noise"]))
def test_measurements_that_are_wrong_in_one_place_are_refused(what, row, fault):
    A, shape, count = what
    m = emlib.measure(torch.rand(count, *shape) * 2 - 1, A, 0.0, 0)
    y, row = m.y.clone(), row % count
    if fault == "bytes":
        y = A((torch.rand(count, *shape) * 255).round())
        y[row].flatten()[0] = 255.0
    elif fault == "nan":
        y[row, -1, -1, -1] = float("nan")
    index = (7,) * (count + 1) if fault == "index" else m.index
    with pytest.raises(ValueError, match=r"y |index|noise_std"):
        emlib.Measurements(y, A, -1.0 if fault == "noise" else 0.0, index)


def values(draw, dtype: str, channels: int) -> np.ndarray:
    shape, kind = (draw(side), draw(side), channels), np.dtype(dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind.kind == "f":
        return rng.normal(0, 10.0 ** draw(st.integers(-3, 3)), shape).astype(kind)
    least, most = np.iinfo(kind).min, min(np.iinfo(kind).max, 2**24)
    low = draw(st.integers(max(least, -(2**24)), most))
    return rng.integers(low, draw(st.integers(low, most)), shape, kind, endpoint=True)


@tried(60)
@given(st.data())
def test_numbers_are_read_as_other_programs_write_them(data):
    """Pillow, tifffile and NumPy write, our reader reads."""
    suffix = data.draw(st.sampled_from([".png", ".tif", ".npy", ".webp", ".bmp"]))
    kinds = {
        ".png": ["uint8", "uint16"],
        ".tif": ["uint8", "uint16", "int16", "uint32", "float16", "float32", "float64"],
        ".npy": ["uint8", "uint16", "int8", "int32", "int64", "float16", "float32", "float64"],
    }
    dtype = data.draw(st.sampled_from(kinds.get(suffix, ["uint8"])))
    x = values(data.draw, dtype, data.draw(st.sampled_from([1, 3])) if suffix != ".webp" else 3)
    flat = x[..., 0] if x.shape[2] == 1 else x
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        if suffix == ".npy":
            np.save(path, flat)
        elif suffix == ".tif":
            pack = data.draw(st.sampled_from([None, "zlib"]))
            tifffile.imwrite(path, flat, photometric="rgb" if x.shape[2] == 3 else "minisblack", compression=pack)
        elif dtype == "uint16":
            with path.open("wb") as file:
                write_png16(file, x)
            if x.shape[2] == 1:  # Pillow writes grey of 16 bits itself
                Image.fromarray(flat).save(path)
        else:
            Image.fromarray(flat).save(path, **({"lossless": True} if suffix == ".webp" else {}))
        picture = read_picture(path)
    assert picture.form.dtype == dtype
    assert np.array_equal(picture.pixels, np.moveaxis(x, 2, 0).astype(np.float32))


@tried(40)
@given(st.data())
def test_a_square_picture_of_the_size_wanted_is_taken_as_it_is(data):
    dtype, channels = data.draw(st.sampled_from(["uint8", "uint16"])), data.draw(st.sampled_from([1, 3]))
    x = values(data.draw, dtype, channels)
    x = x[: min(x.shape[:2]), : min(x.shape[:2])]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        if dtype == "uint16":
            with path.open("wb") as file:
                write_png16(file, x)
        else:
            Image.fromarray(x[..., 0] if channels == 1 else x).save(path)
        assert np.array_equal(clean_picture(path, len(x), channels), x)
        assert np.array_equal(clean_picture(path, len(x), 3), np.broadcast_to(x, (*x.shape[:2], 3)))


SAMPLERS = {
    "mmps": partial(emlib.mmps, steps=2),
    "dps": partial(emlib.dps, steps=2, scale=1.0),
    "diffpir": partial(emlib.diffpir, steps=2),
    "pigdm": partial(emlib.pigdm, steps=2),
}


@tried(12)
@given(
    name=st.sampled_from(sorted(SAMPLERS)),
    count=st.integers(1, 20),
    batches=st.lists(st.integers(1, 40), min_size=2, max_size=2, unique=True),
    noise_std=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_draw_does_not_depend_on_its_batch(name, count, batches, noise_std, seed):
    """To the bit, on a processor."""
    model, schedule = emlib.build_unet(emlib.UNetConfig(channels=(8, 8), groups=4), 0).eval(), emlib.linear_schedule()
    with torch.no_grad():
        torch.nn.init.normal_(model.conv_out.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    m = emlib.measure(x, emlib.random_mask(count, 8, 0.5, seed), noise_std, seed)
    one, other = (torch.cat(list(emlib.reconstruct(SAMPLERS[name], model, schedule, m, seed, "x", b))) for b in batches)
    assert torch.equal(one, other)
    assert one.std() > 0.05

"""A reader's own pictures: every format and depth read as other programs read it, and written back the same."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from emlib.data.files import upright
from emlib.data.png16 import write_png16
from emlib.own.reading import Picture, read_folder, read_picture
from emlib.own.writing import write_picture

SIZE = (23, 17)
CHANNELS = (1, 2, 3, 4)


def numbers(channels: int, dtype: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[H, W, C] over the type's range; alpha is full but for a hole, and a corner that is hardly covered."""
    rng, kind = np.random.default_rng(channels), np.dtype(dtype)
    if kind.kind == "f":
        values = rng.normal(0.4, 3.0, (*size, channels)).astype(kind)
    else:
        values = rng.integers(0, np.iinfo(kind).max, (*size, channels), kind, endpoint=True)
    if channels in (2, 4):
        most = 1 if kind.kind == "f" else np.iinfo(kind).max
        values[..., -1] = most
        values[3:6, 4:9, -1] = 0
        values[:2, :2, -1] = most // 5 if kind.kind != "f" else 0.2
    return values


def flat(values: np.ndarray) -> np.ndarray:
    return values[..., 0] if values.shape[2] == 1 else values


def save(path: Path, values: np.ndarray) -> None:
    """By Pillow, tifffile or NumPy, and by the plainest encoder where Pillow has none."""
    if path.suffix == ".npy":
        np.save(path, flat(values))
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path, "w") as box, box.open("file.npy", "w") as member:  # a key that np.savez knows not
            np.save(member, flat(values))
    elif path.suffix == ".tif":
        extra = ["unassalpha"] if values.shape[2] in (2, 4) else None
        tifffile.imwrite(
            path, flat(values), photometric="rgb" if values.shape[2] > 2 else "minisblack", extrasamples=extra
        )
    elif values.dtype == np.uint16:
        path.write_bytes(plain_png16(values))
    else:
        Image.fromarray(flat(values)).save(path)


def plain_png16(values: np.ndarray, key: bytes = b"") -> bytes:
    """PNG of 16 bits with every filter there is; ``key`` is the one transparent value."""
    height, width, channels = values.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = np.ascontiguousarray(values, ">u2").view(np.uint8).reshape(height, width, -1).astype(int)
    left, up = np.pad(rows, ((0, 0), (1, 0), (0, 0)))[:, :-1], np.pad(rows, ((1, 0), (0, 0), (0, 0)))[:-1]
    corner = np.pad(rows, ((1, 0), (1, 0), (0, 0)))[:-1, :-1]
    far = [np.abs(left + up - corner - near) for near in (left, up, corner)]
    paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], up, corner))
    guesses = (0 * rows, left, up, (left + up) // 2, paeth)  # the five filters, row by row in turn
    rows = b"".join(bytes([y % 5]) + (rows[y] - guesses[y % 5][y]).astype(np.uint8).tobytes() for y in range(height))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + (chunk(b"tRNS", key) if key else b"")
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def unpacked_png16(content: bytes) -> np.ndarray:
    """uint16 [H, W, C] of a PNG whose rows are not filtered, or by differences to the left."""
    at, packed = 8, b""
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, inside = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + inside)
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack(">IIBB", inside[:10])
        packed, at = packed + inside * (kind == b"IDAT"), at + 12 + length
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert bits == 16
    assert (rows[:, 0] == 1).all()
    plain = np.cumsum(rows[:, 1:].reshape(height, width, 2 * channels), axis=1, dtype=np.uint8)
    return plain.view(">u2").astype(np.uint16)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def loaded(path: Path) -> np.ndarray:
    """[H, W, C] as other programs read it."""
    if path.suffix == ".npy":
        values = np.load(path)
    elif path.suffix == ".npz":
        with np.load(path) as box:
            values = box["file"]
    elif path.suffix == ".tif":
        values = tifffile.imread(path)
    elif path.suffix == ".png" and path.read_bytes()[24] == 16:
        values = unpacked_png16(path.read_bytes())
    else:
        image = opened(path)  # WebP leaves out an alpha channel that is full
        values = np.asarray(image.convert("RGBA") if path.name.startswith("alpha") else image)
    return values[..., None] if values.ndim == 2 else values


def alone(path: Path, **words) -> Picture:
    """The only picture of a folder that has no trouble."""
    (picture,), troubles = read_folder(path, **words)
    assert troubles == []
    return picture


KINDS = [
    *((".png", channels, dtype) for channels in CHANNELS for dtype in ("uint8", "uint16")),
    *((".tif", channels, dtype) for channels in CHANNELS for dtype in ("uint8", "uint16", "float32")),
    *((".tif", 1, dtype) for dtype in ("int8", "int16", "uint32", "float16", "float64")),
    *(
        (suffix, channels, dtype)
        for suffix in (".npy", ".npz")
        for channels in (1, 3, 4)
        for dtype in ("uint8", "float32")
    ),
    *((".npy", 1, dtype) for dtype in ("uint16", "int16", "float16", "float64")),
    *((".webp", channels, "uint8") for channels in (3, 4)),
    *((".bmp", channels, "uint8") for channels in (1, 3)),
]


@pytest.mark.parametrize(("suffix", "channels", "dtype"), KINDS)
def test_what_is_read_is_written_back(suffix, channels, dtype, tmp_path):
    name = f"alpha b{suffix}" if channels in (2, 4) and suffix == ".webp" else f"a b{suffix}"
    path = tmp_path / "in" / "deep" / name
    path.parent.mkdir(parents=True)
    values = numbers(channels, dtype)
    if dtype == "uint32":
        values = values >> 8  # float32 holds 24 bits
    if suffix == ".webp":
        Image.fromarray(values).save(path, lossless=True, exact=True)
    else:
        save(path, values)
    before = path.read_bytes()
    picture, alpha = alone(tmp_path / "in"), channels in (2, 4)
    assert (picture.name, picture.path) == (f"deep/{name}", path)
    colours = np.moveaxis(values[..., :-1] if alpha else values, 2, 0)
    assert picture.pixels.dtype == np.float32
    assert np.array_equal(picture.pixels, colours.astype(np.float32))
    form = picture.form
    assert (form.suffix, form.dtype, form.colour, form.alpha) == (suffix, dtype, channels > 2, alpha)
    assert form.top == (None if dtype.startswith("float") else np.iinfo(dtype).max)
    hole = np.zeros(SIZE, bool)
    if alpha:
        hole[3:6, 4:9] = hole[:2, :2] = True
        assert form.note == "4 pixels are partly transparent; those below half count as missing"
    assert np.array_equal(picture.seen, ~hole[None])
    target = write_picture(tmp_path / "out", picture, picture.pixels)
    assert target == tmp_path / "out" / "deep" / name
    again = loaded(target)
    assert again.dtype == np.dtype(dtype)
    expected = values.copy()
    if dtype == "float64":
        expected = values.astype(np.float32).astype(np.float64)
    if alpha:
        expected[hole, -1] = 1 if dtype.startswith("float") else np.iinfo(dtype).max
    assert np.array_equal(again, expected)
    assert np.array_equal(alone(target).pixels, picture.pixels)
    assert path.read_bytes() == before
    assert [file.name for file in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_loses_little_and_says_so(mode, tmp_path):
    ramp = np.add.outer(np.arange(40), np.arange(60)) * 2
    image = Image.fromarray(ramp.astype(np.uint8)).convert(mode)
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "x.JPEG", quality=90)
    picture = alone(tmp_path / "in")
    read = np.asarray(opened(picture.path)).reshape(40, 60, -1)
    assert np.array_equal(picture.pixels, np.moveaxis(read, 2, 0))
    assert picture.form.suffix == ".jpg"
    assert "JPEG loses" in picture.form.note
    target = write_picture(tmp_path / "out", picture, picture.pixels)
    again = opened(target)
    assert (target.name, again.format, again.mode) == ("x.JPEG", "JPEG", mode)
    assert np.abs(np.asarray(again).reshape(40, 60, -1) - read.astype(float)).max() < 6


def test_integers_are_rounded_and_clipped(tmp_path):
    for dtype, top in (("uint8", 255), ("uint16", 65535)):
        (tmp_path / dtype).mkdir()
        save(tmp_path / dtype / "x.png", numbers(1, dtype))
        picture = alone(tmp_path / dtype)
        repaired = picture.pixels.copy()
        repaired[0, 0, :4] = (-3.2, top + 9, 7.6, 7.4)
        assert loaded(write_picture(tmp_path / f"out-{dtype}", picture, repaired))[0, :4, 0].tolist() == [0, top, 8, 7]


@pytest.mark.parametrize("channels", CHANNELS)
def test_png_of_16_bits_keeps_every_bit_and_its_profile(channels):
    values, file = numbers(channels, "uint16", (300, 11)), io.BytesIO()
    write_png16(file, values, b"a profile")
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert image.info["icc_profile"] == b"a profile"
        image.verify()
    assert np.array_equal(unpacked_png16(file.getvalue()), values)


def test_the_profile_of_colours_stays(tmp_path):
    for name in ("x.png", "x.jpg", "x.tif", "x.webp"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(numbers(3, "uint8")).save(path, icc_profile=b"some profile")
    pictures, _ = read_folder(tmp_path / "in")
    for picture in pictures:
        target = write_picture(tmp_path / "out", picture, picture.pixels)
        assert opened(target).info["icc_profile"] == b"some profile", picture.name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(numbers(3, "uint8"))
    for name in ("x.jpg", "x.png", "x.webp", "x.tif"):
        path = tmp_path / name
        image.save(path, exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(opened(path)))
        picture = alone(path)
        assert np.array_equal(picture.pixels, np.moveaxis(expected, 2, 0)), name
        assert np.array_equal(loaded(write_picture(tmp_path / "out", picture, picture.pixels)).shape, expected.shape)
    deep = numbers(3, "uint16")
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    picture = alone(tmp_path / "deep.tif")
    assert np.array_equal(picture.pixels, np.moveaxis(upright(deep, orientation), 2, 0))
    turned = ImageOps.exif_transpose(opened(tmp_path / "x.webp")).size
    assert picture.pixels.shape[:0:-1] == turned


def test_what_pillow_converts_is_noted(tmp_path):
    colour, grey = Image.fromarray(numbers(3, "uint8")), Image.fromarray(numbers(1, "uint8")[..., 0])
    made = {
        "bit.png": (grey.convert("1"), "one bit in the file, written back as grey", "L"),
        "bit.tif": (grey.convert("1"), "one bit in the file, written back as grey", "L"),
        "palette.png": (colour.quantize(16), "a palette in the file, written back as RGB", "RGB"),
        "palette.tif": (colour.quantize(16), "a palette in the file, written back as RGB", "RGB"),
        "grey.png": (grey.convert("P"), "a palette in the file, written back as grey", "L"),
        "cmyk.tif": (colour.convert("CMYK"), "CMYK in the file, written back as RGB", "RGB"),
    }
    (tmp_path / "in").mkdir()
    for name, (image, _, _) in made.items():
        image.save(tmp_path / "in" / name)
    colour.convert("CMYK").save(tmp_path / "in" / "cmyk.jpg")
    pictures, troubles = read_folder(tmp_path / "in")
    assert troubles == []
    for picture in pictures:
        image, note, mode = made.get(picture.name, (None, "CMYK in the file, written back as RGB; JPEG loses", "RGB"))
        assert picture.form.note.startswith(note), picture.name
        expected = np.asarray(opened(picture.path).convert(mode)).reshape(*SIZE, -1)
        assert np.array_equal(picture.pixels, np.moveaxis(expected, 2, 0)), picture.name
        assert opened(write_picture(tmp_path / "out", picture, picture.pixels)).mode == mode
    save(tmp_path / "true.npy", numbers(1, "uint8") > 99)
    picture = alone(tmp_path / "true.npy")
    assert np.array_equal(picture.pixels[0], 255 * (numbers(1, "uint8")[..., 0] > 99))


def test_one_transparent_value_counts_as_alpha(tmp_path):
    grey, colour = numbers(1, "uint8"), numbers(3, "uint8")
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png", transparency=int(grey[2, 3, 0]))
    Image.fromarray(colour).save(tmp_path / "colour.png", transparency=tuple(int(v) for v in colour[2, 3]))
    Image.fromarray(colour).quantize(8).save(tmp_path / "palette.png", transparency=3)
    deep = numbers(3, "uint16")
    (tmp_path / "deep.png").write_bytes(plain_png16(deep, deep[2, 3].astype(">u2").tobytes()))
    for name, values in (("grey", grey), ("colour", colour), ("deep", deep)):
        picture = alone(tmp_path / f"{name}.png")
        assert picture.form.alpha
        assert np.array_equal(picture.seen[0], (values != values[2, 3]).any(axis=2)), name
        assert np.array_equal(picture.pixels, np.moveaxis(values, 2, 0))
        assert alone(write_picture(tmp_path / "out", picture, picture.pixels)).seen.all()
    picture = alone(tmp_path / "palette.png")
    assert np.array_equal(picture.seen[0], np.asarray(opened(tmp_path / "palette.png").convert("RGBA"))[..., 3] > 0)


def test_bmp_loses_its_alpha_and_says_so(tmp_path):
    values = numbers(4, "uint8", (16, 12))
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII4I52x", 108, 12, -16, 1, 32, 3, values.size, 0, 0, 0, 0, *masks)
    content = head + values[..., [2, 1, 0, 3]].tobytes()
    (tmp_path / "x.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(content), 0, 0, 122) + content)
    picture = alone(tmp_path / "x.bmp")
    assert np.array_equal(picture.seen[0], values[..., 3] > 99)
    assert "BMP is written back without its alpha channel" in picture.form.note
    assert np.array_equal(loaded(write_picture(tmp_path / "out", picture, picture.pixels)), values[..., :3])


def test_unusual_tiffs(tmp_path):
    deep, grey = numbers(3, "uint16"), numbers(1, "uint16")
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "big.tif", deep, photometric="rgb", bigtiff=True, byteorder=">", tile=(16, 16))
    tifffile.imwrite(tmp_path / "packed.tif", deep, photometric="rgb", compression="zlib", predictor=True)
    for name in ("planar", "big", "packed"):
        assert np.array_equal(alone(tmp_path / f"{name}.tif").pixels, np.moveaxis(deep, 2, 0)), name
    for bits, dark in ((16, 65535 - grey), (8, 255 - numbers(1, "uint8"))):
        tifffile.imwrite(tmp_path / f"{bits}.tif", dark[..., 0], photometric="miniswhite")
        assert np.array_equal(alone(tmp_path / f"{bits}.tif").pixels[0], numbers(1, f"uint{bits}")[..., 0])
    Image.fromarray(grey[..., 0]).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert np.array_equal(alone(tmp_path / "lzw.tif").pixels[0], grey[..., 0])
    Image.fromarray(numbers(3, "uint8")).save(tmp_path / "lzw8.tif", compression="tiff_lzw")
    assert np.array_equal(alone(tmp_path / "lzw8.tif").pixels, np.moveaxis(numbers(3, "uint8"), 2, 0))
    multiplied = np.full((*SIZE, 4), 1000, np.uint16)
    multiplied[..., 3] = 32768  # half
    tifffile.imwrite(tmp_path / "half.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert np.array_equal(alone(tmp_path / "half.tif").pixels, np.full((3, *SIZE), 2000))
    with tifffile.TiffWriter(tmp_path / "thumb.tif") as file:
        file.write(grey[..., 0], photometric="minisblack", metadata=None)
        file.write(grey[::4, ::4, 0], photometric="minisblack", subfiletype=1, metadata=None)
    assert alone(tmp_path / "thumb.tif").pixels.shape == (1, *SIZE)


@pytest.mark.parametrize("dark", [False, True])
def test_tiffs_of_fewer_than_eight_bits_are_spread_over_eight(dark, tmp_path):
    """Old scanners pack two pixels into a byte; a picture from 0 to 15 would pass for a black one."""
    values = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16) % 16
    stored = 15 - values if dark else values
    packed = (stored[:, ::2] << 4 | stored[:, 1::2]).tobytes()
    entries = [(256, 16), (257, 16), (258, 4), (259, 1), (262, 0 if dark else 1), (273, 8), (277, 1), (278, 16)]
    entries += [(279, len(packed))]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed
    (tmp_path / "x.tif").write_bytes(head + struct.pack("<H", len(entries)) + table + bytes(4))
    assert np.array_equal(alone(tmp_path / "x.tif").pixels[0], 17 * values)


def test_opacity_in_either_order_of_bytes(tmp_path):
    values = np.full((16, 16, 4), 3000, ">u2")
    values[..., 3] = 65535
    values[4, 5, 3] = 0
    np.save(tmp_path / "x.npy", values)
    assert np.argwhere(~alone(tmp_path / "x.npy").seen[0]).tolist() == [[4, 5]]


def test_what_is_no_number_is_missing(tmp_path):
    values = numbers(3, "float32")
    values[1, 2] = np.nan
    values[4, 5, 1] = np.inf
    for name in ("x.npy", "x.tif"):
        save(tmp_path / name, values)
        picture = alone(tmp_path / name)
        assert picture.seen.shape == (3, *SIZE)
        assert np.argwhere(~picture.seen).tolist() == [[0, 1, 2], [1, 1, 2], [1, 4, 5], [2, 1, 2]]
        assert np.isfinite(picture.pixels).all()
        with pytest.raises(ValueError, match="not finite; repair these pixels too"):
            write_picture(tmp_path / "out", picture, np.moveaxis(values, 2, 0))


def test_a_value_stands_for_missing(tmp_path):
    values = numbers(3, "uint8")
    values[2, 3], values[5, 6, 0] = 9, 9
    save(tmp_path / "x.png", values)
    assert np.argwhere(~alone(tmp_path / "x.png", missing=9).seen).tolist() == [[0, 2, 3]]
    cold = numbers(1, "float32")
    cold[1, 1] = -999.9
    save(tmp_path / "x.npy", cold)
    assert np.argwhere(~alone(tmp_path / "x.npy", missing=-999.9).seen).tolist() == [[0, 1, 1]]


def test_masks_of_any_kind(tmp_path):
    hole = np.zeros(SIZE, bool)
    hole[2:9, 3:7] = True
    folder, masks = tmp_path / "in", tmp_path / "in" / "masks"
    masks.mkdir(parents=True)
    kept = ~hole
    Image.fromarray(kept).save(masks / "bit.png")
    Image.fromarray(kept.astype(np.uint8)).save(masks / "one.png")
    Image.fromarray(np.where(hole, 9, 240).astype(np.uint8)).save(masks / "lossy.jpg", quality=60)
    np.save(masks / "array.npy", kept)
    tifffile.imwrite(masks / "tiff.tif", np.where(hole, np.nan, 0.5).astype(np.float32))
    Image.fromarray(np.dstack([kept, np.ones(SIZE), kept]).astype(np.uint8) * 255).save(masks / "channels.png")
    for mask in list(masks.iterdir()):
        save(folder / f"{mask.stem}.png", numbers(3, "uint8"))
    pictures, troubles = read_folder(folder, masks=masks)
    by_name = {picture.name: picture.seen for picture in pictures}
    assert sorted(by_name) == ["array.png", "bit.png", "channels.png", "lossy.png", "one.png", "tiff.png"]
    assert troubles == []
    for name in ("array.png", "bit.png", "one.png", "tiff.png"):
        assert np.array_equal(by_name[name], kept[None]), name
    assert (by_name["lossy.png"][0] == kept).mean() > 0.95
    assert np.array_equal(by_name["channels.png"], np.stack([kept, np.ones(SIZE, bool), kept]))
    assert np.array_equal(alone(folder / "bit.png", masks=masks / "bit.png").seen, kept[None])
    grey = numbers(1, "uint8")
    save(folder / "channels.png", grey)
    assert read_picture(folder / "channels.png", mask=masks / "channels.png").seen.shape == (1, *SIZE)

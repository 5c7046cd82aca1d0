"""A reader's own folders as they are: every bad file gets a sentence, and no original is written to."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from emlib.data import files as limits
from emlib.own.listing import list_pictures
from emlib.own.pictures import Form, Picture
from emlib.own.reading import read_folder
from emlib.own.writing import write_picture

GREY = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with one good picture."""
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "good.png")
    return tmp_path / "in"


def why(folder: Path, name: str, **words) -> str:
    """What is said of the only file that was left out, the good picture being read."""
    pictures, (trouble,) = read_folder(folder, **words)
    assert [picture.name for picture in pictures] == ["good.png"]
    assert trouble.name == name
    assert len(trouble.why) < 400
    assert "\n" not in trouble.why
    assert ";" in trouble.why, "the remedy comes after the reason"
    return trouble.why


def content(kind: str, **words) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, kind, **words)
    return file.getvalue()


@pytest.mark.parametrize("part", [0, 1, 30, 1000, -300])
@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF"), (".webp", "WEBP")])
def test_a_truncated_file(folder, suffix, kind, part):
    (folder / f"x{suffix}").write_bytes(content(kind)[:part])
    said = why(folder, f"x{suffix}")
    assert said.endswith("get it anew, or remove it")


@pytest.mark.parametrize("part", [0, 5, 60, 500, -9])
def test_a_truncated_array(folder, part):
    for name, save in (
        ("x.npy", np.save),
        ("y.npz", np.savez),
        ("z.bmp", lambda path, a: Image.fromarray(a).save(path)),
    ):
        save(folder / name, np.tile(GREY, (3, 3)))
        (folder / name).write_bytes((folder / name).read_bytes()[:part])
    _, troubles = read_folder(folder)
    assert [trouble.name for trouble in troubles] == ["x.npy", "y.npz", "z.bmp"]
    assert all(trouble.why.endswith("get it anew, or remove it") for trouble in troubles)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".npy", ".npz"])
def test_any_damage_becomes_a_sentence(folder, suffix):
    good = {".npy": np.save, ".npz": np.savez}.get(suffix, lambda path, a: Image.fromarray(a).save(path))
    good(folder / f"x{suffix}", np.tile(GREY, (3, 3)))
    rng, whole = np.random.default_rng(0), (folder / f"x{suffix}").read_bytes()
    for trial in range(40):
        broken = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 300 if trial % 2 else 10**9), 4):
            broken[at] = rng.integers(256)
        (folder / f"x{suffix}").write_bytes(broken)
        pictures, troubles = read_folder(folder)  # a changed pixel is no damage that shows
        assert len(pictures) + len(troubles) == 2


def promise(folder: Path, width: int, height: int) -> None:
    """Files whose headers promise this size, and that hold none of it: whoever decodes them finds them cut short."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = b"IHDR" + size + b"\x08\0\0\0\0"
    check = zlib.crc32(head).to_bytes(4, "big")
    rest = content("PNG")[33:]
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + head + check + rest)
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": (height, width)})
    (folder / "x.npy").write_bytes(array.getvalue())
    with zipfile.ZipFile(folder / "x.npz", "w") as box:
        box.writestr("a.npy", array.getvalue())
    tifffile.imwrite(folder / "x.tif", GREY, photometric="minisblack", metadata=None)
    raw = bytearray((folder / "x.tif").read_bytes())
    with tifffile.TiffFile(folder / "x.tif") as file:
        places = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for at, number in zip(places, (width, height)):
        raw[at - 6 : at + 4] = struct.pack("<HII", 4, 1, number)  # one number of four bytes
    (folder / "x.tif").write_bytes(raw)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(9000, 9000), (12000, 8334), (30000, 30000), (46341, 46341)])
def test_a_huge_picture_is_refused_before_it_is_decoded(folder, size):
    width, height = size
    promise(folder, width, height)
    _, troubles = read_folder(folder)
    assert [trouble.name for trouble in troubles] == ["x.npy", "x.npz", "x.png", "x.tif"]
    said = f"has {width} x {height} pixels, {width * height / 1e6:.0f} megapixels, and at most 64 are read; cut it"
    for trouble in troubles:
        if trouble.name == "x.png" and width >= 30000:  # where Pillow gives up before us
            assert trouble.why.startswith("has far more than the 64 megapixels that are read; cut it into pieces")
        else:
            assert trouble.why.startswith(said)


@pytest.mark.parametrize("size", [(0, 7), (7, 0), (0, 0)])
def test_pictures_of_no_pixel_are_named(folder, size):
    promise(folder, *size)
    pictures, troubles = read_folder(folder)
    assert [trouble.name for trouble in troubles] == ["x.npy", "x.npz", "x.png", "x.tif"]
    assert all(";" in trouble.why for trouble in troubles)
    assert not {picture.name for picture in pictures} & {trouble.name for trouble in troubles}


def test_the_limit_is_a_constant(folder, monkeypatch):
    monkeypatch.setattr(limits, "LARGEST", GREY.size)
    Image.fromarray(np.zeros((13, 16), np.uint8)).save(folder / "x.png")
    assert why(folder, "x.png").startswith("has 16 x 13 pixels")


def test_several_pages_or_frames(folder):
    frames = [Image.fromarray(np.roll(GREY, k)) for k in range(3)]
    for name, said in (
        ("x.tif", "holds 3 pages; split it into one file a page"),
        ("x.webp", "holds 3 frames; save those that you want as one file each"),
        ("x.png", "holds 3 frames; save those that you want as one file each"),
        ("x.gif", "is a GIF, which is not read, moving or not; save the frames that you want as PNG"),
    ):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
        assert why(folder, name) == said
        (folder / name).unlink()
    tifffile.imwrite(folder / "stack.tif", np.stack([GREY] * 5), imagej=True)
    assert why(folder, "stack.tif") == "holds 5 pages; split it into one file a page"
    tifffile.imwrite(folder / "stack.tif", np.stack([GREY] * 7).astype(np.uint16), photometric="minisblack")
    assert why(folder, "stack.tif") == "holds 7 pages; split it into one file a page"


def test_a_phones_second_picture_is_passed_over(folder):
    both = [Image.fromarray(np.roll(GREY, k)) for k in range(2)]
    both[0].save(folder / "x.jpg", "MPO", save_all=True, append_images=both[1:])
    pictures, troubles = read_folder(folder)
    assert troubles == []
    assert pictures[1].form.note.startswith("the first of 2 pictures in the file; the others are not written back")


def test_channels_that_are_no_colours(folder):
    five = np.stack([GREY] * 5, axis=2)
    tifffile.imwrite(folder / "x.tif", five, photometric="minisblack", planarconfig="contig", metadata=None)
    assert why(folder, "x.tif").startswith("has 5 channels, none of them marked as alpha; save it as grey or RGB")
    tifffile.imwrite(folder / "x.tif", five[..., :4], photometric="rgb", extrasamples=["unspecified"], metadata=None)
    assert why(folder, "x.tif").startswith("has 4 channels, none of them marked")
    (folder / "x.tif").unlink()
    for shape, said in (
        ([3, 12, 16], "channels last"),
        ([12, 16, 2], "[H, W]"),
        ([12], "[H, W]"),
        ([0, 5], "no pixel"),
    ):
        np.save(folder / "x.npy", np.zeros(shape))
        assert said in why(folder, "x.npy")
    for values, said in (
        (np.zeros((9, 9), complex), "complex128"),
        (np.array([["a"]]), "make no picture"),
        (np.full((9, 9), 2**24 + 2), "float32 does not hold"),
        (np.full((9, 9), 1e300), "float32 does not hold"),
        (np.full((9, 9), np.nan), "no pixel that was seen"),
        (np.full((9, 9, 4), 255), "alpha channel of int64"),
        (np.full((9, 9, 4), 255.0), "alpha channel beyond 0 to 1"),
    ):
        np.save(folder / "x.npy", values)
        assert said in why(folder, "x.npy")


def test_pickles_are_not_opened(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code of a file was run",))

    np.save(folder / "x.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    assert why(folder, "x.npy").startswith("holds numbers of type object, which make no picture")


def test_an_npz_has_one_array(folder):
    np.savez(folder / "x.npz", a=GREY, b=GREY)
    assert why(folder, "x.npz") == "holds 2 arrays (a.npy, b.npy); save one array a file"


def test_a_name_that_is_not_what_it_holds(folder):
    (folder / "x.jpg").write_bytes(content("PNG"))
    assert why(folder, "x.jpg") == "ends in .jpg but holds PNG; rename it to what it is"
    (folder / "x.jpg").write_bytes(b"%PDF-1.4 and so on")
    assert why(folder, "x.jpg").startswith("holds no picture")


def test_what_is_packed_in_a_way_that_nothing_unpacks(folder):
    tifffile.imwrite(folder / "x.tif", np.dstack([GREY] * 3).astype(np.uint16), photometric="rgb", metadata=None)
    raw = bytearray((folder / "x.tif").read_bytes())
    with tifffile.TiffFile(folder / "x.tif") as file:
        at = file.pages[0].tags["Compression"].valueoffset
    raw[at : at + 2] = struct.pack("<H", 34712)  # JPEG 2000
    (folder / "x.tif").write_bytes(raw)
    said = why(folder, "x.tif")
    if importlib.util.find_spec("imagecodecs") is None:
        assert said.startswith("is packed by JPEG2000, which is not unpacked here in 16 bits and 3 channels; save it")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_right_to_read(folder):
    (folder / "x.png").write_bytes(content("PNG"))
    (folder / "x.png").chmod(0)
    (folder / "shut").mkdir(mode=0)
    _, troubles = read_folder(folder)
    assert [trouble.name for trouble in troubles] == ["shut", "x.png"]
    assert all("Permission denied" in trouble.why for trouble in troubles)


def test_a_refusal_of_the_system_becomes_a_sentence(folder, monkeypatch):
    from emlib.data import reading

    def shut(path):
        if path.name != "good.png":
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(reading, "check_regular", shut)
    (folder / "x.png").write_bytes(content("PNG"))
    assert why(folder, "x.png") == "cannot be opened (Permission denied); allow reading it, or move it away"


def test_links_pipes_and_names(folder):
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    assert why(folder, "broken.png").startswith("cannot be opened (No such file")
    (folder / "broken.png").unlink()
    os.mkfifo(folder / "pipe.png")
    assert "no regular file" in why(folder, "pipe.png")
    (folder / "pipe.png").unlink()
    (folder / "round").symlink_to(folder)
    assert why(folder, "round").startswith("is a link to a folder, which is not followed")
    (folder / "round").unlink()
    try:
        (folder / os.fsdecode(b"\xff.png")).write_bytes(content("PNG"))
    except OSError:
        pytest.skip("this file system holds UTF-8 alone")
    assert why(folder, "\ufffd.png") == "has a name that is not UTF-8; rename it"


def test_names_of_all_kinds_in_order(folder):
    names = ["Z.png", "a b.png", "a/x.png", "b/x.png", "good.png", "ä ö.png", "<script>alert(1)<b>.png", "日本.png"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(GREY).save(folder / name)
    (folder / ".hidden.png").write_bytes(b"no")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.png").write_bytes(b"no")
    for name in ("README.md", "table.csv"):
        (folder / name).write_text("words")
    pictures, troubles = read_folder(folder)
    assert troubles == []
    assert [picture.name for picture in pictures] == sorted(names)
    assert list_pictures(folder).ignored == 2
    for picture in pictures:
        target = write_picture(folder.parent / "out", picture, picture.pixels)
        assert target == folder.parent / "out" / picture.name
        with Image.open(target) as image:
            assert np.array_equal(np.asarray(image), GREY)


def test_what_looks_like_a_picture_is_named(folder):
    for suffix in (".heic", ".fits", ".CR2", ".svg"):
        (folder / f"x{suffix}").write_bytes(b"whatever")
    _, troubles = read_folder(folder)
    assert [trouble.name for trouble in troubles] == ["x.CR2", "x.fits", "x.heic", "x.svg"]
    assert all("is not read" in trouble.why and "save it as TIFF, PNG or NPY" in trouble.why for trouble in troubles)


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder or file at .*nowhere; check the path"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no picture that is read, and 0 other files; read are PNG, JPEG, TIFF"):
        read_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ValueError, match="and 1 other files; read are"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match=r"notes\.txt holds no picture"):
        read_folder(tmp_path / "notes.txt")
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"the first of 1 left out: x\.png holds no picture"):
        read_folder(tmp_path)


def test_masks_that_do_not_fit(folder):
    masks = folder.parent / "masks"
    with pytest.raises(FileNotFoundError, match="masks"):
        read_folder(folder, masks=masks)
    masks.mkdir()
    Image.fromarray(GREY).save(masks / "good.png")
    Image.fromarray(GREY).save(folder / "x.png")
    assert why(folder, "x.png", masks=masks).startswith("has no mask; add x.png, or another suffix, to the folder")
    Image.fromarray(GREY[:5]).save(masks / "x.tif")
    said = "has 16 x 12 pixels and its mask x.tif 16 x 5; make them the same size"
    assert why(folder, "x.png", masks=masks) == said
    np.save(masks / "x.npy", GREY)
    assert why(folder, "x.png", masks=masks) == "has several masks, x.npy and x.tif; leave one of them"
    (masks / "x.npy").unlink()
    (masks / "x.tif").write_bytes(b"broken")
    assert why(folder, "x.png", masks=masks).startswith("has a mask, x.tif, that is cut short")
    Image.fromarray(0 * GREY).save(masks / "x.tif")
    assert why(folder, "x.png", masks=masks).startswith("has no pixel that was seen; check its mask")
    with pytest.raises(ValueError, match="lie in the same folder"):
        read_folder(folder, masks=folder)
    with pytest.raises(ValueError, match="is one mask, and .* a folder"):
        read_folder(folder, masks=masks / "good.png")


def test_a_value_that_cannot_be(folder):
    np.save(folder / "x.npy", GREY.astype(np.float32))
    pictures, (trouble,) = read_folder(folder, missing=-1)
    assert [picture.name for picture in pictures] == ["x.npy"]
    assert trouble.why == "holds uint8, which is never -1; give a whole number of 0 to 255"


def test_nothing_is_written_among_the_originals(folder):
    (folder / "sub").mkdir()
    Image.fromarray(GREY).save(folder / "sub" / "x.png")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    Image.fromarray(GREY).save(elsewhere / "kept.png")
    (folder / "link.png").symlink_to(elsewhere / "kept.png")
    (folder.parent / "alias").symlink_to(folder)
    pictures, troubles = read_folder(folder)
    assert troubles == []
    before = {path: path.read_bytes() for path in folder.parent.rglob("*.png")}
    for picture in pictures:
        for out in (folder, folder / "sub", folder / "new", folder.parent / "alias", folder / "sub" / ".."):
            with pytest.raises(ValueError, match="lies among the broken pictures in .*; name another folder"):
                write_picture(out, picture, picture.pixels)
    linked = next(picture for picture in pictures if picture.name == "link.png")
    with pytest.raises(ValueError, match="lies beside the broken"):
        write_picture(elsewhere, linked, linked.pixels)
    out = folder.parent / "out"
    out.mkdir()
    (out / "sub").symlink_to(folder / "sub")
    with pytest.raises(ValueError, match="leads out of .* through a link"):
        write_picture(out, pictures[-1], pictures[-1].pixels)
    good = next(picture for picture in pictures if picture.name == "good.png")
    (out / "good.png").symlink_to(folder / "good.png")
    (out / "good.png.part").symlink_to(folder / "good.png")
    assert not write_picture(out, good, 0 * good.pixels).is_symlink()
    assert {path: path.read_bytes() for path in before} == before
    assert not (folder / "new").exists()


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/x.png", ""])
def test_a_name_leads_nowhere_else(name, folder):
    form = Form(".png", "uint8", False, False, 255)
    pixels = np.zeros((1, 4, 4), np.float32)
    picture = Picture(name, folder / "x.png", pixels, np.ones((1, 4, 4), bool), form, root=folder)
    with pytest.raises(ValueError, match="leads out of"):
        write_picture(folder.parent / "out", picture, pixels)
    assert not (folder.parent / "x.png").exists()


def test_a_single_file_goes_to_a_folder_beside_it(folder):
    (picture,), _ = read_folder(folder / "good.png")
    assert picture.name == "good.png"
    with pytest.raises(ValueError, match="lies among the broken pictures"):
        write_picture(folder, picture, picture.pixels)
    assert write_picture(folder / "restored", picture, picture.pixels).is_file()


def test_another_shape_is_refused(folder):
    (picture,), _ = read_folder(folder)
    with pytest.raises(ValueError, match=r"good\.png has shape \[1, 12, 16\], and \[1, 3, 16\] was to be written"):
        write_picture(folder.parent / "out", picture, picture.pixels[:, :3])

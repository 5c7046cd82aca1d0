"""Folders of clean pictures as people have them: deep, sideways, linked, hidden, with gaps, or no pictures at all."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import emlib
from emlib.data import decode
from emlib.data.files import LARGEST
from emlib.data.png16 import write_png16


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("EMLIB_DATASETS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "album").mkdir()
    return tmp_path / "album"


def everything(folder: Path, size: int = 8, channels: int = 1) -> torch.Tensor:
    split = emlib.load(str(folder), size=size, channels=channels)
    return torch.cat([split.clean, split.corrupted, split.held_out])


def good(folder: Path, count: int = 12) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(folder / f"{i:02d}.png")


def deep(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        write_png16(file, values)


@pytest.mark.parametrize("step", [2114, 100])  # the whole range, and a camera's 12 bits
@pytest.mark.parametrize("colours", [1, 3])
def test_sixteen_bits_keep_their_levels(folder, step, colours):
    for i in range(32):
        deep(folder / f"{i:02d}.png", np.full((9, 9, colours), i * step, np.uint16))
    for channels in (1, 3):
        levels = everything(folder, channels=channels).unique()
        wanted = torch.arange(32) * step / 32767.5 - 1
        torch.testing.assert_close(levels, wanted, atol=2e-5, rtol=0)


def test_sixteen_bits_are_scaled_down_as_eight_are(folder):
    values = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    for i in range(10):
        deep(folder / f"{i}.png", values.astype(np.uint16) * 257)
    from_deep = everything(folder, 16, 3)
    for i in range(10):
        Image.fromarray(values).save(folder / f"{i}.png")
    assert (from_deep - everything(folder, 16, 3)).abs().max() < 1.5 / 127.5  # 8 bits are rounded twice


def test_a_deep_picture_among_others_leaves_them_as_they_were(folder):
    good(folder)
    before = everything(folder).flatten(1)[:, 0].sort().values
    deep(folder / "deep.png", np.full((8, 8, 1), 30_000, np.uint16))
    after = everything(folder).flatten(1)[:, 0].sort().values
    wanted = torch.cat([before, torch.tensor([30_000 / 32767.5 - 1])]).sort().values
    torch.testing.assert_close(after, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_pictures_are_turned_upright(folder, suffix):
    """As a phone held upright writes them: the sensor's rows run from bottom to top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((16, 16), np.uint8)
    stored[:, :8] = 255  # what the sensor calls left is the top
    for i in range(10):
        Image.fromarray(stored).convert("RGB").save(folder / f"{i}{suffix}", exif=exif, quality=95)
    x = everything(folder)
    assert (x[:, :, :3] > 0.9).all()
    assert (x[:, :, 5:] < -0.9).all()


def test_what_was_decoded_by_an_older_reader_is_decoded_anew(folder, monkeypatch):
    good(folder)
    monkeypatch.setattr(decode, "READER", 1)
    everything(folder)
    monkeypatch.undo()
    monkeypatch.setenv("EMLIB_DATASETS", os.fspath(folder.parent / "cache"))
    seen, plain = [], decode.clean_picture
    monkeypatch.setattr(decode, "clean_picture", lambda path, *sizes: (seen.append(path), plain(path, *sizes))[1])
    everything(folder)
    assert len(seen) == 12


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "key", "deep"])
def test_hidden_colours_are_no_picture(folder, kind):
    """What lies under a transparent pixel is whatever the program left there."""
    good(folder)
    x = np.full((9, 9, 4), 200, np.uint8)
    x[2, 3] = (13, 14, 15, 0)
    path = folder / "x.png"
    if kind == "deep":
        deep(path, x.astype(np.uint16) * 257)
    elif kind == "key":
        Image.fromarray(x[..., 0]).save(path, transparency=13)
    else:
        image = Image.fromarray(x)
        (image.quantize() if kind == "palette" else image.convert(kind)).save(path)
    with pytest.raises(ValueError, match=r"x\.png has transparent pixels, so it is broken already"):
        everything(folder)


def test_links_to_folders_and_hidden_files_are_left_out_and_said_once(folder):
    good(folder)
    good(folder.parent / "elsewhere")
    (folder / "more").symlink_to(folder.parent / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "._00.png").write_bytes(b"\x00\x05\x16\x07 what macOS notes beside a file")
    (folder / "scan.tif").write_bytes(b"whatever")
    with pytest.warns(UserWarning, match="are left out") as warned:
        assert len(everything(folder)) == 12
    (said,) = [str(w.message) for w in warned]
    assert said.startswith(f"of {folder} are left out: more, which is a link to a folder, which is not followed; copy")
    assert "(2 more)" in said
    assert said.endswith("the hidden file ._00.png")


def test_a_folder_with_nothing_but_a_link_says_so(folder):
    good(folder.parent / "elsewhere")
    (folder / "more").symlink_to(folder.parent / "elsewhere")
    with (
        pytest.warns(UserWarning, match="more, which is a link to a folder"),
        pytest.raises(FileNotFoundError, match="no PNG, JPEG or WebP pictures in .*album"),
    ):
        everything(folder)


def test_links_to_files_and_odd_names_are_read(folder):
    good(folder)
    good(folder.parent / "elsewhere", 1)
    (folder / "link.png").symlink_to(folder.parent / "elsewhere" / "00.png")
    for name in ("a b.png", "日本.png", "%s{}.png", "x;rm.png", "n" * 240 + ".png"):
        (folder / "00.png").rename(folder / name)
        good(folder, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(everything(folder)) == 12 + 1 + 5


@pytest.mark.parametrize("what", ["pipe", "dangling", "round", "empty", "cut", "text", "moving", "huge"])
def test_what_is_no_picture_is_named_at_once(folder, what):
    good(folder)
    bad = folder / "bad.png"
    if what == "pipe":
        os.mkfifo(bad)  # whoever opens it waits for ever
    elif what == "dangling":
        bad.symlink_to(folder / "nowhere.png")
    elif what == "round":
        bad.symlink_to(bad)
    elif what == "moving":
        frames = [Image.fromarray(np.full((8, 8), i, np.uint8)) for i in (0, 99)]
        frames[0].save(bad, save_all=True, append_images=frames[1:])
    elif what == "huge":
        Image.new("1", (LARGEST // 4000 + 1, 4000)).save(bad)
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(bad)
        whole = bad.read_bytes()
        bad.write_bytes({"empty": b"", "cut": whole[:2000], "text": b"<html>not found</html>"}[what])
    said = {
        "pipe": "is cut short, damaged, or of another kind \\(it is no regular file\\); get it anew, or remove it",
        "dangling": "cannot be opened \\(No such file or directory\\)",
        "round": "cannot be opened \\(Too many levels of symbolic links\\)",
        "empty": "holds no picture",
        "cut": "is cut short",
        "text": "holds no picture",
        "moving": "holds 2 frames",
        "huge": "has 16001 x 4000 pixels, 64 megapixels, and at most 64 are read",
    }[what]
    with pytest.raises(ValueError, match=rf"bad\.png {said}"):
        everything(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "no note", "note cut", "note null", "other note"])
def test_a_damaged_cache_is_made_anew(folder, datasets, damage):
    good(folder)
    before = everything(folder)
    (kept,) = (datasets / "decoded").glob("*.npy")
    note = kept.with_suffix(".json")
    whole = note.read_text()
    if damage in ("cut", "empty"):
        kept.write_bytes(kept.read_bytes()[: 200 if damage == "cut" else 0])
    elif damage == "no note":
        note.unlink()
    elif damage == "other note":
        note.with_name("other.json").write_text("[1")
        note.unlink()
    else:
        note.write_text({"note cut": whole[:50], "note null": "null"}[damage])
    assert torch.equal(everything(folder), before)
    assert note.read_text() == whole
